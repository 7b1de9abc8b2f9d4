"""Regions of a batch, and masks and maps within them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Instances
from torchvision.ops import roi_align as mask_align

from pnm.region_pooling import roi_align

_OBJECTS_AT_ONCE = 16  # whose full-size masks are floating-point numbers at a time


class Regions(NamedTuple):
    """R boxes in the images of a batch.

    Attributes:
        images: (R,) int64.
        boxes_xyxy: (R, 4) float32 px.
    """

    images: torch.Tensor
    boxes_xyxy: torch.Tensor

    @property
    def rois(self) -> torch.Tensor:
        """(R, 5) as RoIAlign takes them."""
        return torch.cat([self.images[:, None].float(), self.boxes_xyxy.float()], 1)

    def take(self, rows: torch.Tensor) -> "Regions":
        """Some of them, by number or as bool."""
        return Regions(self.images[rows], self.boxes_xyxy[rows])


def pooled(maps: torch.Tensor, regions: Regions, side: int, stride: int) -> torch.Tensor:
    """(R, C, side, side) float32 of maps (N, C, h, w) in regions, one sample a cell (BlendMask); half precision could
    not say where a box begins."""
    return roi_align(maps, regions.rois, side, 1 / stride, 1)


class Objects(NamedTuple):
    """The true objects of a batch, one after the other.

    Attributes:
        regions: their images and boxes.
        masks: of each image, (N, H, W) bool.
        firsts: number of the first object of each image, and of all.
    """

    regions: Regions
    masks: list[torch.Tensor]
    firsts: list[int]


def objects_of(truths: Sequence[Instances]) -> Objects:
    """Of ground truth with ``gt_boxes`` and ``gt_masks`` as bitmaps."""
    firsts = [0]
    for truth in truths:
        firsts.append(firsts[-1] + len(truth))
    boxes = torch.cat([truth.gt_boxes.tensor for truth in truths]).float()
    images = torch.repeat_interleave(
        torch.arange(len(truths), device=boxes.device), torch.tensor([len(t) for t in truths], device=boxes.device)
    )
    return Objects(Regions(images, boxes), [truth.gt_masks.tensor for truth in truths], firsts)


def masks_in_boxes(objects: Objects, rows: torch.Tensor, boxes_xyxy: torch.Tensor, side: int) -> torch.Tensor:
    """(R, side, side) bool: the masks of objects ``rows`` (R,) int64 within boxes (R, 4), foreground from ½ on.

    As Detectron2 crops masks, but few of an image's masks are converted at a time, each once.
    """
    targets = torch.zeros(len(rows), side, side, dtype=torch.bool, device=boxes_xyxy.device)
    for image, masks in enumerate(objects.masks):
        for start in range(0, len(masks), _OBJECTS_AT_ONCE):
            first = objects.firsts[image] + start
            some = masks[start : start + _OBJECTS_AT_ONCE]
            wanted = ((rows >= first) & (rows < first + len(some))).nonzero()[:, 0]
            if len(wanted):
                local = Regions(rows[wanted] - first, boxes_xyxy[wanted])
                values = mask_align(some[:, None].float(), local.rois, side, 1.0, 0, True)
                targets[wanted] = values[:, 0] >= 0.5
    return targets


def shares_inside(objects: Objects, rows: torch.Tensor, boxes_xyxy: torch.Tensor) -> torch.Tensor:
    """(R,) float32: of the pixels of objects ``rows`` (R,), the share whose centre is in a box (R, 4)."""
    image_of = objects.regions.images[rows].tolist()
    edges = (boxes_xyxy - 0.5).ceil().long().clamp(min=0).tolist()
    counts = []
    for row, image, (left, top, right, bottom) in zip(rows.tolist(), image_of, edges, strict=True):
        mask = objects.masks[image][row - objects.firsts[image]]
        counts.append(torch.stack([mask[top:bottom, left:right].sum(), mask.sum()]))
    if not counts:
        return boxes_xyxy.new_zeros(0)
    inside, total = torch.stack(counts).float().unbind(1)
    return inside / total.clamp(min=1)
