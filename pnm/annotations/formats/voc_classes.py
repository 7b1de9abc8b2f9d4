"""Pascal VOC's classes and colours, and the ``labelmap.txt`` by which CVAT and Datumaro state others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pnm.annotations.annotation_set import first_twice
from pnm.errors import UserError, listed
from pnm.formats.label_png import decode_label_png, decode_panoptic_png, read_bytes

BACKGROUND, BORDER = 0, 255  # values of no object, and of what isn't evaluated
MOST = 254  # values of classes and of objects are 1 to this
BACKGROUND_NAME = "background"
VOC_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_COLOUR_KINDS = (2, 6)  # of PNGs: with and without alpha
_KIND_AT = 25  # byte of a PNG that has its kind


def voc_palette() -> np.ndarray:
    """(256, 3) uint8: the bits of an index, from the lowest on, go to red, green and blue in turn, highest first."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for bit in range(8):
            if bit * 3 + channel < 8:
                colours[:, channel] |= (((numbers >> (bit * 3 + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


class VocClasses(NamedTuple):
    """What values of SegmentationClass stand for.

    Attributes:
        names: of the values from 0 on, the first being the background.
        colours: (256, 3) uint8 of the values.
        labelmap: text of the file that says so; None: values are indices.
    """

    names: tuple[str, ...]
    colours: np.ndarray
    labelmap: str | None = None


def numbered(names: Sequence[str]) -> VocClasses:
    """Classes in VOC's colours, numbered from 1 on in their order; the background is 0, wherever it stands."""
    others = [name for name in names if name != BACKGROUND_NAME]
    if len(others) > MOST:
        raise UserError(f"there are {len(others)} classes, Pascal VOC's PNGs have place for {MOST}: leave some out")
    return VocClasses((BACKGROUND_NAME, *others), voc_palette())


def read_labelmap(path: Path) -> VocClasses:
    """Classes of lines ``name:red,green,blue:parts:actions``; one in black, or named background, is the background.

    Raises:
        UserError: a line is another, or two have one name or colour.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): expected lines name:red,green,blue::") from None
    rows: list[tuple[str, tuple[int, ...]]] = []
    for n, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            rows.append(_parsed_row(line, f"{path}, line {n}", voc_palette()[len(rows) % 256].tolist()))
    for what, values in (("name", [name for name, _ in rows]), ("colour", [colour for _, colour in rows])):
        twice = first_twice(values)
        if twice is not None:
            raise UserError(f"{path} has the {what} {twice} twice: change one")
    if not rows or len(rows) > MOST:
        raise UserError(f"{path} has {len(rows)} classes, expected 1 to {MOST}, in lines name:red,green,blue::")
    behind = [row for row in rows if row[0] == BACKGROUND_NAME] or [row for row in rows if not any(row[1])]
    rows = [*(behind or [(BACKGROUND_NAME, (0, 0, 0))]), *(row for row in rows if row not in behind)]
    colours = voc_palette()
    colours[: len(rows)] = [colour for _, colour in rows]
    return VocClasses(tuple(name for name, _ in rows), colours, text)


def _parsed_row(line: str, where: str, colour: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Name and colour; ``colour`` if there is none, as Datumaro leaves it out."""
    fields = line.split(":")
    numbers = fields[1].split(",") if len(fields) > 1 else []
    if len(fields) > 1 and not fields[1].strip() and fields[0].strip():
        return fields[0].strip(), tuple(colour)
    values = tuple(int(number) for number in numbers if number.strip().isdecimal())
    if len(values) != 3 or len(numbers) != 3 or max(values) > 255 or not fields[0].strip():
        raise UserError(f"{where} is {line[:60]!r}: expected name:red,green,blue:: with numbers from 0 to 255")
    return fields[0].strip(), values


def labelmap_text(classes: VocClasses) -> str:
    """Text of a ``labelmap.txt``; names must not have colons or line breaks in them."""
    for name in classes.names:
        if ":" in name or name.startswith("#") or len(name.splitlines()) != 1 or name != name.strip():
            raise UserError(f"class {name!r} can't stand in labelmap.txt, whose lines are name:red,green,blue: rename")
    rows = [f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in zip(classes.names, classes.colours.tolist())]
    return "# label:color_rgb:parts:actions\n" + "".join(rows)


def read_values(path: Path, classes: VocClasses, *, count: int = 256) -> np.ndarray:
    """(H, W) uint8 of a PNG: indices of a palette or grey, or what the colours stand for.

    Args:
        classes: whose colours count if they come from a labelmap, even those of a palette.
        count: of the colours that are known, beside the border's.

    Raises:
        UserError: the PNG is damaged or has 16 bits; it has colours that stand for nothing.
    """
    png = read_bytes(path)
    kind = png[_KIND_AT] if len(png) > _KIND_AT else 0
    if kind not in _COLOUR_KINDS and not (classes.labelmap is not None and kind == 3):
        values = decode_label_png(png, path)
        if values.dtype != np.uint8:
            raise UserError(f"{path} has 16 bits, expected a palette PNG as Pascal VOC has them: save it with 8 bits")
        return values
    keys = {_key(colour): value for value, colour in enumerate(classes.colours[:count].tolist())}
    return _of_colours(decode_panoptic_png(png, path), {_key(voc_palette()[BORDER].tolist()): BORDER, **keys}, path)


def _key(colour: Sequence[int]) -> int:
    return colour[0] + (colour[1] << 8) + (colour[2] << 16)


def _of_colours(keys: np.ndarray, values: Mapping[int, int], path: Path) -> np.ndarray:
    present, places = np.unique(keys, return_inverse=True)
    strange = [(key & 255, key >> 8 & 255, key >> 16) for key in present.tolist() if key not in values]
    if strange:
        raise UserError(
            f"{path} has colours that stand for no class or object: {listed(strange, 3)}; expected those of VOC's "
            "palette or of labelmap.txt: add them there"
        )
    table = np.array([values[key] for key in present.tolist()], np.uint8)
    return table[places.reshape(keys.shape)]
