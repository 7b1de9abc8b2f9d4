"""The meta-architecture of boundary patch refinement (BPR: Hu et al., IJCV 2022)."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from pnm.boundary_patches.extraction import cut_patches, find_patches
from pnm.boundary_patches.reassembly import reassemble, reassemble_partition
from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, crop_array, crop_segments, paste

from .config import PatchSettings
from .networks import build_network

IGNORED = 255  # of a patch's target
# On CPUs convolutions of fewer patches are computed in another way, with other last digits: calls are filled up to a
# multiple of this, so that results don't depend on how many patches go through the network at once.
_WHOLE_CALL = 16
_PATCHES_HELD = 2048  # from which on they go through the network, so that large images take no more memory

Patches = tuple[np.ndarray, np.ndarray]  # corners (N, 2) and what is in the boxes (N, s, s), of one mask


@META_ARCH_REGISTRY.register()
class BoundaryPatchRefiner(nn.Module):
    """Refines coarse masks of an image in small patches along their boundaries.

    In training, an input has the patches of :class:`.patch_mapper.BoundaryPatchMapper`. For inference it has an
    "image", (3, H, W) uint8, and coarse predictions of the same size: "instances" with ``pred_masks`` (N, H, W) bool;
    or "sem_seg" (H, W); or "panoptic_seg" ((H, W), segments_info). The output has the same, refined, as Detectron2's
    evaluators want it; "sem_seg" one-hot (K, H, W).
    """

    @configurable
    def __init__(
        self,
        network: nn.Module,
        *,
        settings: PatchSettings,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        num_classes: int = 0,
        max_patches_per_batch: int = 128,
        channels_last: bool = False,
        amp: bool = False,
    ):
        """
        Args:
            network: see :func:`.networks.build_network`.
            settings: of inference; patches in training come as the mapper cuts them.
            pixel_mean, pixel_std: of the image's channels.
            num_classes: of the one-hot "sem_seg".
            max_patches_per_batch: that go through the network at once in inference.
            amp: mixed precision in inference.
        """
        super().__init__()
        if max_patches_per_batch < _WHOLE_CALL:
            raise UserError(
                f"MODEL.BPR.MAX_PATCHES_PER_BATCH is {max_patches_per_batch}, expected at least {_WHOLE_CALL}"
            )
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.settings, self.num_classes = settings, num_classes
        self.max_patches_per_batch, self.channels_last, self.amp = max_patches_per_batch, channels_last, amp
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.BPR
        pretrained = node.PRETRAINED and not cfg.MODEL.WEIGHTS
        return {
            "network": build_network(node.NETWORK, pretrained, node.NORM),
            "settings": PatchSettings.from_config(cfg, is_train=False),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "max_patches_per_batch": node.MAX_PATCHES_PER_BATCH,
            "channels_last": node.CHANNELS_LAST,
            "amp": node.AMP_TEST,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        if self.training:
            return self._losses(batched_inputs)
        refine = {"instance": self._instances, "semantic": self._semantic, "panoptic": self._panoptic}
        return [refine[self.settings.task](x) for x in batched_inputs]

    # ---- the network

    def _logits(self, images: torch.Tensor, inside: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """(N, 1, s', s') of patches (N, 3, s, s) uint8, (N, 1, s, s) bool and (N, s, s) bool.

        Outside the image a patch has the mean colour. The mask is +1 and -1 and keeps its sharp edge when resized.
        """
        size = (self.settings.input_size,) * 2
        colors = (images.float() - self.pixel_mean) / self.pixel_std * inside
        colors = F.interpolate(colors, size, mode="bilinear", align_corners=False)
        coarse = F.interpolate(masks[:, None].float() * 2 - 1, size, mode="nearest")
        x = torch.cat([colors, coarse], dim=1)
        if not self.training:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, -len(x) % _WHOLE_CALL))
        return self.network(x.contiguous(memory_format=torch.channels_last) if self.channels_last else x)[: len(masks)]

    def _losses(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        images, inside, masks, targets = (
            torch.cat([x[name] for x in batched_inputs]).to(self.device)
            for name in ("patches", "inside_patches", "mask_patches", "target_patches")
        )
        logits = self._logits(images, inside[:, None], masks).float()
        size = (self.settings.input_size,) * 2
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0]
        wanted = F.interpolate(targets[:, None], size, mode="nearest")[:, 0]
        counted = wanted != IGNORED
        loss = F.binary_cross_entropy_with_logits(logits, (wanted == 1).float(), counted.float(), reduction="sum")
        self._log_accuracy(logits.detach() > 0, masks, targets, wanted, counted)
        return {"loss_patch": loss / counted.sum().clamp(min=1)}

    @staticmethod
    def _log_accuracy(refined, masks, targets, wanted, counted) -> None:
        """Shares of patch pixels that are right, before and after."""
        before = (masks == (targets == 1))[targets != IGNORED].float().mean()
        after = (refined == (wanted == 1))[counted].float().mean()
        storage = get_event_storage()
        storage.put_scalar("bpr/coarse_accuracy", before)
        storage.put_scalar("bpr/refined_accuracy", after)

    def _cut_images(self, image: torch.Tensor, corners: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches (N, 3, s, s) uint8 of an image on the device, and where they lie in it (N, 1, s, s)."""
        steps = torch.arange(-self.settings.padding, self.settings.size + self.settings.padding, device=self.device)
        first = torch.from_numpy(corners).to(self.device, torch.int64)
        rows, columns = first[:, :1] + steps, first[:, 1:] + steps
        height, width = image.shape[1:]
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        return image[:, rows[:, :, None], columns[:, None]].transpose(0, 1), inside[:, None]

    @torch.no_grad()
    def _foreground(self, image: torch.Tensor, corners: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Probabilities of foreground (N, size, size) float32 for boxes and their coarse masks."""
        size, pad = self.settings.size, self.settings.padding
        side = (self.settings.side,) * 2
        found = np.empty((len(corners), size, size), np.float32)
        for first in range(0, len(corners), self.max_patches_per_batch):
            some = slice(first, first + self.max_patches_per_batch)
            with torch.autocast(self.device.type, enabled=self.amp):
                patches = self._cut_images(image, corners[some])
                logits = self._logits(*patches, torch.from_numpy(masks[some]).to(self.device))
            logits = F.interpolate(logits.float(), side, mode="bilinear", align_corners=False)[:, 0]
            found[some] = logits[:, pad : pad + size, pad : pad + size].sigmoid().cpu().numpy()
        return found

    # ---- masks

    def _patches_of(self, crop: MaskCrop, height: int, width: int) -> Patches:
        """Corners and coarse masks of the patches of one mask."""
        size, pad = self.settings.size, self.settings.padding
        corners = find_patches(crop, height, width, size, self.settings.threshold)
        masks = cut_patches(crop, corners, size, pad)
        if self.settings.is_partition:
            some = has_background(masks, pad, min(size, height) * min(size, width))
            corners, masks = corners[some], masks[some]
        return corners, masks

    def _refine_patches(self, image: torch.Tensor, crops: Iterable[MaskCrop]) -> Iterator[Patches]:
        """Corners and probabilities of each mask, in order; patches of some masks at a time are held."""
        height, width = image.shape[1:]
        image = image.to(self.device)
        waiting: list[Patches] = []
        for crop in crops:
            waiting.append(self._patches_of(crop, height, width))
            if sum(len(corners) for corners, _ in waiting) >= _PATCHES_HELD:
                yield from self._through_network(image, waiting)
                waiting = []
        yield from self._through_network(image, waiting)

    def _through_network(self, image: torch.Tensor, patches: list[Patches]) -> Iterator[Patches]:
        if not patches:
            return
        corners, masks = (np.concatenate(part) for part in zip(*patches, strict=True))
        foreground = self._foreground(image, corners, masks)
        end = 0
        for of_one, _ in patches:
            start, end = end, end + len(of_one)
            yield of_one, foreground[start:end]

    def refine_objects(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[MaskCrop]:
        """Refined masks, in order, of masks that may overlap.

        Args:
            image: (3, H, W) uint8, channels as ``INPUT.FORMAT`` says.
            crops: coarse masks of that image.
        """
        height, width = image.shape[1:]
        patches = self._refine_patches(image, crops)
        return [reassemble(crop, *found, height, width) for crop, found in zip(crops, patches, strict=True)]

    def refine_partition(self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]) -> np.ndarray:
        """Refined label map; see :func:`pnm.boundary_patches.reassembly.reassemble_partition`.

        Args:
            image: (3, H, W) uint8.
            labels: (H, W) integers.
            segments: the labels that are refined.
        """
        return reassemble_partition(labels, segments, self._refine_patches(image, crop_segments(labels, segments)))

    # ---- Detectron2's outputs

    def _instances(self, x: dict) -> dict:
        coarse: Instances = x["instances"]
        height, width = x["image"].shape[1:]
        crops = [crop_array(mask) for mask in coarse.pred_masks.cpu().numpy()]
        masks = np.zeros((len(crops), height, width), np.bool_)
        for mask, crop in zip(masks, self.refine_objects(x["image"], crops)):
            mask[:] = paste(crop, height, width)
        refined = Instances((height, width), scores=coarse.scores, pred_classes=coarse.pred_classes)
        refined.pred_masks = torch.from_numpy(masks)
        refined.pred_boxes = Boxes(torch.tensor([_box_xyxy(mask) for mask in masks]).reshape(-1, 4))
        return {"instances": refined}

    def _semantic(self, x: dict) -> dict:
        labels = np.asarray(x["sem_seg"])
        classes = [k for k in np.unique(labels).tolist() if k < self.num_classes]
        refined = torch.from_numpy(self.refine_partition(x["image"], labels, classes)).long()
        one_hot = torch.zeros(self.num_classes + 1, *refined.shape, dtype=torch.uint8)
        one_hot.scatter_(0, refined.clamp(max=self.num_classes)[None], 1)
        return {"sem_seg": one_hot[:-1]}

    def _panoptic(self, x: dict) -> dict:
        labels, segments = x["panoptic_seg"]
        refined = self.refine_partition(x["image"], np.asarray(labels), [s["id"] for s in segments])
        left = set(np.unique(refined).tolist())
        return {"panoptic_seg": (torch.from_numpy(refined), [s for s in segments if s["id"] in left])}


def has_background(masks: np.ndarray, pad: int, full: int) -> np.ndarray:
    """(N,) bool: patches of which, without their padding, not all ``full`` pixels of the image are foreground.

    Those that are lie along the image's frame inside of a segment and have no boundary to refine (section 3.3).
    """
    side = masks.shape[-1] - pad
    inner = masks[:, pad:side, pad:side]
    if full == inner[0:1].size:
        return ~inner.all(axis=(1, 2))
    return inner.sum(axis=(1, 2)) < full


def _box_xyxy(mask: np.ndarray) -> list[float]:
    crop = crop_array(mask)
    h, w = crop.pixels.shape
    return [float(crop.left), float(crop.top), float(crop.left + w), float(crop.top + h)]
