"""Which backends there are, and whether all that one needs is installed; without torch, which takes seconds."""

from importlib.util import find_spec

from pnm.errors import UserError

BACKENDS = ("torch", "openvino", "onnxruntime")

_PACKAGES = {
    "torch": (),
    "openvino": ("openvino", "onnx", "onnxscript"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
}
_EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}


def check_backend(backend: str, key: str = "backend", device: str = "cpu") -> None:
    """A UserError unless there is such a backend, all that it needs is installed, and it runs on the device.

    Args:
        key: what the user calls it.
        device: of torch.
    """
    if backend not in BACKENDS:
        raise UserError(f"{key} is {backend!r}, expected one of {', '.join(BACKENDS)}")
    if backend != "torch" and device.partition(":")[0] != "cpu":
        raise UserError(f"{key} {backend} runs on the CPU, not on {device}: take the device cpu, or the backend torch")
    missing = [package for package in _PACKAGES[backend] if find_spec(package) is None]
    if missing:
        raise UserError(
            f"{key} {backend} needs {', '.join(missing)}: install the extra, pip install "
            f'"pnm[{_EXTRAS[backend]}]", or take the backend torch'
        )
