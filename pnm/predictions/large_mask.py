"""One mask of an image that is too large for memory: two TIFFs, read by rectangles, and one written by bands."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pnm.errors import UserError
from pnm.formats.atomic_files import atomic_path
from pnm.object_refinement.tiles import ObjectRefiner, Tiling, refined_core
from pnm.pictures.pictures import Toning
from pnm.pictures.samples import TIFFS
from pnm.pictures.tiff_windows import LARGE_PX, RgbWindows, TiffWindows, write_bands

_BAND = 1024  # rows that are read at once
_TILING = Tiling()
_KEPT = 192 << 20  # bytes of the mask, whose strips reach over many tiles


class _Mask:
    """A TIFF of a mask, see :class:`pnm.object_refinement.tiles.MaskWindows`."""

    def __init__(self, windows: TiffWindows, is_inverted: bool):
        self._windows, self.shape, self._is_inverted = windows, windows.shape[:2], is_inverted

    def read(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        return (self._windows.read(top, left, bottom, right)[..., 0] != 0) != self._is_inverted


def refine_large(
    image: Path,
    mask: Path,
    output: Path,
    refiner: ObjectRefiner,
    toning: Toning,
    tiling: Tiling = _TILING,
    *,
    is_inverted: bool = False,
) -> tuple[int, int]:
    """Refines a mask, whose numbers, type and place on Earth the output has.

    Args:
        is_inverted: whether the object is what has the number 0.

    Returns:
        How many pixels changed, and of how many.

    Raises:
        UserError: files that can't be read by parts, of different sizes, or a mask of more than two values.
    """
    with TiffWindows(mask, _KEPT) as mask_file, _opened(image) as image_file:
        if mask_file.shape[:2] != image_file.shape[:2] or mask_file.shape[2] != 1:
            raise UserError(
                f"{mask} is {mask_file.shape}, {image} {image_file.shape} (height, width, channels): expected a mask "
                "of one channel, of the image's size"
            )
        pixels, top = RgbWindows(image_file, toning), _object_value(mask_file)
        changed = [0]
        bands = _bands(refiner, pixels, _Mask(mask_file, is_inverted), tiling, changed)
        with atomic_path(output) as temporary:
            values = (np.where(band != is_inverted, top, top.dtype.type(0)) for band in bands)
            write_bands(temporary, mask_file.shape[:2], top.dtype, values, mask_file.geo or image_file.geo)
        return changed[0], mask_file.shape[0] * mask_file.shape[1]


def _opened(image: Path) -> TiffWindows:
    if image.suffix.lower() not in TIFFS:
        raise UserError(
            f"{image} belongs to a mask of more than {LARGE_PX} pixels, and is then to be a TIFF: save it as one"
        )
    return TiffWindows(image)


def _object_value(mask: TiffWindows) -> np.generic:
    """The number of the object, of the file's type; a UserError if there are several."""
    if mask.dtype.kind not in "bu":
        raise UserError(f"{mask.path} has numbers of {mask.dtype}, expected unsigned ones: 0 and that of the object")
    values: set[int] = set()
    for top in range(0, mask.shape[0], _BAND):
        values |= set(np.unique(mask.read(top, 0, min(top + _BAND, mask.shape[0]), mask.shape[1])).tolist()) - {0}
        if len(values) > 1:
            raise UserError(
                f"{mask.path} has the values {sorted(values)[:4]} beside 0, and is too large for a label map (from "
                f"{LARGE_PX} pixels on): refine a mask of each, or cut it into smaller ones"
            )
    dtype = np.dtype(np.uint8) if mask.dtype.kind == "b" else mask.dtype
    return dtype.type(max(values, default=1))


def _bands(
    refiner: ObjectRefiner, image: RgbWindows, mask: _Mask, tiling: Tiling, changed: list[int]
) -> Iterator[np.ndarray]:
    """Bands of the refined mask with a bar; ``changed[0]`` counts pixels that differ."""
    height, width = mask.shape
    side = tiling.core
    with tqdm(total=-(-height // side) * -(-width // side), unit="tile", dynamic_ncols=True) as bar:
        for top in range(0, height, side):
            bottom = min(height, top + side)
            band = np.zeros((bottom - top, width), np.bool_)
            for left in range(0, width, side):
                core = top, left, bottom, min(width, left + side)
                band[:, left : core[3]] = refined_core(refiner, image, mask, core, tiling)  # type: ignore[arg-type]
                changed[0] += int(np.count_nonzero(band[:, left : core[3]] != mask.read(*core)))
                bar.update(1)
            yield band
