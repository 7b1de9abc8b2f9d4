"""Images read for a mapper; a file that cannot be read is told by its name."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from detectron2.data import detection_utils
from PIL import UnidentifiedImageError

from pnm.errors import UserError


@contextmanager
def errors_that_name(files: Iterable[str]) -> Iterator[None]:
    """Turns whatever is raised while ``files`` are read into one line that names them."""
    files = list(files)
    try:
        yield
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow on a broken PNG
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        named = [file for file in files if file in cause]
        if isinstance(error, UnidentifiedImageError):
            files, named, cause = named or files, [], "not an image"
        if not named:
            cause = f"cannot read {' with '.join(files)}: {cause}; restore the file or remove it from the data set"
        raise UserError(cause) from error


def read_image(path: str, image_format: str) -> np.ndarray:
    """(H, W, 3) uint8, channels in the order of ``image_format``, upright as its EXIF data say.

    Raises:
        UserError: a file that is missing or damaged.
    """
    with errors_that_name([path]):
        return detection_utils.read_image(path, format=image_format)
