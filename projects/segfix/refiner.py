"""The meta-architecture of SegFix (Yuan et al., ECCV 2020)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage
from torch import nn

from pnm.errors import UserError
from pnm.interior_offsets.directions import NO_DIRECTION
from pnm.interior_offsets.field import CERTAIN, InteriorOffsets, interior_offsets
from pnm.interior_offsets.shifting import Shift, shifted_labels, shifted_mask
from pnm.interior_offsets.targets import IGNORED
from pnm.masks.crops import MaskCrop
from pnm.network_backends.onnx_models import Exportable
from pnm.network_backends.precision import is_bfloat16
from pnm.object_refinement.decision import decision_of
from pnm.object_refinement.refining import RefinedMask
from pnm.predictions.certain_changes import CertainLabels, mask_confidence

from ..refining import RefiningModel, cpu_precision
from .config import OffsetSettings
from .losses import rare_class_cross_entropy
from .networks import SIZE_DIVISIBILITY, OffsetLogits, OffsetNetwork, build_network
from .offset_store import OffsetStore, offset_source


class _AsTuple(nn.Module):
    """A network whose outputs have no names: exporters know no NamedTuple of ours."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.network(x))


@META_ARCH_REGISTRY.register()
class SegFix(RefiningModel):
    """Predicts of an image alone where boundaries are and which way the interior lies, and moves labels from there.

    In training, an input has what :class:`.mapper.OffsetMapper` gives; for inference see
    :class:`..refining.RefiningModel`.
    """

    dataset_mapper = "segfix_mapper"
    refines_any_task = True
    has_strength = True

    @configurable
    def __init__(
        self,
        network: OffsetNetwork,
        *,
        settings: OffsetSettings,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        num_classes: int = 0,
        boundary_loss_weight: float = 1.0,
        direction_loss_weight: float = 1.0,
        amp: bool = False,
        precision: str = "float32",
        strength: float = 1.0,
    ):
        """
        Args:
            network: see :func:`.networks.build_network`.
            pixel_mean, pixel_std: of the image's channels.
            num_classes: of the one-hot "sem_seg".
            amp: mixed precision in inference.
            precision: of inference on the CPU, see :func:`pnm.network_backends.precision.is_bfloat16`.
            strength: 0 changes nothing, 1 pixels whose probability of a boundary is over the settings' threshold; in
                between, those over a threshold that much nearer to 1.
        """
        super().__init__(task=settings.task, pixel_mean=pixel_mean, pixel_std=pixel_std, num_classes=num_classes)
        self.network, self.settings, self.amp = network, settings, amp
        self.in_bfloat16 = is_bfloat16(precision, "MODEL.SEGFIX.PRECISION_TEST") or amp
        decision_of(strength, "MODEL.REFINING_STRENGTH")
        self.strength = strength
        self.loss_weights = {"boundary": boundary_loss_weight, "direction": direction_loss_weight}

    @classmethod
    def task_of(cls, cfg: CfgNode) -> str:
        return cfg.MODEL.SEGFIX.TASK

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.SEGFIX
        network = build_network(
            node.NETWORK,
            node.BINS,
            pretrained=node.PRETRAINED and not cfg.MODEL.WEIGHTS,
            head_channels=node.HEAD_CHANNELS,
            norm=node.NORM,
        )
        return {
            "network": network,
            "settings": OffsetSettings.from_config(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "boundary_loss_weight": node.BOUNDARY_LOSS_WEIGHT,
            "direction_loss_weight": node.DIRECTION_LOSS_WEIGHT,
            "amp": node.AMP_TEST,
            "precision": cpu_precision(cfg, "SEGFIX"),
            "strength": cfg.MODEL.REFINING_STRENGTH,
        }

    def _batch(self, tensors: list[torch.Tensor], pad_value: float = 0.0) -> torch.Tensor:
        return ImageList.from_tensors(tensors, SIZE_DIVISIBILITY, pad_value).tensor

    def _logits(self, images: list[torch.Tensor], network: nn.Module) -> OffsetLogits:
        """Of (3, h, w) uint8 images, at the size of the batch: as large as the largest, in multiples of 32."""
        x = self._batch([(image.to(self.device).float() - self.pixel_mean) / self.pixel_std for image in images])
        logits = network(x)
        return OffsetLogits(*(F.interpolate(part.float(), x.shape[-2:], mode="bilinear") for part in logits))

    def losses(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        logits = self._logits([x["image"] for x in batched_inputs], self.network)
        boundary, directions = (
            self._batch([x[name].to(self.device) for x in batched_inputs], ignored).long()
            for name, ignored in (("boundary", IGNORED), ("directions", NO_DIRECTION))
        )
        self._log_accuracy(logits, boundary, directions)
        losses = {
            "boundary": rare_class_cross_entropy(logits.boundary, boundary, IGNORED),
            "direction": rare_class_cross_entropy(logits.direction, directions, NO_DIRECTION),
        }
        return {f"loss_segfix_{name}": loss * self.loss_weights[name] for name, loss in losses.items()}

    @staticmethod
    @torch.no_grad()
    def _log_accuracy(logits: OffsetLogits, boundary: torch.Tensor, directions: torch.Tensor) -> None:
        """Share of the boundary that is found, of what is found that is boundary, and of directions that are right."""
        found, true = (logits.boundary.argmax(1) == 1) & (boundary != IGNORED), boundary == 1
        both, known = (found & true).sum(), directions != NO_DIRECTION
        right = ((logits.direction.argmax(1) == directions) & known).sum()
        storage = get_event_storage()
        storage.put_scalar("segfix/boundary_recall", both / true.sum().clamp(min=1))
        storage.put_scalar("segfix/boundary_precision", both / found.sum().clamp(min=1))
        storage.put_scalar("segfix/direction_accuracy", right / known.sum().clamp(min=1))

    def offsets(self, image: torch.Tensor) -> InteriorOffsets:
        """Boundaries of an image (3, H, W) uint8 and the way to the interior."""
        height, width = image.shape[1:]
        with self.inference_network(self.amp) as network:
            logits = self._logits([image], network)
        probs = logits.boundary[0].softmax(0)[1, :height, :width]
        directions = logits.direction[0].argmax(0)[:height, :width]
        return interior_offsets(probs.cpu().numpy(), directions.cpu().numpy(), self.settings.bins)

    def exportable(self) -> Exportable:
        own = self.settings
        description = {
            "refiner": "SegFix",
            "inputs": {
                "image": {
                    "is": "the whole image, padded with 0 at its right and bottom after normalization",
                    "channels": ["color 1", "color 2", "color 3"],
                    "normalization": self.normalization(),
                }
            },
            "outputs": {
                "boundary": "logits of interior and boundary, smaller than the input: resized bilinearly (no aligned "
                f"corners); softmax; boundary from {own.threshold}",
                "direction": f"logits of {own.bins} directions, alike: bin k points to the interior at the "
                f"angle -180 + {360 / own.bins:g} k degrees, y down: 0 is left",
            },
            "steps": own.steps,
            "scale_px": own.scale,
        }
        side = 2 * SIZE_DIVISIBILITY
        inputs = {"image": torch.zeros(2, 3, side, 2 * side)}
        outputs = ("boundary", "direction")
        return Exportable(_AsTuple(self.network.eval().cpu()), inputs, outputs, SIZE_DIVISIBILITY, {}, description)

    def shift(self, offsets: InteriorOffsets) -> Shift:
        """Which pixels of an image with these offsets take whose label."""
        own = self.settings
        shift = offsets.shift(own.threshold, scale=own.scale, steps=own.steps)
        if self.strength == 1:
            return shift
        # Where a pixel looks depends on all boundaries; which of them move, on how probable these are.
        least = (1 - self.strength * (1 - own.threshold)) * CERTAIN
        moves = offsets.boundary.reshape(-1)[shift.pixels] > least
        return shift._replace(pixels=shift.pixels[moves], sources=shift.sources[moves])

    def image_store(self, cfg: CfgNode, folder: Path, weights: str) -> OffsetStore:
        if self.strength != 1:
            raise UserError(
                f"MODEL.REFINING_STRENGTH is {self.strength}: stored offsets are used whole, leave it at 1.0"
            )
        return OffsetStore(self, folder, offset_source(cfg, weights))

    def refine_objects(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[MaskCrop]:
        return [one.crop for one in self.object_confidences(image, crops)]

    def object_confidences(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[RefinedMask]:
        """See :func:`pnm.interior_offsets.shifting.shifted_mask`."""
        offsets = self.offsets(image)
        shift, probs = self.shift(offsets), offsets.probs
        pairs = ((crop, shifted_mask(crop, shift)) for crop in crops)
        return [RefinedMask(after, *mask_confidence(before, after, probs)) for before, after in pairs]

    def refine_partition(self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]) -> np.ndarray:
        return self.partition_certainties(image, labels, segments).refined  # type: ignore[return-value]

    def partition_certainties(self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]) -> CertainLabels:
        """See :func:`pnm.interior_offsets.shifting.shifted_labels`."""
        offsets = self.offsets(image)
        return CertainLabels(shifted_labels(labels, self.shift(offsets), segments), offsets.probs)
