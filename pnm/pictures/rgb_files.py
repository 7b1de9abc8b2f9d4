"""Image files as 8-bit RGB, upright, by Pillow and tifffile alone."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pnm.errors import UserError
from pnm.pictures.pictures import Toning, read_picture, toned
from pnm.pictures.samples import Samples

_AS_STORED = Toning()
_TURNED = range(5, 9)  # EXIF orientations that swap the sides
_ORIENTATION = 0x112


def read_rgb(path: Path, toning: Toning = _AS_STORED) -> np.ndarray:
    """(H, W, 3) uint8 of an image file of any kind.

    Raises:
        FileNotFoundError, UserError: it can't be read, or has numbers whose range isn't known.
    """
    if not path.is_file():
        raise FileNotFoundError(f"image {path} does not exist: check the path")
    return read_picture(path, toning, _read_plain).pixels


def _read_plain(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return pillow_rgb(image, f"image {path}")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"image {path} cannot be read ({error}): restore the file or remove it") from None


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as it is seen, of which the header is read, and of a PNG all of it.

    Raises:
        FileNotFoundError, UserError: it can't be read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size[::-1] if image.getexif().get(_ORIENTATION) in _TURNED else image.size
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: expected a picture") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no picture that can be read ({error}): restore the file or remove it") from None
    return height, width


def pillow_rgb(image: Image.Image, name: str) -> np.ndarray:
    """(H, W, 3) uint8 of an image of Pillow's, upright as its EXIF data say; ``name`` is for messages."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F" or upright.mode.startswith("I"):
        values = np.asarray(upright)
        if values.dtype == np.int32 and values.min() >= 0 and values.max() < 2**16:  # Pillow's word for 16 bits
            values = values.astype(np.uint16)
        return toned(Samples(values[..., None]), _AS_STORED, name)
    return np.array(upright.convert("RGB"))
