"""Image files as the 8-bit RGB that networks see: which bands, which range of numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.pictures.samples import GeoTag, Samples, read_header, read_samples


class Picture(NamedTuple):
    """An image to predict.

    Attributes:
        pixels: (H, W, 3) uint8, RGB.
        geo: tags of a GeoTIFF, see :class:`pnm.pictures.samples.Samples`.
    """

    pixels: np.ndarray
    geo: Mapping[int, GeoTag] = {}


@dataclass(frozen=True)
class Toning:
    """How numbers become 8 bits.

    Attributes:
        bands: three channels of the file, from 1, for red, green and blue; None: the first three, or the first alone of
            a file with one or two.
        stretch: percentiles of each image's own numbers that become 0 and 255, one pair for all its bands; None: 8 bits
            stay, 16 become v / 257, rounded.
    """

    bands: tuple[int, int, int] | None = None
    stretch: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.bands is not None and min(self.bands) < 1:
            raise UserError(f"--bands are {' '.join(map(str, self.bands))}, expected numbers of channels from 1")
        if self.stretch is not None and not 0 <= self.stretch[0] < self.stretch[1] <= 100:
            low, high = self.stretch
            raise UserError(f"--stretch is {low:g} {high:g}, expected two percentiles, rising, from 0 to 100")


def read_picture(path: Path, toning: Toning, read_plain: Callable[[Path], np.ndarray]) -> Picture:
    """An image file as RGB.

    Args:
        read_plain: reads a file that is of 8 bits, or grey, as it was read in training.

    Raises:
        FileNotFoundError, UserError: it can't be read, has too few channels, or numbers whose range isn't known.
    """
    header = read_header(path)
    if header.is_plain and toning == Toning():
        return Picture(read_plain(path), header.geo)
    samples = read_samples(path)
    return Picture(toned(samples, toning, str(path)), samples.geo)


def check_header(path: Path, toning: Toning) -> None:
    """A UserError if a file's header says that it can't be read as RGB."""
    header = read_header(path)
    if header.channels is not None:
        _channels(header.channels, toning, str(path))
    if not (header.is_plain or toning.stretch):
        _check_range(header.dtype, str(path))


def toned(samples: Samples, toning: Toning, name: str) -> np.ndarray:
    """(H, W, 3) uint8 of any numbers.

    Raises:
        UserError: see :func:`read_picture`; ``name`` is the file's.
    """
    values = samples.values[..., _channels(samples.values.shape[2], toning, name)]
    if toning.stretch is not None:
        return _stretched(values, toning.stretch, samples.nodata)
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    _check_range(str(values.dtype), name)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _check_range(dtype: str, name: str) -> None:
    if dtype not in ("uint8", "uint16"):
        raise UserError(
            f"image {name} has numbers of type {dtype}, whose range isn't known: add --stretch LOW HIGH, percentiles "
            "that become black and white, e.g. --stretch 2 98"
        )


def _channels(count: int, toning: Toning, name: str) -> list[int]:
    if toning.bands is None:
        return [0, 1, 2] if count >= 3 else [0, 0, 0]
    if max(toning.bands) > count:
        raise UserError(f"image {name} has {count} channel(s), but --bands names {max(toning.bands)}: correct it")
    return [band - 1 for band in toning.bands]


def _stretched(values: np.ndarray, percentiles: tuple[float, float], nodata: float | None) -> np.ndarray:
    """Numbers from one percentile to the other over 0 to 255; what is no data counts for none, and becomes 0."""
    numbers = values.astype(np.float64)
    known = np.isfinite(numbers)
    if nodata is not None:
        known &= numbers != nodata
    if not known.any():
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(numbers[known], percentiles)
    scaled = (numbers - low) * (255 / (high - low) if high > low else 0)
    return np.where(known, np.rint(np.clip(np.nan_to_num(scaled), 0, 255)), 0).astype(np.uint8)
