"""Images and labels read for a mapper; a file that cannot be read is told by its name.

What the eye sees is what the network gets: an image of 16 bits is brought to 8 by v / 257, rounded; one of 32 bits or
of floating-point numbers, whose range nobody knows, is refused. (Detectron2's reader cuts all of these off at 255.)
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from detectron2.data import detection_utils
from PIL import Image, UnidentifiedImageError

from pnm.errors import UserError, listed
from pnm.formats.label_png import read_label_png
from pnm.masks.runs import MOST_PIXELS

Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # Pillow warns beyond, and refuses twice as many; its own limit is a sixth of that
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


@contextmanager
def errors_that_name(files: Iterable[str]) -> Iterator[None]:
    """Turns whatever is raised while ``files`` are read into one line that names them."""
    files = list(files)
    try:
        yield
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # SyntaxError: a broken PNG
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        named, remedy = [file for file in files if file in cause], "restore the file or remove it from the data set"
        if isinstance(error, OSError) and error.strerror:
            files, named, cause = [file for file in files if file == error.filename] or files, [], error.strerror
        if isinstance(error, UnidentifiedImageError):
            files, named, cause = named or files, [], "not an image"
        if isinstance(error, Image.DecompressionBombError):
            cause, remedy = f"it has more than {2 * MOST_PIXELS} pixels", "cut it into smaller ones"
        if not named:
            cause = f"cannot read {' with '.join(files)}: {cause}; {remedy}"
        raise UserError(cause) from error


def read_image(path: str, image_format: str) -> np.ndarray:
    """(H, W, 3) uint8, channels in the order of ``image_format``, upright as its EXIF data say.

    Raises:
        UserError: a file that is missing or damaged, or of more than 16 bits a channel.
    """
    with errors_that_name([path]):
        return _eight_bits(path) if _is_deep(path) else detection_utils.read_image(path, format=image_format)


def _is_deep(path: str) -> bool:
    if "://" in path:
        return False  # Detectron2 fetches it
    try:
        with Image.open(path) as image:  # reads no pixel
            return image.mode == "F" or image.mode.startswith("I")
    except (OSError, SyntaxError, ValueError):
        return False  # the reader tells why


def _eight_bits(path: str) -> np.ndarray:
    with Image.open(path) as image:
        values, mode = np.asarray(image), image.mode
    if mode == "I" and values.min() >= 0 and values.max() < 2**16:  # as some versions of Pillow read 16 bits
        mode = _SIXTEEN_BITS[0]
    if mode not in _SIXTEEN_BITS:
        kind = "floating-point numbers" if mode == "F" else "32-bit numbers"
        raise UserError(f"image {path} is of {kind}, whose range is not known: save it with 8 or 16 bits")
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def read_labels(path: str, classes: int, ignore_label: int) -> np.ndarray:
    """(H, W) uint8 labels of a training image, float32 if any is above 255, which Detectron2's resizing can move.

    Raises:
        UserError: no label PNG, or labels that are neither one of so many classes nor ignored.
    """
    labels = read_label_png(path)
    if labels.size and labels.max() >= classes:
        strange = np.setdiff1d(labels[labels >= classes], ignore_label)
        if len(strange):
            raise UserError(
                f"{path} has labels {listed(strange.tolist())}, expected 0 to {classes - 1}, or {ignore_label} for "
                "pixels to ignore: correct the file, or the number of classes"
            )
    return labels.astype(np.float32) if labels.dtype == np.uint16 and labels.max() > 255 else labels.astype(np.uint8)
