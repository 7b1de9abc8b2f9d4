"""Config keys of SegFix."""

from dataclasses import dataclass

from detectron2.config import CfgNode

from pnm.errors import UserError
from pnm.interior_offsets.directions import check_bins
from pnm.interior_offsets.shifting import check_steps
from pnm.interior_offsets.targets import check_target_settings

from ..refining import TASKS

ARCHITECTURE = "SegFix"


def add_segfix_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.SEGFIX``; the predictions to refine are named in ``DATASETS.PREDICTIONS_TEST``."""
    node = cfg.MODEL.SEGFIX = CfgNode()
    # What is learned from and what is refined: "instance", "semantic" or "panoptic". A model that was trained on one
    # refines the others, too.
    node.TASK = "semantic"
    # Name in projects/segfix/networks.py: hrnet_w18, hrnet_w32, hrnet_w48 (stride 4), the same with _stride2 ("Higher-
    # HRNet"), resnet18_fpn, resnet50_fpn (light) or small_unet (from scratch).
    node.NETWORK = "hrnet_w48"
    # Backbone pretrained on ImageNet, downloaded; not read when MODEL.WEIGHTS names a file.
    node.PRETRAINED = True
    # "BN", or "SyncBN" for statistics over all processes.
    node.NORM = "BN"
    # Width of both heads.
    node.HEAD_CHANNELS = 256
    # Width of the boundary on each side of an edge, px; the paper's gamma.
    node.BOUNDARY_WIDTH = 5
    # m, the number of directions; a multiple of 8.
    node.BINS = 8
    # Direction of the ground truth: "gradient" of the distance map, or "nearest", away from the nearest other label.
    node.DIRECTION = "gradient"
    # Side of the gradient's kernel, px, odd; 9 in the paper, 5 in its public code.
    node.KERNEL_SIZE = 5
    node.BOUNDARY_LOSS_WEIGHT = 1.0
    node.DIRECTION_LOSS_WEIGHT = 1.0
    # Probability from which a pixel is boundary.
    node.BOUNDARY_THRESHOLD = 0.5
    # How a boundary pixel finds the label that it takes: at most STEPS steps of SCALE px along the directions, until it
    # is in the interior. The paper's are one step of 2 px for semantic maps, and of 1 px for instances.
    node.STEPS = 8
    node.SCALE = 1.0
    # Mixed precision in inference on all devices (training: SOLVER.AMP.ENABLED); PRECISION_TEST float32 is then refused
    # on CPUs.
    node.AMP_TEST = False
    # Inference on CPUs: "float32", "bfloat16", or "auto", bfloat16 where the processor computes in it.
    node.PRECISION_TEST = "auto"


@dataclass(frozen=True)
class OffsetSettings:
    """What is learned, and how it is used; see the keys."""

    task: str
    width_px: int = 5
    bins: int = 8
    direction: str = "gradient"
    kernel_px: int = 5
    threshold: float = 0.5
    steps: int = 8
    scale: float = 1.0

    def __post_init__(self):
        if self.task not in TASKS:
            raise UserError(f"MODEL.SEGFIX.TASK is {self.task!r}, expected one of {', '.join(TASKS)}")
        check_bins(self.bins)
        check_target_settings(self.width_px, self.direction, self.kernel_px)
        if not 0 < self.threshold < 1:
            raise UserError(f"MODEL.SEGFIX.BOUNDARY_THRESHOLD is {self.threshold}, expected a number between 0 and 1")
        check_steps(self.steps, self.scale)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "OffsetSettings":
        node = cfg.MODEL.SEGFIX
        return cls(
            node.TASK,
            node.BOUNDARY_WIDTH,
            node.BINS,
            node.DIRECTION,
            node.KERNEL_SIZE,
            node.BOUNDARY_THRESHOLD,
            node.STEPS,
            node.SCALE,
        )


def check_segfix_config(cfg: CfgNode) -> None:
    """A UserError if a SegFix model is given what it doesn't take."""
    if cfg.MODEL.META_ARCHITECTURE != ARCHITECTURE:
        return
    OffsetSettings.from_config(cfg)
    if cfg.DATASETS.PREDICTIONS_TRAIN:
        raise UserError(
            "DATASETS.PREDICTIONS_TRAIN is set, but SegFix learns from images and ground truth alone: leave it away"
        )
