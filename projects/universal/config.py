"""Config keys of the universal refiner."""

from detectron2.config import CfgNode


def add_universal_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.UNIVERSAL``."""
    node = cfg.MODEL.UNIVERSAL = CfgNode()
    # What is refined: "instance", "semantic" or "panoptic".
    node.TASK = "instance"
    # Name in pnm/object_refinement/network.py: universal_small (0.87 M parameters) or universal (1.7 M).
    node.NETWORK = "universal_small"
    # Side of windows in training, as the network sees them, in pixels; a multiple of 32.
    node.WINDOW_SIZE = 160
    # Weight of pixels whose coarse label is wrong; the probabilities that are learned don't depend on it.
    node.ERROR_WEIGHT = 1.0
    # Mixed precision in training, on CPUs, too (SOLVER.AMP is for GPUs).
    node.BFLOAT16 = True
    # Windows drawn from each training image, each with a coarse mask of its own.
    node.WINDOWS_PER_IMAGE = 5
    # How ground truth is made coarse where there are no DATASETS.PREDICTIONS_TRAIN: in "all" ways that models and
    # people have, or by "shifts" of the contour alone, which a network has to begin with: it learns to see edges from
    # them within minutes, and from all errors together not for hours.
    node.ERRORS = "all"
    # Size of the smallest errors, as a share of the square root of the object's area; the largest are 0.08.
    node.LEAST_ERROR = 0.006
    # Share of masks that stay as they are.
    node.UNCHANGED = 0.25
    # Share of true masks that are changed first, so that they end in part where no edge is, as annotations do: of
    # several objects as one, of parts, with what hides them.
    node.EDGELESS = 0.0
    # Inference on CPUs: "float32", "bfloat16", or "auto", bfloat16 where the processor computes in it.
    node.PRECISION_TEST = "auto"
    # What a loaded refiner runs on, on CPUs: "torch", "openvino" or "onnxruntime" (extras openvino and onnx), which two
    # compute in float32.
    node.BACKEND = "torch"
    # Predictions that overlap the ground truth of their class by no more than this IoU are not learned from.
    node.MATCH_IOU = 0.5
