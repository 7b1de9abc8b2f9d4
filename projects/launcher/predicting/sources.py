"""Where pictures come from: image files, or the frames of a video."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from pnm.annotations.annotation_set import AnnotatedImage
from pnm.annotations.formats.coco import image_numbers
from pnm.errors import UserError
from pnm.pictures.picture_files import PictureFiles
from pnm.pictures.pictures import Picture, Toning, read_picture
from pnm.pictures.video import Video
from pnm.predictions.result_folder import ImageId
from pnm.read_ahead import read_ahead

from ...dataset_mappers.reading import read_image

_AHEAD = 2  # images that are read while the model looks at another


class Given(NamedTuple):
    """An image's name, and its picture or why it cannot be read."""

    name: str
    picture: Picture | UserError


class Source(Protocol):
    """Pictures with names and numbers.

    Attributes:
        images: all of them, in order.
        unit: what one is called.
        folder: of the image files, where there is one.
    """

    images: list[ImageId]
    unit: str
    folder: Path | None

    def pictures(self, left_out: Collection[str]) -> Iterator[Given]:
        """Those whose names aren't left out, in order."""


class FileSource:
    """Image files; their numbers are those that they are called by, if all are, else 1, 2, 3, ..., as COCO has it."""

    unit = "image"

    def __init__(self, files: PictureFiles, toning: Toning):
        self._files, self._toning = files, toning
        self.folder: Path | None = files.folder
        numbers = image_numbers([AnnotatedImage(name, 0, 0) for name in files.names])
        self.images = [ImageId(*pair) for pair in zip(files.names, numbers)]

    def pictures(self, left_out: Collection[str]) -> Iterator[Given]:
        return read_ahead(self._given, [name for name in self._files.names if name not in left_out], _AHEAD)

    def _given(self, name: str) -> Given:
        try:
            return Given(name, read_picture(self._files.path(name), self._toning, _read_plain))
        except UserError as error:
            return Given(name, error)
        except OSError as error:
            return Given(name, UserError(f"image {self._files.path(name)} cannot be read ({error.strerror or error})"))


def _read_plain(path: Path) -> np.ndarray:
    """As a mapper reads the file."""
    return read_image(str(path), "RGB")


class VideoSource:
    """Every n-th frame of a video, called <video>_000123.png by its number from 0."""

    unit = "frame"
    folder: Path | None = None

    def __init__(self, video: Video, every: int):
        self._video = video
        name = "{}_{:06d}.png".format
        self._number_of = {name(video.path.stem, n): n for n in range(0, video.frames, every)}
        self.images = [ImageId(*pair) for pair in self._number_of.items()]

    def pictures(self, left_out: Collection[str]) -> Iterator[Given]:
        wanted = {number: name for name, number in self._number_of.items() if name not in left_out}
        for number, pixels in self._video.read(set(wanted)):
            yield Given(wanted.pop(number), Picture(pixels))
        for number, name in wanted.items():
            yield Given(name, UserError(f"frame {number} of {self._video.path} cannot be decoded"))
