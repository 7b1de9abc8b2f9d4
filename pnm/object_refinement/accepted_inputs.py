"""What people give as an image and as masks, as arrays of one kind."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pnm.errors import UserError, listed
from pnm.pictures.mask_kinds import has_two_values, is_label_map, narrowed
from pnm.pictures.mask_pictures import exact_labels, foreground, is_palette_turned, mask_picture, read_mask_picture
from pnm.pictures.rgb_files import pillow_rgb, read_rgb

_KINDS_REMEDY = 'kind="labels" refines all labels, kind="masks" takes it for one object, labels == 1 is one of them'


class Masks(NamedTuple):
    """Masks of one image: (N, H, W) bool, and whether one alone was given, without the first axis."""

    stack: np.ndarray
    is_one: bool


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError(f"{what} has numbers that are NaN or infinite: expected finite ones")
    return values


def _in_unit_range(values: np.ndarray, what: str) -> np.ndarray:
    _finite(values, what)
    if values.size and (values.min() < 0 or values.max() > 1):
        low, high = values.min(), values.max()
        raise UserError(f"{what} of {values.dtype} has numbers from {low:g} to {high:g}, expected 0 to 1")
    return values


def rgb_image(image: Any) -> np.ndarray:
    """(H, W, 3) uint8, RGB.

    Args:
        image: (H, W, 3) RGB, (H, W, 4) with transparency, which is left out, or (H, W) grey: uint8, uint16, which
            become v / 257, or floating-point numbers from 0 to 1; an image of Pillow's; or the path of a file.

    Raises:
        FileNotFoundError, UserError: something else, no pixel, NaN.
    """
    if _is_path(image):
        return read_rgb(Path(image))
    if isinstance(image, Image.Image):
        return pillow_rgb(image, "the image")
    values = np.asarray(image)
    if values.dtype not in (np.uint8, np.uint16) and values.dtype.kind != "f":
        kind = type(image).__name__ if values.dtype == object else f"of {values.dtype}"
        raise UserError(f"the image is {kind}, expected uint8, uint16 or numbers from 0 to 1, a PIL image or a path")
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
        raise UserError(f"the image is {np.shape(image)}, expected (H, W, 3) RGB, or (H, W) grey")
    if not values.size:
        raise UserError(f"the image is {values.shape[0]} x {values.shape[1]}, expected at least one pixel")
    return np.ascontiguousarray(np.broadcast_to(_eight_bits(values[..., :3]), (*values.shape[:2], 3)))


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.rint(_in_unit_range(values, "the image") * 255).astype(np.uint8)


def mask_stack(masks: Any, *, checks_kind: bool = True) -> Masks:
    """Masks as bool.

    Args:
        masks: (H, W) or (N, H, W), bool, integers, of which all but 0 are the object, or of soft edges, see
            :mod:`pnm.pictures.mask_kinds`, those from the middle of the range on, or numbers from 0 to 1, from 0.5 on
            the object; a picture of a mask, of Pillow's or the path of one; or a list of (H, W) masks of any kind.
        checks_kind: whether to refuse label maps; else integers are the object where they aren't 0.

    Raises:
        FileNotFoundError, UserError: something else, NaN, sizes that differ, a label map.
    """
    if isinstance(masks, (list, tuple)) and masks and (_is_path(masks[0]) or np.ndim(masks[0]) > 1):
        stacks = [mask_stack(mask, checks_kind=checks_kind).stack for mask in masks]
        sizes = sorted({stack.shape[1:] for stack in stacks})
        if len(sizes) > 1:
            raise UserError(f"the masks are of sizes {sizes[:3]}, expected one size")
        return Masks(np.concatenate(stacks), False)
    if _is_path(masks):
        given, is_jpg = read_mask_picture(Path(masks)), Path(masks).suffix.lower() in (".jpg", ".jpeg")
        return Masks(_of_picture(given, Path(masks), str(masks), checks_kind and not is_jpg), True)
    if isinstance(masks, Image.Image):
        given, checks_kind = mask_picture(masks, "the mask"), checks_kind and masks.format != "JPEG"
        return Masks(_of_picture(given, masks, "the mask", checks_kind), True)
    values = np.asarray(masks)
    if values.dtype.kind not in "biuf" or values.ndim not in (2, 3):
        raise UserError(
            f"the masks are {values.shape} {values.dtype}, expected (H, W) or (N, H, W), bool, integers or numbers "
            "from 0 to 1, a PIL image or a path"
        )
    stack = values if values.ndim == 3 else values[None]
    if stack.dtype.kind == "f":
        is_object = _in_unit_range(stack, "the mask") >= 0.5
    else:
        is_object = objects_of_integers(stack) if checks_kind else stack != 0
    return Masks(is_object, values.ndim == 2)


def _of_picture(given: np.ndarray, picture: Path | Image.Image, name: str, checks_kind: bool) -> np.ndarray:
    """(1, H, W) bool."""
    if checks_kind:
        _check_no_labels(given, name, _KINDS_REMEDY)
    return (foreground(given, name) != is_palette_turned(picture))[None]


def objects_of_integers(stack: np.ndarray, remedy: str = _KINDS_REMEDY) -> np.ndarray:
    """(N, H, W) bool of masks as integers or bool: all but 0, of two other values the larger one, and of soft edges
    those from the middle of the range on.

    Raises:
        UserError: one of them is a label map; the message ends with the remedy.
    """
    is_object = stack != 0
    for n, mask in enumerate(stack if stack.dtype != np.bool_ else ()):
        if has_two_values(mask):
            if mask.size and mask.min() not in (0, mask.max()):  # as of a picture, the brighter of two
                is_object[n] = mask == mask.max()
        else:
            _check_no_labels(mask, "the mask" if len(stack) == 1 else f"mask {n}", remedy)
            soft = narrowed(mask)
            assert soft is not None
            is_object[n] = soft >= (int(np.iinfo(soft.dtype).max) + 1) // 2
    return is_object


def _check_no_labels(values: np.ndarray, name: str, remedy: str) -> None:
    if is_label_map(values):
        levels = np.unique(values)
        raise UserError(
            f"{name} has {len(levels)} values ({listed(levels.tolist(), 4)}), as label maps have, expected one object: "
            f"{remedy}"
        )


def label_map(labels: Any) -> np.ndarray:
    """(H, W) integers.

    Args:
        labels: such an array, or a grey or palette picture, of Pillow's or the path of one.

    Raises:
        FileNotFoundError, UserError: something else.
    """
    if _is_path(labels):
        return exact_labels(read_mask_picture(Path(labels)), Path(labels))
    if isinstance(labels, Image.Image):
        return exact_labels(mask_picture(labels, "the label map"), Path("the label map"))
    values = np.asarray(labels)
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise UserError(f"the labels are {values.shape} {values.dtype}, expected (H, W) integers")
    return values


def check_size(image: np.ndarray, size: tuple[int, ...], what: str) -> None:
    """A UserError if masks or labels, which ``what`` calls, are not of the image's size."""
    if image.shape[:2] != tuple(size):
        height, width = image.shape[:2]
        raise UserError(
            f"the image is {height} x {width}, {what} {size[0]} x {size[1]} (height x width): they must be of one size"
        )
