"""Plots as inline SVG, whose text stays text, in colours that all people can tell apart."""

import io
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from pnm.reporting.colours import BLACK, SIDES, VERMILLION
from pnm.scoring.compare import Interval

WIDTH = 5.4  # inches of 96 px: a plot is as wide as the screen of a telephone, and two fit beside each other elsewhere
_PALE = 0.35
_LEVEL = 7  # characters of a name that fits below a column
_NAME = 26  # characters of a name in a plot
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # names of classes are no formulas
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


class Plot(NamedTuple):
    """A plot of a page.

    Attributes:
        svg: inline, without anything outside of it.
        alt: what it shows, for those who don't see it.
        caption: the same in a sentence for those who do.
        is_wide: whether it needs more room than others.
    """

    svg: str
    alt: str
    caption: str
    is_wide: bool = False


def shortened(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"


def _as_svg(figure: Figure, name: str) -> str:
    """The figure's SVG element; ids in it begin with the plot's ``name``, so that those of two plots differ."""
    text = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # text stays text: the browser has the glyph
        figure.savefig(text, format="svg", bbox_inches="tight", pad_inches=0.05, metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', lambda match: f"{match[1]}{name}-", svg)
    return re.sub(r"^<svg ", '<svg aria-hidden="true" focusable="false" ', svg)


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.add_subplot()


def forest(rows: Sequence[tuple[str, Interval]], name: str, axis: str) -> str:
    """Differences with their intervals, one below the other; those that leave 0 out are filled.

    Args:
        rows: names and differences in 0..1.
        name: of the plot in the page.
        axis: what is on the axis.
    """
    with rc_context(_STYLE):
        figure, axes = _figure(0.9 + 0.24 * len(rows))
        for y, (_, entry) in enumerate(rows):
            value, low, high = (100 * part for part in entry)
            colour = BLACK if not excludes_zero(entry) else SIDES[0] if value > 0 else VERMILLION
            axes.plot([low, high], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([value], [y], "o", color=colour, markersize=5, fillstyle="full" if colour != BLACK else "none")
        axes.axvline(0, color="#777777", linewidth=0.8)
        axes.set_yticks(range(len(rows)), [shortened(label) for label, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(axis)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.tick_params(axis="y", length=0)
    return _as_svg(figure, name)


def excludes_zero(entry: Interval) -> bool:
    """Whether all of a difference's interval lies on one side of 0."""
    return bool(entry.low > 0 or entry.high < 0)


def bars(
    labels: Sequence[str],
    sides: Sequence[Sequence[float]],
    name: str,
    x: str,
    y: str,
    pale: Sequence[Sequence[bool]] | None = None,
) -> str:
    """Bars of one or two predictions, in percent, with their values written above them.

    Args:
        labels: of the groups.
        sides: for each prediction, a value in 0..1 of each group; nan where there is none.
        name: of the plot in the page.
        x, y: what is on the axes.
        pale: bars that tell little, of few pixels.
    """
    with rc_context(_STYLE):
        figure, axes = _figure(2.9)
        width = 0.8 / len(sides)
        for n, values in enumerate(sides):
            places = np.arange(len(labels)) + (n - (len(sides) - 1) / 2) * width
            heights = [0.0 if math.isnan(value) else 100 * value for value in values]
            drawn = axes.bar(places, heights, width * 0.92, color=SIDES[n], label="AB"[n])
            for bar, is_pale in zip(drawn, pale[n] if pale else ()):
                bar.set_alpha(_PALE if is_pale else 1)
            for place, height, value in zip(places, heights, values):
                text = "–" if math.isnan(value) else _short(height)
                above: Any = {"textcoords": "offset points", "ha": "center", "fontsize": 8 if len(sides) == 1 else 6.5}
                axes.annotate(text, (place, height), (0, 2), **above)
        axes.set_xticks(range(len(labels)), labels)
        axes.margins(y=0.12)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        if len(sides) > 1:
            axes.legend(frameon=False, ncols=2, loc="upper right", bbox_to_anchor=(1, 1.12))
    return _as_svg(figure, name)


def _short(percent: float) -> str:
    return f"{percent:.0f}" if percent >= 9.95 or percent == 0 else f"{percent:.1f}" if percent >= 0.05 else "<0.1"


def heat(shares: np.ndarray, rows: Sequence[str], columns: Sequence[str], name: str) -> str:
    """A matrix of shares in 0..1, the larger the darker, with percents in the cells where they fit.

    Args:
        shares: (R, C); nan where a row has nothing.
    """
    with rc_context(_STYLE):
        side = min(WIDTH, 1.6 + 0.42 * len(columns))
        figure = Figure(figsize=(side, side * (len(rows) + 1) / (len(columns) + 1)))
        axes = figure.add_subplot()
        axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        size = 8 if len(columns) <= 12 else 6.5
        for y, x in zip(*np.nonzero(np.nan_to_num(shares) >= 0.005)) if len(columns) <= 16 else ():
            colour = "white" if shares[y, x] > 0.5 else "black"
            axes.text(x, y, f"{100 * shares[y, x]:.0f}", ha="center", va="center", fontsize=size, color=colour)
        turned = max(map(len, columns)) > _LEVEL
        axes.set_xticks(range(len(columns)), [shortened(c) for c in columns], rotation=90 if turned else 0)
        axes.set_yticks(range(len(rows)), [shortened(r) for r in rows])
        axes.tick_params(length=0, labelsize=9)
        axes.set_xlabel("prediction")
        axes.set_ylabel("truth")
    return _as_svg(figure, name)


def reliability(sides: Sequence[np.ndarray], name: str) -> str:
    """Share of right detections by score, the area of a dot being their number.

    Args:
        sides: for each prediction, (B, 3) mean score, share of right ones and number of each interval of scores.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH * 0.8, WIDTH * 0.72))
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.8, linestyle="--", label="score = share")
        for n, rows in enumerate(sides):
            rows = rows[rows[:, 2] > 0]
            axes.plot(rows[:, 0], rows[:, 1], color=SIDES[n], linewidth=1.4, label="AB"[n])
            sizes = 12 + 120 * np.sqrt(rows[:, 2] / max(1.0, rows[:, 2].max(initial=1)))
            face = "white" if len(sides) > 1 and n == 0 else SIDES[n]
            axes.scatter(rows[:, 0], rows[:, 1], sizes * (2 - n), face, edgecolors=SIDES[n], zorder=3 + n)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score", ylabel="share of right detections")
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.legend(frameon=False, loc="upper left")
    return _as_svg(figure, name)
