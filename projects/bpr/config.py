"""Config keys of boundary patch refinement."""

from dataclasses import dataclass

from detectron2.config import CfgNode

from pnm.boundary_patches.extraction import check_patch_settings
from pnm.errors import UserError
from pnm.network_backends.choice import check_backend
from pnm.network_backends.precision import is_bfloat16

from ..refining import TASKS, cpu_precision

ARCHITECTURE = "BoundaryPatchRefiner"
# On CPUs convolutions of fewer patches are computed in another way, with other last digits: calls are filled up to a
# multiple of this, so that results don't depend on how many patches go through a network at once.
WHOLE_CALL = 16


def add_bpr_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.BPR``; the coarse predictions are named in ``DATASETS.PREDICTIONS_TRAIN`` and ``_TEST``."""
    node = cfg.MODEL.BPR = CfgNode()
    # What is refined: "instance", "semantic" or "panoptic".
    node.TASK = "instance"
    # Name in projects/bpr/networks.py: fcn_hrnet_w18s, fcn_hrnet_w18, fcn_hrnet_w48, fcn_resnet18, fcn_resnet50,
    # deeplabv3plus_resnet50, fast_scnn (Table 6), fcn_mobilenetv3 (light), patch_unet (small, from scratch), or
    # universal_small and universal, for which there are weights, pnm://universal-small.
    node.NETWORK = "fcn_hrnet_w18s"
    # Backbone pretrained on ImageNet, downloaded; not read when MODEL.WEIGHTS names a file, nor for fast_scnn and
    # patch_unet, which train from scratch.
    node.PRETRAINED = True
    # "BN", or "SyncBN" for statistics over all processes.
    node.NORM = "BN"
    # Weight of the loss of each auxiliary head, in training only; 0 = no such heads. One is on the third stage of
    # fcn_resnet18, fcn_resnet50 and deeplabv3plus_resnet50, two are in fast_scnn; 0.4 is usual. BPR's paper tells
    # of none.
    node.AUX_LOSS_WEIGHT = 0.0
    # Side of a patch, and of the context around it that the network sees but doesn't decide, in pixels of the image.
    node.PATCH_SIZE = 64
    node.PADDING = 0
    # Side that a patch with its context is resized to, px.
    node.INPUT_SIZE = 128
    # IoU above which a patch is suppressed by a better one; the larger, the more patches.
    node.NMS_THRESHOLD_TRAIN = 0.25
    node.NMS_THRESHOLD_TEST = 0.55
    # Order of equally good patches in that: "reading", as the paper's code has it, or "scattered", fewer patches.
    node.TIES = "scattered"
    # Patches drawn from each training image.
    node.PATCHES_PER_IMAGE = 16
    # Coarse masks that overlap the ground truth of their class by no more than this IoU are not learned from.
    node.MATCH_IOU = 0.5
    # Patches that go through the network at once; bounds the memory of inference.
    node.MAX_PATCHES_PER_BATCH = 128
    # Mixed precision in inference on all devices (training: SOLVER.AMP.ENABLED); PRECISION_TEST float32 is then refused
    # on CPUs.
    node.AMP_TEST = False
    # Inference on CPUs: "float32", "bfloat16", or "auto", bfloat16 where the processor computes in it.
    node.PRECISION_TEST = "auto"
    # What a loaded refiner runs on, on CPUs: "torch", "openvino" or "onnxruntime" (extras openvino and onnx).
    node.BACKEND = "torch"
    # Memory format of the network, the faster one on CPUs; results differ by rounding.
    node.CHANNELS_LAST = True
    # A cascade in inference: a network, one of the above, that sees all patches first, so that NETWORK sees only those
    # of which it is not sure; "" = none.
    node.LIGHT_NETWORK = ""
    # Its weights, a file or an address, trained on patches of the same sizes and normalization.
    node.LIGHT_WEIGHTS = ""
    # It is sure of a patch if all but 5 % of the pixels have a label that is more probable than this by its own
    # probabilities: 0 = always, no patch goes through NETWORK; 1 = never, all do.
    node.LIGHT_SURE = 0.8


@dataclass(frozen=True)
class PatchSettings:
    """How patches are taken from an image; sizes in pixels."""

    task: str
    size: int = 64
    padding: int = 0
    input_size: int = 128
    threshold: float = 0.25
    ties: str = "reading"

    def __post_init__(self):
        if self.task not in TASKS:
            raise UserError(f"MODEL.BPR.TASK is {self.task!r}, expected one of {', '.join(TASKS)}")
        check_patch_settings(self.size, self.threshold, self.padding, self.ties)
        if not 32 <= self.input_size <= 1024 or self.input_size % 32:
            raise UserError(f"MODEL.BPR.INPUT_SIZE is {self.input_size}, expected a multiple of 32, at most 1024")

    @property
    def side(self) -> int:
        """Side of what the network sees, in pixels of the image."""
        return self.size + 2 * self.padding

    @property
    def is_partition(self) -> bool:
        """Whether every pixel belongs to one segment only."""
        return self.task != "instance"

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "PatchSettings":
        node = cfg.MODEL.BPR
        threshold = node.NMS_THRESHOLD_TRAIN if is_train else node.NMS_THRESHOLD_TEST
        return cls(node.TASK, node.PATCH_SIZE, node.PADDING, node.INPUT_SIZE, threshold, node.TIES)


@dataclass(frozen=True)
class InferenceSettings:
    """How networks are run in inference.

    Attributes:
        max_patches_per_batch: that go through a network at once.
        channels_last: their memory format, in training, too.
        amp: mixed precision.
        precision: on the CPU, see :func:`pnm.network_backends.precision.is_bfloat16`.
        backend: on the CPU, see :func:`pnm.network_backends.backends.compiled`.
    """

    max_patches_per_batch: int = 128
    channels_last: bool = True
    amp: bool = False
    precision: str = "float32"
    backend: str = "torch"

    def __post_init__(self):
        if self.max_patches_per_batch < WHOLE_CALL:
            raise UserError(
                f"MODEL.BPR.MAX_PATCHES_PER_BATCH is {self.max_patches_per_batch}, expected at least {WHOLE_CALL}"
            )
        check_backend(self.backend, "MODEL.BPR.BACKEND")
        is_bfloat16(self.precision, "MODEL.BPR.PRECISION_TEST")

    def is_reduced(self, device_type: str) -> bool:
        """Whether networks compute in half of the bits on such a device."""
        return self.amp or device_type == "cpu" and is_bfloat16(self.precision)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "InferenceSettings":
        node = cfg.MODEL.BPR
        precision = cpu_precision(cfg, "BPR")
        return cls(node.MAX_PATCHES_PER_BATCH, node.CHANNELS_LAST, node.AMP_TEST, precision, node.BACKEND)


@dataclass(frozen=True)
class LightSettings:
    """The light network of a cascade; without a name there is none."""

    network: str = ""
    weights: str = ""
    sure: float = 1.0

    def __post_init__(self):
        if not 0 <= self.sure <= 1:
            raise UserError(
                f"MODEL.BPR.LIGHT_SURE is {self.sure}, expected a probability: 0 (always sure) to 1 (never)"
            )
        if bool(self.network) != bool(self.weights):
            given, missing = ("NETWORK", "WEIGHTS") if self.network else ("WEIGHTS", "NETWORK")
            what = "file.pth or pnm://NAME" if self.network else "NAME, the network that they are of"
            raise UserError(
                f"MODEL.BPR.LIGHT_{given} is {self.network or self.weights}, and MODEL.BPR.LIGHT_{missing} is empty: "
                f"add MODEL.BPR.LIGHT_{missing} {what}, or leave both away"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "LightSettings":
        node = cfg.MODEL.BPR
        return cls(node.LIGHT_NETWORK, node.LIGHT_WEIGHTS, node.LIGHT_SURE)


def check_bpr_config(cfg: CfgNode) -> None:
    """A UserError if a BPR model is given half of a cascade."""
    if cfg.MODEL.META_ARCHITECTURE == ARCHITECTURE:
        LightSettings.from_config(cfg)
