"""TIFFs too large for memory, read by rectangles and written by bands."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.pictures.geotiff import geotiff_options
from pnm.pictures.pictures import Toning, toned
from pnm.pictures.samples import TIFFS, GeoTag, Samples, geo_tags, tiff_size

_LARGEST = 256 << 20  # bytes of one tile or strip
LARGE_PX = 1 << 26  # pixels from which on an image is not held whole
TILE = 256  # px, of what is written
_WHITE_IS_ZERO, _ORIENTATION = 0, 274
_LIGHT = (0, 1, 2)  # photometrics whose numbers are what is seen
_JPEG = (6, 7)  # YCbCr in JPEGs, which are decoded to RGB


def is_large_tiff(path: Path) -> bool:
    """Whether a file is a TIFF of so many pixels that it is read by rectangles."""
    if path.suffix.lower() not in TIFFS:
        return False
    height, width = tiff_size(path)
    return height * width >= LARGE_PX


class TiffWindows:
    """A TIFF's first page, of which tiles or strips are decoded as they are needed; use as a context manager.

    Args:
        kept: bytes of decoded tiles and strips that are held for the next rectangle.

    Attributes:
        shape: (H, W, C).
        dtype: of its numbers.
        geo: tags that say where it lies, see :class:`pnm.pictures.samples.Samples`.

    Raises:
        UserError: it can't be read by parts: turned, planar, of inks or colours from a palette, or one whole strip.
    """

    def __init__(self, path: Path, kept: int = 64 << 20):
        import tifffile

        self.path, self._kept = path, kept
        try:
            self._file = tifffile.TiffFile(path)
            self._page: Any = self._file.pages[0]
        except (OSError, IndexError, ValueError, tifffile.TiffFileError) as error:
            raise UserError(f"image {path} cannot be read ({error}): restore the file or remove it") from None
        page: Any = self._page
        planes, depth, height, width, channels = page.shaped
        is_light = int(page.photometric) in _LIGHT or (int(page.photometric), int(page.compression)) == _JPEG
        is_turned = _ORIENTATION in page.tags and int(page.tags[_ORIENTATION].value) != 1
        if planes > 1 or depth > 1 or is_turned or not is_light:
            raise UserError(f"{path} is planar, turned or of colours that are no light: save it as a plain tiled TIFF")
        self.shape, self.dtype, self.geo = (height, width, channels), np.dtype(page.dtype), geo_tags(page)
        rows = page.tilelength if page.is_tiled else page.rowsperstrip
        columns = page.tilewidth if page.is_tiled else width
        self._segment = min(rows, height), columns
        if self._segment[0] * self._segment[1] * channels * self.dtype.itemsize > _LARGEST:
            raise UserError(f"{path} is one strip of {height} rows, which can't be read by parts: save it in tiles")
        self._decoded: OrderedDict[int, np.ndarray] = OrderedDict()

    def __enter__(self) -> "TiffWindows":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """(h, w, C) of a rectangle that lies in the image."""
        rows, columns = self._segment
        result = np.zeros((bottom - top, right - left, self.shape[2]), self.dtype)
        for y in range(top // rows, -(-bottom // rows)):
            for x in range(left // columns, -(-right // columns)):
                segment = self._decode(y * -(-self.shape[1] // columns) + x)
                if segment is None:  # a sparse file leaves out what is all zeros
                    continue
                first, start = max(top, y * rows), max(left, x * columns)
                end, stop = min(bottom, y * rows + segment.shape[0]), min(right, x * columns + segment.shape[1])
                part = segment[first - y * rows : end - y * rows, start - x * columns : stop - x * columns]
                result[first - top : end - top, start - left : stop - left] = part
        return (2**self._page.bitspersample - 1) - result if self._is_inverted else result

    @property
    def _is_inverted(self) -> bool:
        return int(self._page.photometric) == _WHITE_IS_ZERO and self.dtype.kind == "u"

    def _decode(self, index: int) -> np.ndarray | None:
        if index in self._decoded:
            self._decoded.move_to_end(index)
            return self._decoded[index]
        page, handle = self._page, self._file.filehandle
        count = page.databytecounts[index]
        if not count:
            return None
        try:
            handle.seek(page.dataoffsets[index])
            content = handle.read(count)  # before the decoder, which may read tables, is made
            data, _, shape = page.decode(content, index, jpegtables=page.jpegtables)
        except Exception as error:  # of a damaged file tifffile and its decoders raise of all kinds
            cause = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"image {self.path} cannot be read ({cause}): restore the file") from None
        self._decoded[index] = segment = np.asarray(data).reshape(shape)[0]
        while len(self._decoded) > 1 and sum(one.nbytes for one in self._decoded.values()) > self._kept:
            self._decoded.popitem(last=False)
        return segment


class RgbWindows:
    """A large TIFF as (H, W, 3) uint8 RGB that gives arrays when it is sliced by rows and columns."""

    def __init__(self, windows: TiffWindows, toning: Toning):
        if toning.stretch is not None:
            raise UserError("--stretch needs all of an image's numbers at once, for which this one is too large")
        self._windows, self._toning = windows, toning
        self.shape = (*windows.shape[:2], 3)
        self[0:1, 0:1]  # tells at once of numbers that can't be brought to 8 bits

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        (top, bottom, _), (left, right, _) = (one.indices(side) for one, side in zip(part, self.shape))
        samples = Samples(self._windows.read(top, left, bottom, right))
        return toned(samples, self._toning, str(self._windows.path))


def write_bands(
    path: Path, shape: tuple[int, int], dtype: np.dtype, bands: Iterator[np.ndarray], geo: Mapping[int, GeoTag]
) -> None:
    """A tiled TIFF of (H, W) numbers, made of bands.

    Args:
        path: an empty name; the file is not atomic.
        bands: (h, W) arrays from top to bottom, h a multiple of ``TILE`` but for the last.
        geo: of the image.
    """
    import tifffile

    def tiles() -> Iterator[np.ndarray]:
        for band in bands:
            for y in range(0, band.shape[0], TILE):
                for x in range(0, band.shape[1], TILE):
                    tile = np.zeros((TILE, TILE), dtype)
                    part = band[y : y + TILE, x : x + TILE]
                    tile[: part.shape[0], : part.shape[1]] = part
                    yield tile

    is_big = shape[0] * shape[1] * np.dtype(dtype).itemsize >= 2**32 - 2**25
    with tifffile.TiffWriter(path, bigtiff=is_big) as writer:
        writer.write(tiles(), shape=shape, dtype=dtype, tile=(TILE, TILE), **geotiff_options(geo, ()))
