"""A folder of images that annotations belong to, for formats that don't say an image's size or ending."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pnm.errors import UserError
from pnm.formats.folders import IMAGE_ENDINGS, files_below, stem

_TURNED = range(5, 9)  # values of EXIF's orientation that exchange height and width
_ORIENTATION = 0x112


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as people see it, EXIF's orientation applied; only the header is read.

    Raises:
        UserError: it is no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    except FileNotFoundError:
        raise FileNotFoundError(f"image {path} is missing: check the folder of images") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no image that can be read ({error}): restore or remove it") from None
    return (width, height) if turned else (height, width)


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, RGB, of an image as people see it: upright; of 16 bits a channel the upper 8.

    Raises:
        FileNotFoundError, UserError: it can't be read.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            values = np.asarray(upright if _is_deep(upright) else upright.convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"image {path} is missing: check the folder of images") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no image that can be read ({error}): restore or remove it") from None
    if values.ndim == 3:
        return values.copy()
    if values.dtype.kind == "f" or values.min() < 0 or values.max() >= 2**16:
        raise UserError(f"image {path} has numbers whose range isn't known: save it with 8 or 16 bits")
    return np.repeat(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


class ImageFolder:
    """The images of a folder and the folders in it.

    Attributes:
        folder: as given.
        names: of all images, below the folder, with slashes, sorted.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder: expected one with images")
        self.folder = folder
        self.names = files_below(folder, *IMAGE_ENDINGS)
        self._known = set(self.names)
        self._by_stem: dict[str, list[str]] = {}
        for name in self.names:
            self._by_stem.setdefault(stem(name), []).append(name)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def of_stem(self, path: str) -> str | None:
        """The image whose path, but for the ending, is that of a label file below its own folder ("a/b.txt").

        Raises:
            UserError: there are several.
        """
        found = self._by_stem.get(stem(path), [])
        if len(found) > 1:
            raise UserError(f"{found[0]} and {found[1]} in {self.folder} both belong to {path}: keep one of them")
        return found[0] if found else None

    def size(self, name: str) -> tuple[int, int]:
        """(height, width), see :func:`image_size`."""
        return image_size(self.folder / name)
