"""Refined masks beside the coarse ones, as COCO RLEs: what changed, and what follows from it in a file's entries."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.masks.runs import MaskRuns, decode_masks, rle_text

Change = list  # [counts as text or None if the mask is as it was, area in pixels, [x, y, width, height]]


def rle_counts(masks: MaskRuns) -> list[bytes]:
    """Compressed counts of each mask, written in one way however the mask was given: two are equal if the masks are."""
    texts = []
    for first, end in zip(masks.offsets[:-1], masks.offsets[1:]):
        starts, ends = masks.starts[first:end], masks.ends[first:end]
        counts = np.empty(2 * len(starts) + 1, np.int64)
        counts[0::2] = np.append(starts, masks.height * masks.width) - np.append(0, ends)
        counts[1::2] = ends - starts
        texts.append(rle_text(counts if counts[-1] else counts[:-1]))
    return texts


def coco_rles(segmentations: Sequence[Any], size: tuple[int, int], name: Callable[[int], str]) -> tuple[dict, ...]:
    """Compressed COCO RLEs, counts as bytes, of what :func:`pnm.masks.runs.decode_masks` takes.

    Raises:
        UserError: as that function; ``name`` is what an error calls mask n.
    """
    counts = rle_counts(decode_masks(segmentations, *size, name))
    return tuple({"size": [int(side) for side in size], "counts": text} for text in counts)


def mask_changes(coarse: Sequence[Mapping], refined: Iterable[Any], size: tuple[int, int], name: str) -> list[Change]:
    """What became of each mask.

    Args:
        coarse: N masks as :func:`coco_rles` gives them.
        refined: N masks, RLEs or (H, W) arrays of bool or integers.
        name: of the image, for messages.

    Raises:
        UserError: another number of masks, another size, or arrays that are no masks (e.g. probabilities).
    """
    masks = [_mask(mask, f"{name}, refined mask {n}") for n, mask in enumerate(refined)]
    if len(masks) != len(coarse):
        raise UserError(f"{name}: {len(masks)} refined masks of {len(coarse)} objects, expected one for each")
    runs = decode_masks(masks, *size, lambda n: f"{name}, refined mask {n}")
    changes = []
    for before, text, area, box in zip(coarse, rle_counts(runs), runs.areas.tolist(), runs.boxes_yxyx.tolist()):
        top, left, bottom, right = box
        same = text == before["counts"]
        changes.append([None if same else text.decode(), area, [left, top, right - left, bottom - top]])
    return changes


def _mask(mask: Any, name: str) -> Any:
    if isinstance(mask, Mapping):
        return mask
    array = np.asarray(mask)
    if array.dtype.kind not in "biu":
        raise UserError(f"{name} is {array.dtype}, expected an RLE or an array of bool or integers: threshold it")
    return array


def changed_entry(entry: Mapping[str, Any], change: Change | None, size: Sequence[int]) -> dict[str, Any]:
    """A COCO entry with its refined mask; "bbox" and "area" follow the mask where the entry has them.

    Without a change, the entry as it was; a mask that is as it was keeps its segmentation.
    """
    if change is None:
        return dict(entry)
    text, area, box = change
    new = {"bbox": [float(value) for value in box], "area": area}
    if text is not None:
        new["segmentation"] = {"size": list(size), "counts": text}
    return {key: new.get(key, value) for key, value in entry.items()}
