"""Axis-aligned boxes in absolute pixels: one class for N of them, their overlaps, and format conversion."""

import operator
from collections.abc import Iterator, Sequence
from enum import IntEnum

import numpy as np
import torch

RawBoxes = list | tuple | np.ndarray | torch.Tensor


class BoxMode(IntEnum):
    """How four (or five) numbers describe a box.

    XYXY are two corners, XYWH the top-left corner and the size, XYWHA centre, size and angle of a rotated box;
    ABS is in pixels, REL in fractions of the image size. The values are written to files and must not change.
    """

    XYXY_ABS, XYWH_ABS, XYXY_REL, XYWH_REL, XYWHA_ABS = range(5)

    @staticmethod
    def convert(box: RawBoxes, from_mode: "BoxMode", to_mode: "BoxMode") -> RawBoxes:
        """Converts between ``XYXY_ABS`` and ``XYWH_ABS``.

        Args:
            box: one box as a list or tuple of 4 numbers, or an (..., 4) array or tensor.
            from_mode, to_mode: equal modes return ``box`` itself.

        Returns:
            A new object of the type of ``box``. Lists and tuples pass through float32 (integers stay integers).

        Raises:
            ValueError: for relative or rotated modes, and for boxes without 4 numbers.
        """
        if from_mode == to_mode:
            return box
        corner_op = _CORNER_OPS.get((from_mode, to_mode))
        if corner_op is None:
            raise ValueError(
                f"cannot convert boxes from {BoxMode(from_mode).name} to {BoxMode(to_mode).name}: "
                "only XYXY_ABS and XYWH_ABS convert into each other"
            )
        if isinstance(box, (list, tuple)):
            return type(box)(_move_second_corner(torch.tensor(box), corner_op).tolist())
        return _move_second_corner(box, corner_op)


_CORNER_OPS = {
    (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS): operator.add,
    (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS): operator.sub,
}


def _move_second_corner(boxes, corner_op):
    """Replaces the last two of four columns by ``corner_op(last two, first two)``, in a copy."""
    if boxes.shape[-1] != 4:
        raise ValueError(f"a box needs 4 numbers, got shape {tuple(boxes.shape)}")
    moved = boxes.clone() if isinstance(boxes, torch.Tensor) else boxes.copy()
    moved[..., 2:] = corner_op(boxes[..., 2:], boxes[..., :2])
    return moved


class Boxes:
    """N boxes as a float32 tensor.

    Attributes:
        tensor: (N, 4) rows (x0, y0, x1, y1) in pixels; a pixel covers a unit square, x1 and y1 are exclusive.
    """

    def __init__(self, tensor: torch.Tensor | np.ndarray | Sequence):
        tensor = torch.as_tensor(tensor, dtype=torch.float32)
        if tensor.numel() == 0:
            tensor = tensor.reshape(-1, 4)
        if tensor.dim() != 2 or tensor.shape[1] != 4:
            raise ValueError(f"Boxes needs an (N, 4) tensor, got shape {tuple(tensor.shape)}")
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yields each box as a tensor of 4 numbers."""
        return iter(self.tensor)

    def __getitem__(self, item) -> "Boxes":
        """Selects by integer (one box), slice, index vector or boolean vector; may share memory."""
        return Boxes(self.tensor[item][None] if isinstance(item, int) else self.tensor[item])

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def to(self, device: torch.device | str, **kwargs) -> "Boxes":
        return Boxes(self.tensor.to(device=device, **kwargs))

    def clone(self) -> "Boxes":
        return Boxes(self.tensor.clone())

    def area(self) -> torch.Tensor:
        """(N,) areas in square pixels."""
        width, height = (self.tensor[:, 2:] - self.tensor[:, :2]).unbind(1)
        return width * height

    def clip(self, box_size: tuple[int, int]) -> None:
        """Limits coordinates to the image ``box_size = (height, width)``; rebinds ``self.tensor``.

        Raises:
            ValueError: when a coordinate is NaN or infinite.
        """
        if not torch.isfinite(self.tensor).all():
            raise ValueError("boxes hold NaN or infinite coordinates and cannot be clipped: has training diverged?")
        height, width = box_size
        columns = (self.tensor[:, 0::2].clamp(0, width), self.tensor[:, 1::2].clamp(0, height))
        self.tensor = torch.stack(columns, dim=2).flatten(1)

    def nonempty(self, threshold: float = 0.0) -> torch.Tensor:
        """(N,) booleans: both sides longer than ``threshold`` pixels."""
        return (self.tensor[:, 2:] - self.tensor[:, :2] > threshold).all(dim=1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> torch.Tensor:
        """(N,) booleans: nowhere more than ``boundary_threshold`` pixels outside an image of (height, width)."""
        height, width = box_size
        x0, y0, x1, y1 = self.tensor.unbind(-1)
        after_start = torch.minimum(x0, y0) >= -boundary_threshold
        return after_start & (x1 < width + boundary_threshold) & (y1 < height + boundary_threshold)

    def get_centers(self) -> torch.Tensor:
        """(N, 2) centres (x, y)."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiplies the coordinates in place."""
        for axis, factor in enumerate((scale_x, scale_y)):
            self.tensor[:, axis::2] *= factor

    @classmethod
    def cat(cls, boxes_list: Sequence["Boxes"]) -> "Boxes":
        """All boxes of the list in one new object."""
        return cls(torch.cat([boxes.tensor for boxes in boxes_list]) if len(boxes_list) else torch.empty(0, 4))


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """(N, M) areas shared by each of N boxes with each of M."""
    first, second = boxes1.tensor[:, None], boxes2.tensor[None]
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    return sides.clamp_(min=0).prod(dim=2)


def _ratio_or_zero(inter: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """``inter / whole`` where boxes meet, otherwise 0 (never 0/0)."""
    return torch.where(inter > 0, inter / whole, inter.new_zeros(()))


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """(N, M) intersections over unions; 0 where a box is empty."""
    inter = pairwise_intersection(boxes1, boxes2)
    return _ratio_or_zero(inter, boxes1.area()[:, None] + boxes2.area() - inter)


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """(N,) intersections over unions of the i-th box of one list with the i-th of the other.

    Raises:
        ValueError: when the lists differ in length.
    """
    if len(boxes1) != len(boxes2):
        raise ValueError(f"boxes to be compared in pairs differ in number: {len(boxes1)} and {len(boxes2)}")
    first, second = boxes1.tensor, boxes2.tensor
    sides = torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])
    inter = sides.clamp(min=0).prod(dim=1)
    return inter / (boxes1.area() + boxes2.area() - inter)


matched_boxlist_iou = matched_pairwise_iou
