"""The numbers in an image file as they are stored: any bit depth, any number of channels, and a GeoTIFF's place.

TIFFs are read by tifffile, with imagecodecs for what is compressed: of 16 bits and several bands, tiled, planar, LZW,
deflate, zstd, it alone reads all as they are. (Pillow cuts 16-bit colours to 8, OpenCV has no more than four bands
and takes planar ones for others.) PNGs of 16 bits are read by OpenCV.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from pnm.errors import UserError
from pnm.masks.runs import MOST_PIXELS

TIFFS = (".tif", ".tiff")
GEO_TAGS = {
    33550: "ModelPixelScale",
    33922: "ModelTiepoint",
    34264: "ModelTransformation",
    34735: "GeoKeyDirectory",
    34736: "GeoDoubleParams",
    34737: "GeoAsciiParams",
    42113: "GDAL_NODATA",
    282: "XResolution",
    283: "YResolution",
    296: "ResolutionUnit",
}
_PLACING = {33550, 33922, 34264, 34735}  # without one of them a TIFF lies nowhere
_NODATA, _ORIENTATION = 42113, 274
_PHOTOMETRIC = {0, 1, 2}  # white is zero, black is zero, RGB: whose numbers are what is seen
_WHITE_IS_ZERO = 0


class GeoTag(NamedTuple):
    """A tag of a TIFF: its type by TIFF's number, how many values, and they."""

    dtype: int
    length: int
    value: Any


class Samples(NamedTuple):
    """An image file's numbers.

    Attributes:
        values: (H, W, C) of the file's own type, upright.
        nodata: the number that stands for no data, where the file says one.
        geo: tags of a GeoTIFF by their numbers, see ``GEO_TAGS``; none of other files.
    """

    values: np.ndarray
    nodata: float | None = None
    geo: Mapping[int, GeoTag] = {}


class Header(NamedTuple):
    """What an image file is before its pixels are read.

    Attributes:
        size: (height, width) as it is stored.
        channels: of a TIFF; None of other files.
        dtype: of its numbers, by NumPy's name.
        is_plain: every reader gives the same: 8 bits, or grey; see :mod:`pnm.pictures.pictures`.
        geo: as that of :class:`Samples`.
    """

    size: tuple[int, int]
    is_plain: bool
    channels: int | None = None
    dtype: str = "uint8"
    geo: Mapping[int, GeoTag] = {}


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a file is read, as a UserError that names it."""
    try:
        yield
    except (UserError, FileNotFoundError, MemoryError, ImportError):
        raise
    except Exception as error:  # of a damaged file tifffile and its decoders raise of all kinds
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"image {path} cannot be read ({cause}): restore the file or remove it") from None


def read_header(path: Path) -> Header:
    """The header of an image file.

    Raises:
        UserError: it is no image, or too large.
    """
    with _told(path):
        header = _tiff_header(path) if path.suffix.lower() in TIFFS else _plain_header(path)
    height, width = header.size
    if height * width > MOST_PIXELS:
        raise UserError(
            f"image {path} has {height} x {width} pixels, expected at most {MOST_PIXELS}: cut it into smaller ones"
        )
    return header


def _plain_header(path: Path) -> Header:
    with Image.open(path) as image:
        return Header((image.height, image.width), True)


def tiff_size(path: Path) -> tuple[int, int]:
    """(height, width) of a TIFF's first page, however large.

    Raises:
        UserError: it is none.
    """
    import tifffile

    with _told(path), tifffile.TiffFile(path) as file:
        page = _first_page(file, path)
        return page.imagelength, page.imagewidth


def _tiff_header(path: Path) -> Header:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = _first_page(file, path)
        few = page.bitspersample <= 8 and page.samplesperpixel in (1, 3, 4)
        is_plain = few or int(page.photometric) not in _PHOTOMETRIC
        size, dtype = (page.imagelength, page.imagewidth), str(page.dtype)
        return Header(size, is_plain, page.samplesperpixel, dtype, geo_tags(page))


def _first_page(file: Any, path: Path) -> Any:
    if not len(file.pages):
        raise UserError(f"image {path} is a TIFF without a page: restore the file or remove it")
    return file.pages[0]


def geo_tags(page: Any) -> dict[int, GeoTag]:
    """Those of ``GEO_TAGS`` that a page has, if any of them says where it lies and it isn't turned."""
    tags = {code: page.tags[code] for code in GEO_TAGS if code in page.tags}
    turned = _ORIENTATION in page.tags and int(page.tags[_ORIENTATION].value) != 1
    if turned or not tags.keys() & _PLACING:
        return {}
    return {code: GeoTag(int(tag.dtype), tag.count, tag.value) for code, tag in tags.items()}


def read_samples(path: Path) -> Samples:
    """All numbers of an image file's first page.

    Raises:
        FileNotFoundError, UserError: it can't be read.
    """
    with _told(path):
        if path.suffix.lower() in TIFFS:
            return _tiff_samples(path)
        values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        if values is None:
            raise UserError(f"image {path} cannot be read: restore the file or remove it")
        values = values.reshape(*values.shape[:2], -1)
        channels = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(values.shape[2], slice(None))  # OpenCV's are BGR
        with Image.open(path) as image:
            return Samples(upright(values[..., channels], image.getexif().get(_ORIENTATION, 1)))


def _tiff_samples(path: Path) -> Samples:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = _first_page(file, path)
        if int(page.photometric) not in _PHOTOMETRIC:  # a palette, inks, ...: numbers that are no light
            with Image.open(path) as image:
                return Samples(np.asarray(ImageOps.exif_transpose(image).convert("RGB")), None, geo_tags(page))
        # (channels where they are planes, depth, height, width, channels where they are interleaved)
        planes, _, height, width, interleaved = page.shaped
        values = page.asarray().reshape(page.shaped)[:, 0]
        values = values.transpose(1, 2, 0, 3).reshape(height, width, planes * interleaved)
        if int(page.photometric) == _WHITE_IS_ZERO and values.dtype.kind == "u":
            values = (2**page.bitspersample - 1) - values
        turn = int(page.tags[_ORIENTATION].value) if _ORIENTATION in page.tags else 1
        return Samples(upright(values, turn), page.nodata if _NODATA in page.tags else None, geo_tags(page))


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) turned and mirrored as EXIF's orientation, 1 to 8, asks for; other numbers ask for nothing."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if orientation in (2, 3, 6, 7) else values
