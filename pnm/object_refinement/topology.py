"""Parts and holes of a mask kept as they were, whatever refinement makes of its boundary.

Foreground is connected through sides and corners, background through sides; what lies outside of the array counts as
background. From the coarse mask on, pixels that are to change do so one after the other, nearest to the boundary
first, but only where the pixel is *simple*: where it has, in its 3 x 3 neighbourhood, one part of the foreground and
one of the background beside it, a change moves the boundary and neither cuts, joins, opens nor closes anything
(Rosenfeld, 1970). So each part and hole is what it was, by more than their numbers.

An example, where refinement would cut a bar of three rows in two::

    coarse   ##########     refined   ####..####     simple pixels   ####..####     kept   ##########
             ##########               ####..####     alone           ##########            ##########
             ##########               ####..####                     ####..####            ##########

A thread is left where a bar was, so around pixels that were asked for and not simple, as far as the coarse mask (or
its background) is wide there, nothing changes in a second round. Parts and holes that would vanish stay whole.
"""

import cv2
import numpy as np

from pnm.kernels import entry_kernel, kernel

_FARTHEST = 32  # px from a pixel that was refused
_NEAR = np.ones((9, 9), np.uint8)
_ROUNDS = 8  # over the segments of a partition


def _is_simple(bits: int) -> bool:
    """Whether the middle of 3 x 3 pixels is simple; bit k is neighbour k, clockwise from the upper left one."""
    full = [k for k in range(8) if bits >> k & 1]
    empty = [k for k in range(8) if k not in full]
    touching = [part for part in _parts(empty, 1) if any(k % 2 for k in part)]  # sides are odd, corners even
    return len(_parts(full, 2)) == 1 and len(touching) == 1


def _parts(ring: list[int], side_reach: int) -> list[set[int]]:
    """Connected parts of some of the eight neighbours: those next to each other and, with a reach of 2, two sides that
    meet at a corner."""
    parts: list[set[int]] = []
    for k in ring:
        near = {(k + step) % 8 for step in ((-2, -1, 1, 2) if k % 2 and side_reach == 2 else (-1, 1))}
        joined = [part for part in parts if part & near]
        parts = [part for part in parts if not part & near] + [{k}.union(*joined)]
    return parts


_SIMPLE = np.array([_is_simple(bits) for bits in range(256)])
_DY = np.array([-1, -1, -1, 0, 1, 1, 1, 0])
_DX = np.array([-1, 0, 1, 1, 1, 0, -1, -1])


@kernel
def _neighbours(mask: np.ndarray, y: int, x: int, dy: np.ndarray, dx: np.ndarray) -> int:
    bits = 0
    for k in range(8):
        if mask[y + dy[k], x + dx[k]]:
            bits |= 1 << k
    return bits


@entry_kernel
def _flip_simple(
    mask: np.ndarray, wanted: np.ndarray, simple: np.ndarray, dy: np.ndarray, dx: np.ndarray, refused: np.ndarray
) -> None:
    """Changes simple pixels of ``wanted`` in ``mask``, both with a frame of one pixel that is never wanted.

    ``refused`` gets the wanted pixels at the boundary that are not simple in the end.
    """
    height, width = mask.shape
    waiting = np.zeros(mask.shape, np.bool_)
    size = np.count_nonzero(wanted) + 1
    queue = np.empty(size, np.int64)
    first, end = 0, 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if wanted[y, x]:
                own = mask[y, x]
                if mask[y - 1, x] != own or mask[y + 1, x] != own or mask[y, x - 1] != own or mask[y, x + 1] != own:
                    waiting[y, x] = True
                    queue[end] = y * width + x
                    end += 1
    end %= size
    while first != end:
        y, x = queue[first] // width, queue[first] % width
        first = (first + 1) % size
        waiting[y, x] = False
        if not simple[_neighbours(mask, y, x, dy, dx)]:
            refused[y, x] = True
            continue
        mask[y, x] = not mask[y, x]
        wanted[y, x] = refused[y, x] = False
        for k in range(8):
            ny, nx = y + dy[k], x + dx[k]
            if wanted[ny, nx] and not waiting[ny, nx]:
                waiting[ny, nx] = True
                queue[end] = ny * width + nx
                end = (end + 1) % size


def _changed_where_simple(coarse: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mask, and the pixels that were refused; all with a frame."""
    mask, refused = coarse.copy(), np.zeros(coarse.shape, np.bool_)
    _flip_simple(mask, wanted.copy(), _SIMPLE, _DY, _DX, refused)
    return mask, refused


def with_kept_topology(coarse: np.ndarray, refined: np.ndarray) -> np.ndarray:
    """(H, W) bool: the refined mask, with as many parts and holes as the coarse one, and these the same.

    Args:
        coarse: (H, W) bool.
        refined: (H, W) bool.
    """
    before, after = np.pad(coarse, 1), np.pad(refined, 1)
    wanted = (before != after) & ~_vanishing(before, after)
    mask, refused = _changed_where_simple(before, wanted)
    if refused.any():
        wanted[_around(before, refused)] = False
        mask, _ = _changed_where_simple(before, wanted)
    return np.ascontiguousarray(mask[1:-1, 1:-1])


def _vanishing(coarse: np.ndarray, refined: np.ndarray) -> np.ndarray:
    """(H, W) bool: parts and holes of which refinement would leave nothing."""
    vanishing = np.zeros(coarse.shape, np.bool_)
    for part, connectivity in ((coarse, 8), (~coarse, 4)):
        number, labels = cv2.connectedComponents(part.astype(np.uint8), connectivity=connectivity)
        left = np.bincount(labels[part & (coarse == refined)], minlength=number) > 0
        vanishing |= part & ~left[labels]
    return vanishing


def _around(coarse: np.ndarray, refused: np.ndarray) -> np.ndarray:
    """(H, W) bool: discs around refused pixels that cover, to the corners, what was thin there."""
    own = (coarse == 1) & refused
    discs = np.zeros(coarse.shape, np.uint8)
    for part, pixels in ((coarse, own), (~coarse, refused & ~own)):
        if pixels.any():
            half = cv2.dilate(cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 3), _NEAR)  # at the middle
            for y, x in np.argwhere(pixels).tolist():
                cv2.circle(discs, (x, y), int(min(1.5 * half[y, x] + 1, _FARTHEST)), 1, -1)
    return discs > 0


def with_kept_segments(coarse: np.ndarray, refined: np.ndarray) -> np.ndarray:
    """(H, W) integers: a refined label map in which each segment has the parts and holes that it had.

    A pixel that would change those of the segment that it leaves, or of the one that it enters, keeps its label. Where
    segments hinder each other beyond some rounds, they stay as they were.
    """
    labels = refined.copy()
    for _ in range(_ROUNDS):
        is_kept = True
        for label in np.unique(coarse[labels != coarse]).tolist() + np.unique(labels[labels != coarse]).tolist():
            before, after = coarse == label, labels == label
            other = with_kept_topology(before, after) != after
            if other.any():
                labels[other], is_kept = coarse[other], False
        if is_kept:
            return labels
    return coarse.copy()
