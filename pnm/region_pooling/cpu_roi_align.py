"""RoIAlign on the CPU, forward and backward, for features whose channels lie side by side in memory.

It takes the samples that torchvision takes, and gives the same values up to the rounding of float32.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from pnm.kernels import entry_kernel
from pnm.region_pooling.axis_taps import axis_taps

_LEAST_WORK = 1 << 20  # numbers that a thread must have to read to be worth its start


class Cells(NamedTuple):
    """How R regions, each of h x w cells, lie in a feature map.

    Attributes:
        images: (R,) int64.
        starts: (R, 2) float32 px, y and x where the first cell begins; centres of pixels lie at whole numbers.
        sides: (R, 2) float32 px, height and width of a cell.
        samples: (R, 2) int64 samples of a cell down and across.
    """

    images: np.ndarray
    starts: np.ndarray
    sides: np.ndarray
    samples: np.ndarray


@entry_kernel
def _pool(features: np.ndarray, cells: Cells, begin: int, end: int, out: np.ndarray) -> None:
    """Cells (R, h, w, C) of regions begin..end - 1, from features (N, H, W, C)."""
    height, width = out.shape[1], out.shape[2]
    for r in range(begin, end):
        start, side, samples, image = cells.starts[r], cells.sides[r], cells.samples[r], features[cells.images[r]]
        rows, ys, down = axis_taps(start[0], side[0], height, samples[0], image.shape[0])
        columns, xs, across = axis_taps(start[1], side[1], width, samples[1], image.shape[1])
        for i in range(height):
            for j in range(width):
                cell = out[r, i, j]
                cell[:] = np.float32(0)
                for m in range(rows[i]):
                    for n in range(columns[j]):
                        pixel, weight = image[ys[i, m], xs[j, n]], down[i, m] * across[j, n]
                        for c in range(cell.size):
                            cell[c] += weight * pixel[c]


@entry_kernel
def _spread(gradient: np.ndarray, cells: Cells, begin: int, end: int, out: np.ndarray) -> None:
    """Adds gradients (R, h, w, C) of cells to those of features, (N, H, W, C), in channels begin..end - 1."""
    height, width = gradient.shape[1], gradient.shape[2]
    for r in range(gradient.shape[0]):
        start, side, samples, image = cells.starts[r], cells.sides[r], cells.samples[r], out[cells.images[r]]
        rows, ys, down = axis_taps(start[0], side[0], height, samples[0], image.shape[0])
        columns, xs, across = axis_taps(start[1], side[1], width, samples[1], image.shape[1])
        for i in range(height):
            for j in range(width):
                cell = gradient[r, i, j]
                for m in range(rows[i]):
                    for n in range(columns[j]):
                        pixel, weight = image[ys[i, m], xs[j, n]], down[i, m] * across[j, n]
                        for c in range(begin, end):
                            pixel[c] += weight * cell[c]


def _in_threads(work: int, count: int, kernel: Callable[[int, int], Any]) -> None:
    """Runs ``kernel(begin, end)`` on shares of ``range(count)``, in as many threads as torch has and ``work`` needs."""
    threads = max(1, min(torch.get_num_threads(), count, work // _LEAST_WORK))
    edges = [count * k // threads for k in range(threads + 1)]
    if threads == 1:
        kernel(0, count)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(kernel, edges[:-1], edges[1:]))


def _by_channels(x: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) as (N, H, W, C), without a copy if it lies so in memory."""
    return x.permute(0, 2, 3, 1).contiguous().numpy()


class _RoIAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, cells: Cells, size: tuple[int, int]) -> torch.Tensor:
        ctx.cells, ctx.shape = cells, features.shape
        seen, regions, channels = _by_channels(features.detach()), len(cells.images), features.shape[1]
        out = torch.empty((regions, *size, channels))
        _in_threads(out.numel(), regions, lambda begin, end: _pool(seen, cells, begin, end, out.numpy()))
        return out.permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        images, channels, height, width = ctx.shape
        out, given = torch.zeros((images, height, width, channels)), _by_channels(gradient)
        _in_threads(given.size, channels, lambda begin, end: _spread(given, ctx.cells, begin, end, out.numpy()))
        return out.permute(0, 3, 1, 2), None, None


def cpu_roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> torch.Tensor:
    """Region features.

    Args:
        features: (N, C, H, W) on the CPU, converted to float32; no copy is made of float32 in channels-last format.
        rois: (R, 5) image number, x0, y0, x1, y1 in pixels of the input.
        output_size: (h, w) cells of each region.
        spatial_scale: pixels of the features per pixel of the input.
        sampling_ratio: samples per side of a cell; 0 takes as many as the cell has pixels, rounded up.
        aligned: centres of pixels lie at halves in ``rois``; otherwise at whole numbers, and regions are at least one
            pixel of the features wide and high, as in the paper's first code.

    Returns:
        (R, C, h, w) float32 in channels-last format.

    Raises:
        ValueError: if there are no pixels or no cells, or a region has a number that is not finite, or is of no image.
    """
    if min(*features.shape[-2:], *output_size) < 1:
        raise ValueError(
            f"RoIAlign of features {tuple(features.shape)} to {tuple(output_size)} has nothing to read or make"
        )
    rois = rois.detach().float()
    if not torch.isfinite(rois).all():
        raise ValueError("a region of RoIAlign has a coordinate that is not finite")
    images = rois[:, 0].long()
    if len(rois) and not 0 <= int(images.min()) <= int(images.max()) < len(features):
        raise ValueError(f"regions of RoIAlign are of images {images.unique().tolist()}, and {len(features)} are given")
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    starts, sizes = corners[:, [1, 0]], corners[:, [3, 2]] - corners[:, [1, 0]]
    if not aligned:
        sizes = sizes.clamp(min=1.0)
    sides = sizes / torch.tensor(output_size, dtype=torch.float32)
    samples = torch.full_like(sides, sampling_ratio) if sampling_ratio > 0 else sides.ceil().clamp(min=0)
    arrays = (x.contiguous().numpy() for x in (images, starts, sides, samples.long()))
    pooled: torch.Tensor = _RoIAlign.apply(features.float(), Cells(*arrays), tuple(output_size))
    return pooled
