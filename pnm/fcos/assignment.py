"""Which object each cell of a pyramid learns (FCOS, section 3.1, with center sampling).

A cell learns an object if it stands strictly inside the object's box and strictly inside the square of half side
``radius`` x stride about the box's centre, and if its largest distance from a side lies in the level's range. Ranges
are open below and closed above, so each position belongs to one level. Of several objects a cell learns the one of the
smallest box, of equal ones the first.

Only the few cells in an object's square are looked at: at most 9 a level for the radius 1.5. Time and memory are linear
in the objects and in the cells, not in their product.
"""

import math
from collections.abc import Sequence

import torch

from pnm.fcos.cells import Level, check_ranges

BACKGROUND = -1
_FAR = 2.0**31  # cells; beyond every image


def assign_objects(
    boxes_xyxy: torch.Tensor, levels: Sequence[Level], sizes_of_interest: Sequence[float], radius: float = 1.5
) -> torch.Tensor:
    """Index of the object of each cell of one image, (L,) int64; -1 for background.

    Args:
        boxes_xyxy: (N, 4) floating, px of the network's input. Boxes without area have no cell.
        levels: finest first.
        sizes_of_interest: largest distance in px from a side of the box that each level but the last learns.
        radius: of center sampling, in strides.

    Raises:
        UserError: ranges that don't fit the levels.
    """
    check_ranges(sizes_of_interest, len(levels))
    device, count = boxes_xyxy.device, len(boxes_xyxy)
    boxes = boxes_xyxy.detach().double()
    rank = _ranks((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    total = sum(level.size for level in levels)
    best = torch.full((total,), count, dtype=torch.int64, device=device)
    first, lows = 0, [0.0, *sizes_of_interest]
    for level, low, high in zip(levels, lows, [*sizes_of_interest, math.inf], strict=True):
        cells, learns = _candidates(boxes, level, radius, low, high)
        best.scatter_reduce_(0, (cells + first)[learns], rank[:, None].expand_as(cells)[learns], "amin")
        first += level.size
    of_rank = torch.full((count + 1,), BACKGROUND, dtype=torch.int64, device=device)
    of_rank[rank] = torch.arange(count, device=device)
    return of_rank[best]


def _ranks(areas: torch.Tensor) -> torch.Tensor:
    """(N,) int64 place of each object by area, equal ones by index."""
    order = areas.sort(stable=True).indices
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def _candidates(
    boxes: torch.Tensor, level: Level, radius: float, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cells of a level near the centres of N boxes, (N, C) int64, and which of them learn the box, (N, C) bool."""
    stride, half = level.stride, level.stride // 2
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    finite = boxes.isfinite().all(1)
    # Columns (and rows) j with |j s + s // 2 - center| < radius s: an open interval of so many cells at most.
    lowest = ((centers - half) / stride - radius).floor() + 1
    lowest = torch.where(finite[:, None], lowest, 0).clamp(-_FAR, _FAR)
    steps = torch.arange(math.ceil(2 * radius), device=boxes.device)
    columns, rows = (lowest[:, axis, None].long() + steps for axis in (0, 1))
    places = [columns[:, None, :].expand(-1, len(steps), -1), rows[:, :, None].expand(-1, -1, len(steps))]
    x, y = (place.flatten(1) for place in places)
    at = torch.stack([x, y], 2).double() * stride + half
    distances = torch.cat([at - boxes[:, None, :2], boxes[:, None, 2:] - at], 2)
    furthest = distances.amax(2)
    inside = (distances.amin(2) > 0) & ((at - centers[:, None]).abs().amax(2) < radius * stride)
    there = (x >= 0) & (x < level.width) & (y >= 0) & (y < level.height)
    return y * level.width + x, inside & there & (furthest > low) & (furthest <= high) & finite[:, None]
