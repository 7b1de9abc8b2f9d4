"""A prediction drawn over its image: masks in colours, outlines, names and scores."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from pnm.masks.colours import colour_labels
from pnm.masks.crops import MaskCrop, crop_segments

OPACITY = 0.45
_LEAST_AREA = 0.002  # of the image: a smaller segment has no name on it, which would hide it
_TEXT, _LEAST_TEXT = 0.016, 0.35  # font size, to the root of the image's longer side in px, and at least
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_QUALITY = 90  # of JPEGs


def colour_of(number: int) -> tuple[int, int, int]:
    """RGB of the object or class of a number from 0; neighbours in number differ."""
    red, green, blue = colour_labels(np.array([[number + 1]]))[0, 0].tolist()
    return red, green, blue


def draw_objects(image: np.ndarray, masks: Sequence[MaskCrop], names: Sequence[str]) -> np.ndarray:
    """(H, W, 3) uint8: an image under objects that may overlap, each in a colour of its own; the first lie on top.

    Args:
        image: (H, W, 3) uint8.
        masks: crops of the image.
        names: what is written on each; "" for nothing.
    """
    picture = image.copy()
    order = range(len(masks) - 1, -1, -1)
    for n in order:
        lay_mask(picture, masks[n], colour_of(n))
    for n in order:
        if names[n] and masks[n].pixels.size:
            _write(picture, names[n], _inner_point(masks[n]), colour_of(n))
    return picture


def draw_segments(
    image: np.ndarray, labels: np.ndarray, names: Mapping[int, str], colours: Mapping[int, int] | None = None
) -> np.ndarray:
    """(H, W, 3) uint8: an image under the segments of a label map; labels without a name stay as they are.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) integers.
        names: of the segments, by their labels.
        colours: the number that each segment's colour is of (:func:`colour_of`), where that isn't its place.
    """
    picture, segments = image.copy(), list(names)
    crops = crop_segments(labels, segments)
    numbers = [colours[label] if colours else n for n, label in enumerate(segments)]
    for crop, number in zip(crops, numbers):
        if crop.pixels.size:
            lay_mask(picture, crop, colour_of(number))
    for crop, number, label in zip(crops, numbers, segments):
        if np.count_nonzero(crop.pixels) >= _LEAST_AREA * labels.size:
            _write(picture, names[label], _inner_point(crop), colour_of(number))
    return picture


def lay_mask(picture: np.ndarray, mask: MaskCrop, colour: tuple[int, int, int]) -> None:
    """Colours the pixels of a mask in a picture (H, W, 3) uint8, and draws its outline."""
    height, width = mask.pixels.shape
    window = picture[mask.top : mask.top + height, mask.left : mask.left + width]
    mixed = (1 - OPACITY) * window[mask.pixels] + OPACITY * np.array(colour)
    window[mask.pixels] = np.rint(mixed).astype(np.uint8)
    shapes, _ = cv2.findContours(
        mask.pixels.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(mask.left, mask.top)
    )
    cv2.drawContours(picture, shapes, -1, colour, max(1, max(picture.shape) // 600), cv2.LINE_AA)


def _inner_point(mask: MaskCrop) -> tuple[int, int]:
    """(x, y) of the pixel of a mask that is farthest from its outline, where a name covers least of others."""
    framed = np.pad(mask.pixels.astype(np.uint8), 1)
    y, x = np.unravel_index(int(cv2.distanceTransform(framed, cv2.DIST_L2, 3).argmax()), framed.shape)
    return int(x) - 1 + mask.left, int(y) - 1 + mask.top


def _write(picture: np.ndarray, text: str, centre: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """White text on a ground of the object's dark colour, moved inside of the picture."""
    text = text.encode("ascii", "replace").decode()  # what OpenCV's font has
    scale = max(_LEAST_TEXT, _TEXT * max(picture.shape[:2]) ** 0.5)
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    rows, columns = picture.shape[:2]
    left = min(max(centre[0] - width // 2, 1), max(1, columns - width - 2))
    foot = min(max(centre[1] + height // 2, height + 2), max(height + 2, rows - below - 1))
    ground = picture[max(0, foot - height - 2) : foot + below, max(0, left - 1) : left + width + 1]
    ground[:] = (0.35 * ground + 0.65 * 0.35 * np.array(colour)).astype(np.uint8)
    thickness = max(1, round(scale * 1.2))
    cv2.putText(picture, text, (left, foot), _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)


def encode_jpeg(picture: np.ndarray) -> bytes:
    """A JPEG of (H, W, 3) uint8, RGB."""
    done, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return content.tobytes()
