"""A folder of images that annotations belong to, for formats that don't say an image's size or ending."""

from pathlib import Path

from PIL import Image

from pnm.errors import UserError
from pnm.formats.folders import IMAGE_ENDINGS, files_below, stem

_TURNED = range(5, 9)  # values of EXIF's orientation that exchange height and width
_ORIENTATION = 0x112


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as people see it, EXIF's orientation applied; only the header is read, and of a PNG
    all of it, whose pixels need not be whole.

    Raises:
        UserError: it is no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = _is_turned(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"image {path} is missing: check the folder of images") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no image that can be read ({error}): restore or remove it") from None
    return (width, height) if turned else (height, width)


def _is_turned(image: Image.Image) -> bool:
    """Whether EXIF says that sides are exchanged; not where its place, behind the pixels of a PNG, is cut off."""
    try:
        return image.getexif().get(_ORIENTATION) in _TURNED
    except (OSError, SyntaxError):
        return False


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
