"""Pages of pictures, for the tools that draw: a row for each image, a titled column for each kind of picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pnm.errors import UserError

GAP, TITLE = 6, 16  # px
_BAR = 48, 8  # px, width and height of a colour bar
_SIZES = range(12, 6, -1)  # of a title's letters, the largest that fits
_NO_BARS: Mapping[str, np.ndarray] = {}


def picture_format(path: Path) -> str:
    """Pillow's name of the format that the file's ending says; a UserError if it is no picture's."""
    name = Image.registered_extensions().get(path.suffix.lower())
    if name not in Image.SAVE:
        raise UserError(f"--output is {path}, expected the name of a picture, such as *.png or *.jpg")
    return name


def check_positive(**options: int) -> None:
    """A UserError that names the first option below 1."""
    for name, value in options.items():
        if value < 1:
            raise UserError(f"--{name} is {value}, expected a positive number")


def picture_size(image: np.ndarray, width: int) -> tuple[int, int]:
    """(width, height) px of an array (H, W, ...) that is drawn ``width`` px wide, in its proportions."""
    return width, max(1, round(width * image.shape[0] / image.shape[1]))


def draw_page(
    rows: Sequence[Mapping[str, np.ndarray]], width: int, bars: Mapping[str, np.ndarray] = _NO_BARS
) -> Image.Image:
    """A row for each image, its pictures under their titles, ``width`` px each.

    Args:
        rows: at least one, with the same titles each; pictures are (h, w, 3) uint8, RGB.
        bars: pictures of the colours from 0 to 1, drawn beside titles.
    """
    sizes = [[picture_size(picture, width) for picture in row.values()] for row in rows]
    heights = [max(size[1] for size in row) for row in sizes]
    columns = len(rows[0])
    page = Image.new("RGB", (columns * (width + GAP) - GAP, TITLE + sum(heights) + (len(rows) - 1) * GAP), "white")
    for column, title in enumerate(rows[0]):
        page.paste(_title(title, width, bars.get(title)), (column * (width + GAP), 0))
    top = TITLE
    for row, row_sizes, height in zip(rows, sizes, heights, strict=True):
        for column, (picture, size) in enumerate(zip(row.values(), row_sizes, strict=True)):
            drawn = Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
            page.paste(drawn, (column * (width + GAP), top))
        top += height + GAP
    return page


def _title(text: str, width: int, bar: np.ndarray | None) -> Image.Image:
    """A line of text, with a bar at its right end where there is one and room for it."""
    line = Image.new("RGB", (width, TITLE), "white")
    pen = ImageDraw.Draw(line)
    digits = ImageFont.load_default(_SIZES[-1] + 2)
    taken = 0 if bar is None else _BAR[0] + 2 * round(digits.getlength("0")) + 8
    if bar is not None and width >= 2 * taken:
        left, top = width - taken + 4 + round(digits.getlength("0")), (TITLE - _BAR[1]) // 2
        line.paste(Image.fromarray(bar).resize(_BAR), (left, top))
        pen.text((left - 2, TITLE // 2), "0", fill="black", font=digits, anchor="rm")
        pen.text((left + _BAR[0] + 2, TITLE // 2), "1", fill="black", font=digits, anchor="lm")
    else:
        taken = 0
    fonts = [ImageFont.load_default(size) for size in _SIZES]
    font = next((one for one in fonts if one.getlength(text) <= width - taken - 4), fonts[-1])
    pen.text((2, TITLE // 2), text, fill="black", font=font, anchor="lm")
    return line
