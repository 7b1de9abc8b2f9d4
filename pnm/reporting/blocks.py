"""What a page is made of: sections of text, tables, plots and pictures. Texts are plain; the template escapes them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from pnm.reporting.pictures import Picture
from pnm.reporting.plots import Plot
from pnm.scoring.compare import Interval


class Cell(NamedTuple):
    """A cell of a table: its text, a smaller text below, what it is sorted by, and whether it is set in bold."""

    text: str
    below: str = ""
    order: float | str = ""
    bold: bool = False


class Table(NamedTuple):
    """A table with a caption; the first column names the row. ``folded`` ones are opened on demand."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False
    kind: str = "table"


class Text(NamedTuple):
    text: str
    kind: str = "text"


class Bullets(NamedTuple):
    lines: Sequence[str]
    kind: str = "bullets"


class Plots(NamedTuple):
    plots: Sequence[Plot]
    kind: str = "plots"


class Card(NamedTuple):
    """An image or object: its name, what is said of it, and its pictures."""

    name: str
    text: str
    pictures: Sequence[Picture]


class Cards(NamedTuple):
    title: str
    cards: Sequence[Card]
    with_legend: bool = True
    small: bool = False
    kind: str = "cards"


class Beside(NamedTuple):
    """Blocks that stand side by side where there is room."""

    blocks: Sequence[Any]
    kind: str = "beside"


Block = Table | Text | Bullets | Plots | Cards | Beside


class Section(NamedTuple):
    """A section with a short id for the table of contents."""

    id: str
    title: str
    blocks: Sequence[Any]


def percent(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """Percentage points with their sign, which what rounds to 0 doesn't have."""
    text = f"{100 * value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def label_cell(text: str) -> Cell:
    return Cell(text, order=text.lower())


def percent_cell(value: float, digits: int = 2) -> Cell:
    return Cell(percent(value, digits), order="" if math.isnan(value) else value)


def count_cell(value: int) -> Cell:
    return Cell(f"{int(value):,}".replace(",", "\u202f"), order=int(value))


def interval_cell(entry: Interval, *, is_difference: bool = False) -> Cell:
    """The value with its interval below; a difference has a sign, and is bold if its interval leaves 0 out."""
    if math.isnan(entry.value):
        return Cell("–")
    text = signed(entry.value, 2) if is_difference else percent(entry.value)
    below = f"{percent(entry.low)} … {percent(entry.high)}".replace("-", "−")
    is_sure = is_difference and (entry.low > 0 or entry.high < 0)
    return Cell(text.replace("-", "−"), below, entry.value, is_sure)


def share(part: float, whole: float) -> float:
    """nan of nothing."""
    return float(part / whole) if whole else float("nan")
