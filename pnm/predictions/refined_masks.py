"""Refined masks beside the coarse ones: what changed, and what follows from it in a file's entries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, crop_array, crop_rle, crop_runs, trimmed
from pnm.masks.runs import decode_masks


class MaskChange(NamedTuple):
    """What became of a mask.

    Attributes:
        crop: the refined mask, None if it is as it was.
        area: in pixels.
        box_xywh: tight, in pixels; zeros of an empty mask.
    """

    crop: MaskCrop | None
    area: int
    box_xywh: tuple[int, int, int, int]


def mask_changes(
    coarse: Sequence[MaskCrop], refined: Iterable[Any], size: tuple[int, int], name: str
) -> list[MaskChange]:
    """What became of each mask.

    Args:
        coarse: N masks.
        refined: N masks, crops, RLEs or (H, W) arrays of bool or integers.
        size: (height, width) of the image.
        name: of the image, for messages.

    Raises:
        UserError: another number of masks, another size, or arrays that are no masks (e.g. probabilities).
    """
    crops = [_crop(mask, size, f"{name}, refined mask {n}") for n, mask in enumerate(refined)]
    if len(crops) != len(coarse):
        raise UserError(f"{name}: {len(crops)} refined masks of {len(coarse)} objects, expected one for each")
    return [_change(*pair) for pair in zip(coarse, crops, strict=True)]


def _change(before: MaskCrop, after: MaskCrop) -> MaskChange:
    before, after = trimmed(before), trimmed(after)
    is_same = before[1:] == after[1:] and np.array_equal(before.pixels, after.pixels)
    height, width = after.pixels.shape
    return MaskChange(
        None if is_same else after, int(np.count_nonzero(after.pixels)), (after.left, after.top, width, height)
    )


def _crop(mask: Any, size: tuple[int, int], name: str) -> MaskCrop:
    if isinstance(mask, MaskCrop):
        return mask
    if isinstance(mask, Mapping):
        return crop_runs(decode_masks([mask], *size, lambda _: name), 0)
    array = np.asarray(mask)
    if array.dtype.kind not in "biu":
        raise UserError(f"{name} is {array.dtype}, expected an RLE or an array of bool or integers: threshold it")
    if array.shape != size:
        raise UserError(f"{name}: the mask is {array.shape}, the image {size[0]} x {size[1]}")
    return crop_array(array)


def json_changes(changes: Iterable[MaskChange], size: tuple[int, int]) -> list[list]:
    """[counts of the RLE or None, area, box] of each mask, which JSON can hold: what :func:`changed_entry` takes."""
    return [[None if crop is None else crop_rle(crop, *size)["counts"], area, list(box)] for crop, area, box in changes]


def changed_entry(entry: Mapping[str, Any], change: list | None, size: Sequence[int]) -> dict[str, Any]:
    """A COCO entry with its refined mask; "bbox" and "area" follow the mask where the entry has them.

    Without a change, the entry as it was; a mask that is as it was keeps its segmentation. A dict after the box holds
    fields that the entry gets.
    """
    if change is None:
        return dict(entry)
    text, area, box, *fields = change
    new = {"bbox": [float(value) for value in box], "area": area}
    if text is not None:
        new["segmentation"] = {"size": list(size), "counts": text}
    return {key: new.get(key, value) for key, value in entry.items()} | (fields[0] if fields else {})
