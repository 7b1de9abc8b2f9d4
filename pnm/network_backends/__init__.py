"""Networks in inference as fast as this machine computes them, by torch or by another runtime; and as ONNX models."""
