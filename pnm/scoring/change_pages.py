"""A page of what changed between two panoptic results: image, before, after, and the changes, a row for each image.

An example of how segments get their outlines, with 2 chosen::

    labels       1 1 1 1 1 1
                 1 2 2 2 2 2
                 1 2 2 2 2 2
                 1 2 2 2 2 2
    outlined     . . . . . .
                 . 2 2 2 2 2      at the right and lower frame of the image it is open
                 . 2 . . . .
                 . 2 . . . .
"""

import colorsys
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pnm.errors import UserError

GAP, TITLE, LEGEND, CAPTION, TEXT = 6, 22, 28, 20, 14  # px
TITLES = ("image", "before", "after", "changes")
CHANGE_COLOURS = {  # in the order in which they are drawn: later ones lie on top
    "deleted": (225, 35, 35),
    "merged": (150, 60, 220),
    "split": (255, 140, 0),
    "re-classed": (30, 100, 245),
    "inserted": (10, 165, 60),
}
_GOLDEN, _FEW = 0.6180339887498949, 256
_OPACITY, _PALE = 0.55, 0.5


class ChangedImage(NamedTuple):
    """A row of the page.

    Attributes:
        caption: in one line.
        image: (H, W, 3) uint8, RGB.
        before, after: (H, W) segment ids, 0 = void; a segment that both have is of one id.
        changed: ids for the names in ``CHANGE_COLOURS``: those of "deleted" in ``before``, others in ``after``.
    """

    caption: str
    image: np.ndarray
    before: np.ndarray
    after: np.ndarray
    changed: Mapping[str, Collection[int]]


def colour_segments(labels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: a colour for each id, the same on every image, black for void; neighbouring ids differ much."""
    ids, index = np.unique(labels, return_inverse=True)
    return np.array([_colour(number) for number in ids.tolist()], np.uint8).reshape(-1, 3)[index.reshape(labels.shape)]


def _colour(number: int) -> tuple[int, int, int]:
    if number == 0:
        return 0, 0, 0
    # Steps of the golden ratio keep small ids apart; ids that are colours of a PNG would fall together in them.
    place = number if number < _FEW else zlib.crc32(number.to_bytes(8, "little"))
    saturation, value = 0.85 if place % 3 else 0.55, 1.0 if place % 2 else 0.75
    red, green, blue = colorsys.hsv_to_rgb(place * _GOLDEN % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def outlines(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels beside a lower id, void's being the lowest, across corners, too: a line along each edge."""
    values = labels.astype(np.float64)  # holds all ids; OpenCV has no morphology of int64
    return cv2.erode(values, np.ones((3, 3), np.uint8)) < values


def draw_segments(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the image under its segments' colours and white outlines; void shows the image."""
    page = _blended(image, colour_segments(labels), labels > 0)
    page[outlines(labels)] = 255
    return page


def draw_changes(
    image: np.ndarray, before: np.ndarray, after: np.ndarray, changed: Mapping[str, Collection[int]]
) -> np.ndarray:
    """(H, W, 3) uint8: the image in pale grey, under changed segments in the colours of ``CHANGE_COLOURS``.

    Args:
        before, after, changed: as in :class:`ChangedImage`.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    page = np.repeat((255 - _PALE * (255 - grey.astype(np.float64))).astype(np.uint8)[..., None], 3, axis=2)
    chosen: dict[str, np.ndarray] = {}
    colours = page.copy()
    for kind, colour in CHANGE_COLOURS.items():
        labels = before if kind == "deleted" else after
        chosen[kind] = np.where(np.isin(labels, list(changed.get(kind, ()))), labels, 0)
        colours[chosen[kind] > 0] = colour
    page = _blended(page, colours, np.any([labels > 0 for labels in chosen.values()], axis=0))
    for kind, colour in CHANGE_COLOURS.items():  # after all areas, so that none hides an outline
        lines = cv2.dilate(outlines(chosen[kind]).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        page[lines & (chosen[kind] > 0)] = colour
    return page


def _blended(image: np.ndarray, colours: np.ndarray, mask: np.ndarray) -> np.ndarray:
    mixed = (1 - _OPACITY) * image + _OPACITY * colours
    return np.where(mask[..., None], np.rint(mixed).astype(np.uint8), image)


def draw_row(row: ChangedImage, width: int) -> list[np.ndarray]:
    """The four pictures of an image, each (height, width, 3) uint8 in the image's proportions.

    Raises:
        UserError: the image is of another size than its segments.
    """
    if row.image.shape[:2] != row.before.shape:
        sizes = ["{} x {}".format(*array.shape[:2]) for array in (row.image, row.before)]
        raise UserError(f"{row.caption}: the image is {sizes[0]}, its segments {sizes[1]}: they don't belong together")
    size = width, max(1, round(width * row.image.shape[0] / row.image.shape[1]))
    image = np.asarray(Image.fromarray(row.image).resize(size, Image.Resampling.BICUBIC))
    before, after = (resized_labels(labels, size) for labels in (row.before, row.after))
    changes = draw_changes(image, before, after, row.changed)
    return [image, draw_segments(image, before), draw_segments(image, after), changes]


def resized_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each pixel has the label of the one that its centre lies in."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size[::-1], labels.shape)
    )
    return labels[rows[:, None], columns]


def draw_page(rows: Sequence[ChangedImage], width: int) -> Image.Image:
    """A legend, titles of the columns, and the rows under their captions.

    Args:
        rows: at least one.
        width: of a picture, in pixels.
    """
    pictures = [draw_row(row, width) for row in rows]
    heights = [row[0].shape[0] for row in pictures]
    page = Image.new(
        "RGB", (len(TITLES) * (width + GAP) - GAP, LEGEND + TITLE + sum(heights) + len(rows) * (CAPTION + GAP)), "white"
    )
    pen = ImageDraw.Draw(page)
    pen.font = ImageFont.load_default(TEXT)
    _draw_legend(pen)
    for column, title in enumerate(TITLES):
        pen.text((column * (width + GAP) + 2, LEGEND + 3), title, fill="black")
    y = LEGEND + TITLE
    for row, row_pictures, height in zip(rows, pictures, heights, strict=True):
        pen.text((2, y + 2), row.caption, fill=(90, 90, 90))
        for column, picture in enumerate(row_pictures):
            page.paste(Image.fromarray(picture), (column * (width + GAP), y + CAPTION))
        y += height + CAPTION + GAP
    return page


def _draw_legend(pen: ImageDraw.ImageDraw) -> None:
    x, top, side = 2, 6, LEGEND - 12
    for kind, colour in reversed(CHANGE_COLOURS.items()):
        pen.rectangle((x, top, x + side, top + side), fill=colour)
        pen.text((x + side + 6, top - 1), kind, fill="black")
        x += side + 6 + round(pen.textlength(kind)) + 18
