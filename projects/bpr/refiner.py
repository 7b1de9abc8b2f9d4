"""The meta-architecture of boundary patch refinement (BPR: Hu et al., IJCV 2022)."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage
from torch import nn

from pnm.boundary_patches.reassembly import reassembled, reassembled_partition
from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, crop_segments
from pnm.network_backends.backends import Compiled, compiled
from pnm.network_backends.choice import check_backend
from pnm.network_backends.onnx_models import Exportable
from pnm.network_backends.precision import is_bfloat16
from pnm.object_refinement.decision import decision_of
from pnm.object_refinement.refining import RefinedMask
from pnm.predictions.certain_changes import CertainLabels

from ..refining import RefiningModel
from ..refining.mapper import IGNORED
from .config import PatchSettings
from .networks import LayeredNetwork, build_auxiliary_heads, build_network, check_auxiliary
from .patches import Patches, cut_image, patches_of

# On CPUs convolutions of fewer patches are computed in another way, with other last digits: calls are filled up to a
# multiple of this, so that results don't depend on how many patches go through the network at once.
_WHOLE_CALL = 16
_PATCHES_HELD = 2048  # from which on they go through the network, so that large images take no more memory

Foreground = tuple[np.ndarray, np.ndarray]  # corners (N, 2) of a mask's patches, and probabilities (N, size, size)


def _resize(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, 1, h, w) to (N, *size), bilinear."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0]


def _mean_loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of logits (N, H, W) and labels 0, 1 or ``IGNORED``: the mean over pixels that are counted,
    or a zero that can be differentiated if there are none."""
    counted = wanted != IGNORED
    loss = F.binary_cross_entropy_with_logits(logits, (wanted == 1).float(), counted.float(), reduction="sum")
    return loss / counted.sum().clamp(min=1)


@META_ARCH_REGISTRY.register()
class BoundaryPatchRefiner(RefiningModel):
    """Refines coarse masks of an image in small patches along their boundaries.

    In training, an input has the patches of :class:`.patch_mapper.BoundaryPatchMapper`; for inference see
    :class:`..refining.RefiningModel`.
    """

    dataset_mapper = "boundary_patch_mapper"
    backend_key = "MODEL.BPR.BACKEND"
    has_strength = True

    @configurable
    def __init__(
        self,
        network: nn.Module,
        *,
        aux_heads: nn.ModuleList | None = None,
        aux_loss_weight: float = 0.0,
        settings: PatchSettings,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        num_classes: int = 0,
        max_patches_per_batch: int = 128,
        channels_last: bool = True,
        amp: bool = False,
        precision: str = "float32",
        backend: str = "torch",
        strength: float = 1.0,
    ):
        """
        Args:
            network: see :func:`.networks.build_network`.
            aux_heads: on its inner features in training, see :func:`.networks.build_auxiliary_heads`.
            aux_loss_weight: of the loss of each of them.
            settings: of inference; patches in training come as the mapper cuts them.
            pixel_mean, pixel_std: of the image's channels.
            num_classes: of the one-hot "sem_seg".
            max_patches_per_batch: that go through the network at once in inference.
            amp: mixed precision in inference.
            precision: of inference on the CPU, see :func:`pnm.network_backends.precision.is_bfloat16`.
            backend: of inference on the CPU, see :meth:`prepare_inference`.
            strength: 0 changes nothing, see :func:`pnm.object_refinement.decision.decision_of`.
        """
        super().__init__(task=settings.task, pixel_mean=pixel_mean, pixel_std=pixel_std, num_classes=num_classes)
        if max_patches_per_batch < _WHOLE_CALL:
            raise UserError(
                f"MODEL.BPR.MAX_PATCHES_PER_BATCH is {max_patches_per_batch}, expected at least {_WHOLE_CALL}"
            )
        self.network, self.aux_heads = network, aux_heads
        if channels_last:
            self.to(memory_format=torch.channels_last)
        self.aux_loss_weight = aux_loss_weight
        self.settings = settings
        self.max_patches_per_batch, self.channels_last, self.amp = max_patches_per_batch, channels_last, amp
        check_backend(backend, "MODEL.BPR.BACKEND")
        self.in_bfloat16, self.backend = is_bfloat16(precision, "MODEL.BPR.PRECISION_TEST"), backend
        self.least_probability = decision_of(strength, "MODEL.REFINING_STRENGTH").pixel
        self._compiled: Compiled | None = None

    @classmethod
    def task_of(cls, cfg: CfgNode) -> str:
        return cfg.MODEL.BPR.TASK

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.BPR
        pretrained = node.PRETRAINED and not cfg.MODEL.WEIGHTS
        check_auxiliary(node.NETWORK, node.AUX_LOSS_WEIGHT)
        network = build_network(node.NETWORK, pretrained, node.NORM)
        return {
            "network": network,
            "aux_heads": build_auxiliary_heads(network, node.NORM) if node.AUX_LOSS_WEIGHT else None,
            "aux_loss_weight": node.AUX_LOSS_WEIGHT,
            "settings": PatchSettings.from_config(cfg, is_train=False),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "max_patches_per_batch": node.MAX_PATCHES_PER_BATCH,
            "channels_last": node.CHANNELS_LAST,
            "amp": node.AMP_TEST,
            "precision": node.PRECISION_TEST,
            "backend": node.BACKEND,
            "strength": cfg.MODEL.REFINING_STRENGTH,
        }

    def prepare_inference(self) -> None:
        """On a CPU, from now on until the next training the network is run as it is now by ``backend``, its
        BatchNorms folded."""
        if self.device.type == "cpu":
            example = torch.zeros(2, 4, *(self.settings.input_size,) * 2)
            bfloat16 = self.amp or self.in_bfloat16
            self._compiled = compiled(self.network, example, backend=self.backend, bfloat16=bfloat16)

    def exportable(self) -> Exportable:
        own, side = self.settings, self.settings.input_size
        description = {
            "refiner": "BPR",
            "inputs": {
                "patches": {
                    "is": f"image patches of {own.side} x {own.side} px ({own.size} and {own.padding} around them) "
                    f"along the mask's boundary, colours resized bilinearly to {side}, the mask nearest",
                    "channels": ["color 1", "color 2", "color 3", "mask"],
                    "normalization": self.normalization(),
                    "outside_of_the_image": 0,
                    "mask": {"foreground": 1, "background": -1},
                }
            },
            "outputs": {
                "logits": "of foreground, smaller than the input: resize bilinearly (no aligned corners) to the patch; "
                "sigmoid is the probability; averaged where patches overlap, over 0.5 is foreground"
            },
            "patch_px": own.size,
            "padding_px": own.padding,
            "nms_threshold": own.threshold,
        }
        inputs = {"patches": torch.zeros(2, 4, side, side)}
        return Exportable(self.network.eval().cpu(), inputs, ("logits",), 0, {}, description)

    def train(self, mode: bool = True) -> "BoundaryPatchRefiner":
        self._compiled = None if mode else self._compiled
        return super().train(mode)

    def _network_input(self, images: torch.Tensor, inside: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """(N, 4, s', s') of patches (N, 3, s, s) uint8, (N, 1, s, s) bool and (N, s, s) bool.

        Outside the image a patch has the mean colour. The mask is +1 and -1 and keeps its sharp edge when resized.
        """
        size = (self.settings.input_size,) * 2
        colors = (images.float() - self.pixel_mean) / self.pixel_std * inside
        colors = F.interpolate(colors, size, mode="bilinear", align_corners=False)
        coarse = F.interpolate(masks[:, None].float() * 2 - 1, size, mode="nearest")
        x = torch.cat([colors, coarse], dim=1)
        if not self.training:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, -len(x) % _WHOLE_CALL))
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def _training_logits(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits of the network and of each auxiliary head, (N, 1, h, w) of sizes of their own."""
        try:
            if not self.aux_heads:
                return self.network(x), []
            assert isinstance(self.network, LayeredNetwork)  # heads are made for no others
            logits, features = self.network.logits_and_features(x)
            return logits, [head(feature) for head, feature in zip(self.aux_heads, features, strict=True)]
        except ValueError as error:
            if len(x) > 1:
                raise
            raise UserError(
                "a training step had one patch, and MODEL.BPR.NETWORK pools it to one value, on which BatchNorm cannot "
                "train: give each process more images (SOLVER.IMS_PER_BATCH) or patches (MODEL.BPR.PATCHES_PER_IMAGE), "
                "or set MODEL.BPR.NORM SyncBN on several processes"
            ) from error

    def losses(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        """``loss_patch`` and, with auxiliary heads, ``loss_patch_aux``, the weighted sum of theirs.

        Each loss is a mean over the pixels of this process's patches at the network's input size.
        """
        images, inside, masks, targets = (
            torch.cat([x[name] for x in batched_inputs]).to(self.device)
            for name in ("patches", "inside_patches", "mask_patches", "target_patches")
        )
        size = (self.settings.input_size,) * 2
        wanted = F.interpolate(targets[:, None], size, mode="nearest")[:, 0]
        logits, of_heads = self._training_logits(self._network_input(images, inside[:, None], masks))
        logits, *of_heads = (_resize(each.float(), size) for each in (logits, *of_heads))
        losses = {"loss_patch": _mean_loss(logits, wanted)}
        if of_heads:
            each = torch.stack([_mean_loss(of_head, wanted) for of_head in of_heads])
            losses["loss_patch_aux"] = each.sum() * self.aux_loss_weight
        self._log_accuracy(logits.detach() > 0, masks, targets, wanted)
        return losses

    @staticmethod
    def _log_accuracy(refined, masks, targets, wanted) -> None:
        """Shares of patch pixels that are right, before and after."""
        before = (masks == (targets == 1))[targets != IGNORED].float().mean()
        after = (refined == (wanted == 1))[wanted != IGNORED].float().mean()
        storage = get_event_storage()
        storage.put_scalar("bpr/coarse_accuracy", before)
        storage.put_scalar("bpr/refined_accuracy", after)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        """Of the network in inference, float32."""
        if self._compiled is not None:
            return self._compiled(x)
        amp = self.amp or self.in_bfloat16 and self.device.type == "cpu"
        with torch.autocast(self.device.type, enabled=amp):
            logits: torch.Tensor = self.network(x)
        return logits.float()

    @torch.no_grad()
    def _foreground(self, image: torch.Tensor, corners: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Probabilities of foreground (N, size, size) float32 for boxes and their coarse masks."""
        size, pad = self.settings.size, self.settings.padding
        side = (self.settings.side,) * 2
        foreground = np.empty((len(corners), size, size), np.float32)
        for first in range(0, len(corners), self.max_patches_per_batch):
            batch = slice(first, first + self.max_patches_per_batch)
            patches, inside = cut_image(image, corners[batch], self.settings)
            coarse = torch.from_numpy(masks[batch]).to(self.device)
            logits = self._logits(self._network_input(patches, inside[:, None], coarse))[: len(coarse)]
            logits = _resize(logits, side)
            foreground[batch] = logits[:, pad : pad + size, pad : pad + size].sigmoid().cpu().numpy()
        return foreground

    def _choose(self, crop: MaskCrop, height: int, width: int) -> Patches:
        return patches_of(crop, height, width, self.settings)

    def _refine_patches(self, image: torch.Tensor, crops: Iterable[MaskCrop]) -> Iterator[Foreground]:
        """Corners and probabilities of each mask, in order; patches of some masks at a time are held."""
        height, width = image.shape[1:]
        image = image.to(self.device)
        waiting: list[Patches] = []
        for crop in crops:
            waiting.append(self._choose(crop, height, width))
            if sum(len(corners) for corners, _ in waiting) >= _PATCHES_HELD:
                yield from self._through_network(image, waiting)
                waiting = []
        yield from self._through_network(image, waiting)

    def _through_network(self, image: torch.Tensor, patches: list[Patches]) -> Iterator[Foreground]:
        if not patches:
            return
        corners, masks = (np.concatenate(part) for part in zip(*patches, strict=True))
        foreground = self._foreground(image, corners, masks)
        end = 0
        for of_one, _ in patches:
            start, end = end, end + len(of_one)
            yield of_one, foreground[start:end]

    def refine_objects(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[MaskCrop]:
        return [one.crop for one in self.object_confidences(image, crops)]

    def object_confidences(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[RefinedMask]:
        """See :func:`pnm.boundary_patches.reassembly.reassembled`."""
        height, width = image.shape[1:]
        refined = zip(crops, self._refine_patches(image, crops), strict=True)
        least = self.least_probability
        return [RefinedMask(*reassembled(crop, *patches, height, width, least)) for crop, patches in refined]

    def refine_partition(self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]) -> np.ndarray:
        return self.partition_certainties(image, labels, segments).refined  # type: ignore[return-value]

    def partition_certainties(self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]) -> CertainLabels:
        """See :func:`pnm.boundary_patches.reassembly.reassembled_partition`."""
        patches = self._refine_patches(image, crop_segments(labels, segments))
        return CertainLabels(*reassembled_partition(labels, segments, patches, self.least_probability))
