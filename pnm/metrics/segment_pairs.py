"""Joint histogram of two maps of segment ids: the pixels, and boundary pixels, that each pair of segments shares.

Pixels are counted run by run (:mod:`pnm.masks.pair_runs`) into a hash table of pairs, which grows when it is half full.

An example::

    >>> pairs = count_pairs(np.array([[1, 1, 2, 2]]), np.array([[5, 6, 6, 6]]))
    >>> sorted(zip(pairs.gt.tolist(), pairs.pred.tolist(), pairs.shared.tolist()))
    [(1, 5, 1), (1, 6, 1), (2, 6, 2)]
"""

from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel
from pnm.masks.pair_runs import run_ends
from pnm.masks.simd_lanes import LANES, lowest_bit
from pnm.metrics.boundary_pixels import interior_pixels, unsigned_view
from pnm.metrics.boundary_width import boundary_width

MAX_ID = 2**31 - 1
_FREE = np.uint64(2**64 - 1)
_LEAST_TABLE = 1024  # places for pairs; a power of two


class SegmentPairs(NamedTuple):
    """P pairs of segments that share pixels, in no order.

    Attributes:
        gt, pred: (P,) int64, the ids.
        shared, shared_boundary, gt_boundary, pred_boundary: (P,) int64, pixels of both; those on both boundaries, on
            the ground truth's, on the prediction's. Without a boundary the last three are the first.
    """

    gt: np.ndarray
    pred: np.ndarray
    shared: np.ndarray
    shared_boundary: np.ndarray
    gt_boundary: np.ndarray
    pred_boundary: np.ndarray


def count_pairs(
    gt_ids: np.ndarray, pred_ids: np.ndarray, boundary_px: int | None = None, boundary_ratio: float | None = None
) -> SegmentPairs:
    """Counts the pixels of each pair of segments.

    Args:
        gt_ids, pred_ids: (H, W) integers in 0..2**31 - 1, 0 = void, which is a segment here.
        boundary_px, boundary_ratio: width d of the boundaries, in pixels or else as a fraction of the diagonal, see
            :mod:`pnm.metrics.boundary_pixels`; both None for no boundaries.

    Raises:
        UserError: maps that aren't (H, W) integers of one size, or ids out of range.
    """
    gt, pred = _id_map(gt_ids, "ground truth"), _id_map(pred_ids, "prediction")
    if gt.shape != pred.shape:
        raise UserError(f"prediction is {pred.shape}, ground truth {gt.shape}: sizes must agree, resize the prediction")
    interiors = [np.empty(0, np.uint8)] * 2
    has_boundary = boundary_px is not None or boundary_ratio is not None
    if has_boundary:
        d = boundary_width(gt.shape, boundary_ratio, boundary_px)
        interiors = [interior_pixels(ids, d).view(np.uint8).reshape(-1) for ids in (gt, pred)]
    flat_gt, flat_pred = unsigned_view(gt).reshape(-1), unsigned_view(pred).reshape(-1)
    keys, amounts, out_of_range = _count_pairs(flat_gt, flat_pred, *interiors)
    for ids, side in ((gt, "ground truth"), (pred, "prediction")) if out_of_range else ():
        if ids.min() < 0 or ids.max() > MAX_ID:
            raise UserError(f"{side}: segment ids must lie in 0..{MAX_ID}, got {ids.min()} to {ids.max()}")
    amounts = np.ascontiguousarray(amounts[keys != _FREE].T)
    keys = keys[keys != _FREE]
    if not has_boundary:
        amounts[1:] = amounts[0]
    gt_keys, pred_keys = keys >> np.uint64(32), keys & np.uint64(MAX_ID)
    return SegmentPairs(gt_keys.astype(np.int64), pred_keys.astype(np.int64), *amounts)


def _id_map(ids: np.ndarray, side: str) -> np.ndarray:
    """The ids in a type in which a negative one is out of range when it is read without sign."""
    if not isinstance(ids, np.ndarray) or ids.ndim != 2 or ids.dtype.kind not in "iu":
        kind = f"{ids.shape} {ids.dtype}" if isinstance(ids, np.ndarray) else type(ids).__name__
        raise UserError(f"{side} is {kind}, expected (H, W) integer ids: rgb_to_ids makes them of a panoptic PNG")
    return ids.astype(np.int32) if ids.dtype.kind == "i" and ids.dtype.itemsize < 4 else ids


@kernel
def _place(key: int, keys: np.ndarray) -> int:
    """Where ``keys`` has the key, or the free place where it belongs."""
    place = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & (keys.size - 1)
    while keys[place] != key and keys[place] != _FREE:
        place = (place + 1) & (keys.size - 1)
    return place


@kernel
def _interior_of_run(first: int, end: int, gt_interior: np.ndarray, pred_interior: np.ndarray) -> tuple[int, int, int]:
    """Of pixels first..end - 1 those interior in either map, in the ground truth, in the prediction."""
    in_either = in_gt = in_pred = np.int64(0)
    for i in range(first, end):
        in_either += gt_interior[i] | pred_interior[i]
        in_gt += gt_interior[i]
        in_pred += pred_interior[i]
    return in_either, in_gt, in_pred


@entry_kernel
def _add_runs(
    gt: np.ndarray,
    pred: np.ndarray,
    gt_interior: np.ndarray,
    pred_interior: np.ndarray,
    start: int,
    keys: np.ndarray,
    amounts: np.ndarray,
    number: np.ndarray,
) -> int:
    """Adds the runs from pixel ``start`` on until all are added or half of the places are taken.

    ``number`` (1,) is that of the places taken. Returns the pixel to go on from, or one past the end of the maps if an
    id is out of range. Nothing in the loop makes or replaces an array: counting references to it would take longer than
    all else.
    """
    has_boundary, first = gt_interior.size > 0, np.uint64(start)
    for x in range(first + np.uint64(1), np.uint64(gt.size + 1), np.uint64(LANES)):
        ends = run_ends(gt, pred, x)
        while ends != 0:
            end = x + np.uint64(lowest_bit(ends))
            gt_id, pred_id = np.uint64(gt[first]), np.uint64(pred[first])
            if gt_id > np.uint64(MAX_ID) or pred_id > np.uint64(MAX_ID):
                return np.uint64(gt.size + 1)
            key = (gt_id << np.uint64(32)) | pred_id
            place = _place(key, keys)
            if keys[place] == _FREE:
                if number[0] == keys.size // 2:
                    return first
                keys[place] = key
                number[0] += 1
            length = np.int64(end - first)
            amounts[place, 0] += length
            if has_boundary:
                in_either, in_gt, in_pred = _interior_of_run(first, end, gt_interior, pred_interior)
                amounts[place, 1] += length - in_either
                amounts[place, 2] += length - in_gt
                amounts[place, 3] += length - in_pred
            first = end
            ends &= ends - np.uint32(1)
    return first


@entry_kernel
def _move(keys: np.ndarray, amounts: np.ndarray, larger: np.ndarray, moved: np.ndarray) -> None:
    """Puts pairs in their places of a larger table."""
    for place in range(keys.size):
        if keys[place] != _FREE:
            new = _place(keys[place], larger)
            larger[new] = keys[place]
            for k in range(amounts.shape[1]):
                moved[new, k] = amounts[place, k]


def _count_pairs(
    gt: np.ndarray, pred: np.ndarray, gt_interior: np.ndarray, pred_interior: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Pairs as keys gt * 2**32 + pred among free places, their amounts (places, 4), and whether an id was too large."""
    keys, amounts = np.full(_LEAST_TABLE, _FREE), np.zeros((_LEAST_TABLE, 4), np.int64)
    number = np.zeros(1, np.int64)
    first = _add_runs(gt, pred, gt_interior, pred_interior, 0, keys, amounts, number)
    while first < gt.size:
        larger, moved = np.full(4 * keys.size, _FREE), np.zeros((4 * keys.size, 4), np.int64)
        _move(keys, amounts, larger, moved)
        keys, amounts = larger, moved
        first = _add_runs(gt, pred, gt_interior, pred_interior, first, keys, amounts, number)
    return keys, amounts, first > gt.size
