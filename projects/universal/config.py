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
    # Mixed precision in training, on CPUs, too (SOLVER.AMP is for GPUs).
    node.BFLOAT16 = True
    # Windows drawn from each training image, each with a coarse mask of its own.
    node.WINDOWS_PER_IMAGE = 5
    # Share of masks that stay as they are where ground truth is made coarse (no DATASETS.PREDICTIONS_TRAIN).
    node.UNCHANGED = 0.25
    # Predictions that overlap the ground truth of their class by no more than this IoU are not learned from.
    node.MATCH_IOU = 0.5
    # How much is changed, from 0 (nothing) to 1 (each pixel gets its likelier label).
    node.STRENGTH = 0.5
