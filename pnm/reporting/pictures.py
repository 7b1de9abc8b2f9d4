"""Small pictures of images, label maps and errors, as data URIs."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from pnm.reporting.colours import CORRECT, FALSE, MISSED, WRONG_AREA, rgb
from pnm.scoring.change_pages import draw_segments, outlines, resized_labels
from pnm.scoring.error_survey import Scene

SIDE = 320  # px, of the longer side of a picture
_GREY, _PALE, _TINT, _QUALITY = 128, 0.45, 0.6, 80
_WIDE_FROM = 2.5  # px of a picture for a pixel of the map: lines become three pixels wide
_LEAST_PATCH, _PATCH_SHARE = 48, 0.2  # px, and part of the longer side


class Picture(NamedTuple):
    """A picture of a page.

    Attributes:
        title: in a word or two.
        uri: ``data:image/jpeg;base64,...``.
        width, height: in px.
        alt: what it shows.
    """

    title: str
    uri: str
    width: int
    height: int
    alt: str


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` - 1 and columns ``left`` to ``right`` - 1."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, array: np.ndarray) -> np.ndarray:
        return array[self.top : self.bottom, self.left : self.right]


class Photograph(NamedTuple):
    """An image beside its maps.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, of the size of the maps; grey without a file.
        is_there: whether there is more than grey.
        remark: what is wrong with the file, or "".
    """

    pixels: np.ndarray
    is_there: bool
    remark: str


def read_photograph(path: Path | None, shape: tuple[int, int]) -> Photograph:
    """Reads an image; ``shape`` is (H, W) of its maps, as which it is resized if it has another size.

    Images of 16 bits are brought to 8 by their own range. A file that can't be read doesn't end a report whose numbers
    are there: it is remarked on.
    """
    grey = np.full((*shape, 3), _GREY, np.uint8)
    if path is None:
        return Photograph(grey, False, "")
    try:
        with Image.open(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode[0] in "IF":
                values = np.asarray(image, np.float64)
                low, high = float(values.min()), float(values.max())
                image = Image.fromarray(((values - low) * (255 / max(high - low, 1))).astype(np.uint8))
            image, size = image.convert("RGB"), image.size
            if size == shape[::-1]:
                return Photograph(np.array(image), True, "")
            image = image.resize(shape[::-1], Image.Resampling.BICUBIC)
            return Photograph(
                np.array(image), True, f"{path} is {size[1]} × {size[0]}, its maps {shape[0]} × {shape[1]}"
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # as Pillow's readers raise them
        return Photograph(grey, False, f"{path} can't be read")


def fitted(shape: tuple[int, ...], side: int = SIDE) -> tuple[int, int]:
    """(width, height) in which the longer side is ``side``."""
    scale = side / max(shape[:2])
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def resized_photograph(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) uint8 of ``size`` (width, height)."""
    method = Image.Resampling.BICUBIC if size[0] > image.shape[1] else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize(size, method))


def resized_scene(scene: Scene, size: tuple[int, int]) -> Scene:
    """Maps of ``size`` (width, height); each pixel has what the one that its centre lies in has."""
    return Scene(*(resized_labels(part, size) for part in scene))


def worst_patch(wrong: np.ndarray) -> Box:
    """The square with most wrong pixels, a fifth of the longer side of the (H, W) map large, within it."""
    height, width = wrong.shape
    side = max(_LEAST_PATCH, round(_PATCH_SHARE * max(height, width)))
    rows, columns = min(side, height), min(side, width)
    sums = cv2.integral(wrong.astype(np.uint8))
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = (int(n) for n in np.unravel_index(int(inside.argmax()), inside.shape))
    return Box(top, left, top + rows, left + columns)


def _thick(lines: np.ndarray, reach: int) -> np.ndarray:
    return cv2.dilate(lines.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0


def error_map(image: np.ndarray, scene: Scene, scale: float = 1) -> np.ndarray:
    """(H, W, 3) uint8: the image in pale grey; wrong pixels tinted; boundaries that truth and prediction have within a
    pixel of each other, that the truth alone has, and that the prediction alone has, in the colours of the legend.

    Args:
        scale: pixels of the picture for each pixel of the maps that it was made of, where it is enlarged.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float64)
    page = np.repeat((255 - _PALE * (255 - grey))[..., None], 3, axis=2)
    page[~scene.looked] = 255 - 0.4 * (255 - page[~scene.looked])
    page[scene.wrong] = (1 - _TINT) * page[scene.wrong] + _TINT * np.array(rgb(WRONG_AREA))
    true, predicted = outlines(scene.truth), outlines(scene.pred)
    reach, pen = max(1, round(scale)), int(scale >= _WIDE_FROM)
    near_true, near_predicted = _thick(true, reach), _thick(predicted, reach)
    page[_thick(true & near_predicted, pen)] = rgb(CORRECT)
    page[_thick(predicted & ~near_true, pen)] = rgb(FALSE)
    page[_thick(true & ~near_predicted, pen)] = rgb(MISSED)
    return np.rint(page).astype(np.uint8)


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the image under its segments' colours and white outlines."""
    return draw_segments(image, labels)


def picture(pixels: np.ndarray, title: str, alt: str) -> Picture:
    """A picture of (H, W, 3) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(title, uri, pixels.shape[1], pixels.shape[0], alt)
