"""The image file that a prediction belongs to."""

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pnm.errors import UserError, listed
from pnm.formats.cityscapes import frame_name
from pnm.formats.coco_instances import read_json
from pnm.formats.folders import IMAGE_ENDINGS, files_below
from pnm.formats.semantic_maps import image_name

Key = int | str  # of an image, in result files
logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d+)$")
_CITYSCAPES = "_leftImg8bit"
_SHOWN = 10


class ImageFiles:
    """Finds image files in a folder and the folders in it, which are listed once.

    An image belongs to a prediction if

    - ``image_info`` lists the prediction's key as an id: the file has the name given there;
    - the key is a number: so is the file name, with any zeros before it (``42.jpg``, ``000000000042.jpg``; also as COCO
      named its images of 2014);
    - the key is text, the name of an image, of a label or result file, or a stem: the file has the same stem. Of files
      in several folders, it is the one whose folders agree with the key's, from the last one up. Of a Cityscapes
      frame, ``CITY_000000_000019...``, the image is that with ``_leftImg8bit`` after it; of names that no image has,
      the image is that of :func:`pnm.formats.semantic_maps.image_name`.

    A key that is an absolute path to a file is the image. A relative one that isn't found in the folder may lead there
    from the working directory.

    Args:
        folder: of the images.
        image_info: a JSON with ``"images": [{"id", "file_name", "height", "width"}, ...]``, as COCO's annotations.

    Attributes:
        sizes: (height, width) of each id in ``image_info``, where it says them.

    Raises:
        FileNotFoundError: no such folder or file.
        UserError: ``image_info`` is not such a JSON, or has an id twice.
    """

    def __init__(self, folder: str | Path, image_info: str | Path | None = None):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder: expected one with images")
        self._by_stem: dict[str, list[PurePosixPath]] = {}
        self._by_number: dict[int, list[PurePosixPath]] = {}
        self._by_frame: dict[str, list[PurePosixPath]] = {}
        for path in map(PurePosixPath, files_below(self.folder, *IMAGE_ENDINGS)):
            self._by_stem.setdefault(path.stem, []).append(path)
            self._by_frame.setdefault(path.stem.removesuffix(_CITYSCAPES), []).append(path)
            number = _NUMBER.match(path.stem)
            if number:
                self._by_number.setdefault(int(number[1]), []).append(path)
        self._names, self.sizes = _read_info(Path(image_info)) if image_info is not None else ({}, {})

    def find(self, key: Key) -> Path | None:
        """The image of a prediction, or None.

        Raises:
            UserError: two images fit; the message names both.
        """
        if key in self._names:
            return self._named(self._names[key], key)
        if isinstance(key, int):
            return self._only(self._by_number.get(key, []), key)
        return self._named(key, key)

    def path(self, key: Key) -> Path:
        """The image of a prediction.

        Raises:
            UserError: there is none, or two fit.
        """
        image = self.find(key)
        if image is None:
            wanted = f", {self._names[key]}" if key in self._names else ""
            raise UserError(f"image {key}{wanted} is not in {self.folder}: check the folder and the image names")
        return image

    def _named(self, name: str, key: Key) -> Path | None:
        if os.path.isabs(name) and os.path.isfile(name):
            return Path(name)
        wanted = PurePosixPath(name.replace("\\", "/"))
        fitting = self._by_stem.get(wanted.name) or self._by_stem.get(wanted.stem)
        fitting = fitting or self._by_frame.get(frame_name(wanted.name) or image_name(wanted.name)) or []
        if key in self._names or wanted.suffix != ".png":  # a label PNG is not to be its own image
            fitting = [path for path in fitting if path.name == wanted.name] or fitting
        image = self._only(_nearest(fitting, wanted), key)
        return Path(name) if image is None and os.path.isfile(name) else image

    def _only(self, fitting: list[PurePosixPath], key: Key) -> Path | None:
        if len(fitting) > 1:
            both = " and ".join(str(self.folder / path) for path in fitting[:2])
            raise UserError(f"{both} both fit image {key}: keep one of them in {self.folder}, or name a folder in it")
        return self.folder / fitting[0] if fitting else None


def check_no_image(output: Path, folder: Path) -> None:
    """A UserError if a picture that is to be written would take the place of one in a folder of images."""
    if output.is_file() and folder.resolve() in output.resolve().parents:
        raise UserError(f"{output} is one of the images in {folder} and would be overwritten: name another file")


def missing_images(predictions: Iterable[Key] | Any, images: ImageFiles) -> list[Key]:
    """Keys of the predictions whose image isn't there, in their order; the first ten are logged.

    Args:
        predictions: a :class:`pnm.predictions.prediction_set.PredictionSet`, or keys.

    Raises:
        UserError: two images fit a prediction.
    """
    missing = [key for key in getattr(predictions, "keys", predictions) if images.find(key) is None]
    if missing:
        logger.warning("%d predictions have no image in %s: %s", len(missing), images.folder, listed(missing, _SHOWN))
    return missing


def _nearest(fitting: list[PurePosixPath], wanted: PurePosixPath) -> list[PurePosixPath]:
    """Those of the paths that have most folders, from the last one up, in common with ``wanted``."""

    def shared(path: PurePosixPath) -> int:
        pairs = list(zip(reversed(path.parent.parts), reversed(wanted.parent.parts)))
        return next((n for n, (one, other) in enumerate(pairs) if one != other), len(pairs))

    most = max(map(shared, fitting), default=0)
    return [path for path in fitting if shared(path) == most]


def _read_info(path: Path) -> tuple[dict[Key, str], dict[Key, tuple[int, int]]]:
    expected = '{"images": [{"id": ..., "file_name": ..., "height": ..., "width": ...}, ...]}'
    content = read_json(path, expected)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise UserError(f"{path} has no list of images: expected {expected}")
    names: dict[Key, str] = {}
    sizes: dict[Key, tuple[int, int]] = {}
    for n, image in enumerate(images):
        key, name = (image.get("id"), image.get("file_name")) if isinstance(image, dict) else (None, None)
        if not isinstance(key, (int, str)) or not isinstance(name, str):
            raise UserError(f"{path}: images[{n}] is {str(image)[:80]}, expected {expected}")
        if key in names:
            raise UserError(f"{path} lists image {key} twice: remove one")
        names[key] = name
        side = image.get("height"), image.get("width")
        if type(side[0]) is int and type(side[1]) is int:
            sizes[key] = side
    return names, sizes
