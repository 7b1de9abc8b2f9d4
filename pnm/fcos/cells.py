"""The cells of a pyramid as one list: level by level, row by row.

A cell (row i, column j) of a level of stride s stands at (x, y) = (j s + s // 2, i s + s // 2) of the image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from pnm.errors import UserError


class Level(NamedTuple):
    """Size of a feature map, and its stride in px."""

    height: int
    width: int
    stride: int

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.height * self.width


def cell_positions(levels: Sequence[Level], device: torch.device | None = None) -> torch.Tensor:
    """(L, 2) float32 positions (x, y) in px of all cells."""
    positions = []
    for level in levels:
        rows, columns = (
            torch.arange(count, device=device, dtype=torch.float32) * level.stride + level.stride // 2
            for count in (level.height, level.width)
        )
        grid = torch.stack([columns.expand(level.height, -1), rows[:, None].expand(-1, level.width)], 2)
        positions.append(grid.reshape(-1, 2))
    return torch.cat(positions) if positions else torch.zeros(0, 2, device=device)


def distances_of_boxes(positions: torch.Tensor, boxes_xyxy: torch.Tensor) -> torch.Tensor:
    """(..., 4) distances (left, top, right, bottom) in px of positions (..., 2) from the sides of boxes (..., 4)."""
    return torch.cat([positions - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - positions], -1)


def boxes_of_distances(positions: torch.Tensor, distances_ltrb: torch.Tensor) -> torch.Tensor:
    """(..., 4) boxes x0, y0, x1, y1 in px: the inverse of :func:`distances_of_boxes`."""
    return torch.cat([positions - distances_ltrb[..., :2], positions + distances_ltrb[..., 2:]], -1)


def centerness(distances_ltrb: torch.Tensor) -> torch.Tensor:
    """(...,) in [0, 1], 1 at the centre of the box (FCOS, Eq. 3); of distances > 0."""
    horizontal, vertical = distances_ltrb[..., 0::2], distances_ltrb[..., 1::2]
    shares = [pair.amin(-1) / pair.amax(-1) for pair in (horizontal, vertical)]
    return (shares[0] * shares[1]).sqrt()


def check_ranges(sizes_of_interest: Sequence[float], levels: int) -> None:
    """A UserError unless the bounds between levels, in px, ascend and are one fewer than the levels."""
    bounds = list(sizes_of_interest)
    if len(bounds) != levels - 1 or sorted(set(bounds)) != bounds or not all(bound > 0 for bound in bounds):
        raise UserError(
            f"sizes of interest are {bounds}, expected {levels - 1} ascending numbers > 0 for {levels} levels, px: the "
            "largest distance of a box's side that a level learns, for all but the last"
        )
