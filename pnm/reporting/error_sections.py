"""The sections of errors: by distance to the boundary, by weight, by size, and what was taken for what."""

import math
from collections.abc import Sequence

import numpy as np

from pnm.metrics.error_counts import DISTANCE_EDGES_PX, FALSE, MISSED, PIXELS, SIZE_EDGES_PX, WEIGHT_EDGES, ErrorCounts
from pnm.reporting.blocks import (
    Block,
    Bullets,
    Cell,
    Plots,
    Section,
    Table,
    Text,
    count_cell,
    label_cell,
    percent,
    percent_cell,
    share,
)
from pnm.reporting.plots import Plot, bars, heat

DISTANCES = [f"≤ {edge}" for edge in DISTANCE_EDGES_PX] + [f"> {DISTANCE_EDGES_PX[-1]}"]
WEIGHTS = ["1"] + [f"≤ {edge:g}" for edge in WEIGHT_EDGES[1:]] + [f"> {WEIGHT_EDGES[-1]:g}"]
_SHORT_DISTANCES, _SHORT_WEIGHTS = ([label.removeprefix("≤ ") for label in labels] for labels in (DISTANCES, WEIGHTS))
SIZES = ("small", "medium", "large")
SHOWN_CLASSES, SHOWN_CONFUSIONS = 24, 40
_NEAR_BAND = 3  # bands up to 4 px
_FEW, _MANY = 0.001, 10
_FEW_REMARK = " Pale bars are of less than 0.1 % of the pixels."


def _letters(sides: Sequence[ErrorCounts]) -> list[str]:
    return [f" {'AB'[n]}" if len(sides) > 1 else "" for n in range(len(sides))]


def _rates(looked: np.ndarray, wrong: np.ndarray) -> list[float]:
    return [share(w, p) for w, p in zip(wrong.tolist(), looked.tolist())]


def _is_few(pixels: np.ndarray) -> list[bool]:
    return ((pixels > 0) & (pixels < _FEW * pixels.sum())).tolist()


def whole_error(counts: ErrorCounts) -> int:
    return int(counts.ways.sum())


def errors_section(sides: Sequence[ErrorCounts], ways: Sequence[str], remarks: Sequence[str], pixels: str) -> Section:
    """Where the errors lie; ``pixels`` says which are looked at."""
    if not any(one.distances[PIXELS].any() for one in sides):
        return Section(
            "errors", "Where the errors lie", [Text(f"There are no {pixels} to look at."), Bullets([*remarks])]
        )
    blocks: list[Block] = [Bullets([*_sentences(sides, pixels), *remarks])]
    blocks.append(Plots([_rate_plot(sides), _share_plot(sides), _weight_plot(sides)]))
    blocks += [_distance_table(sides, ways), _near_table(sides), _weight_table(sides), _size_table(sides)]
    return Section("errors", "Where the errors lie", blocks)


def _sentences(sides: Sequence[ErrorCounts], pixels: str) -> list[str]:
    lines = []
    for letter, one in zip(_letters(sides), sides):
        looked, wrong = int(one.distances[PIXELS].sum()), whole_error(one)
        near = share(one.near[0, 1], wrong)
        lines.append(
            f"{letter.strip() + ': ' if letter else ''}{percent(share(wrong, looked))} % of the {pixels} are wrong; "
            f"{percent(near, 1)} % of these errors lie within the boundary's width, on "
            f"{percent(share(one.near[0, 0], looked), 1)} % of these pixels."
        )
    return lines


def _rate_plot(sides: Sequence[ErrorCounts]) -> Plot:
    rates = [_rates(one.distances[PIXELS].sum(axis=0), one.ways.sum(axis=0)) for one in sides]
    caption = "Wrong pixels of those at each distance from the true boundary, in percent."
    if not math.isnan(rates[0][0]):
        caption += f" Beside the boundary it is {percent(rates[0][0], 1)} %{' for A' if len(sides) > 1 else ''}."
    pale = [_is_few(one.distances[PIXELS].sum(axis=0)) for one in sides]
    if np.any(pale):
        caption += _FEW_REMARK
    plot = bars(_SHORT_DISTANCES, rates, "rates", "distance to the true boundary (px), up to", "wrong (%)", pale)
    return Plot(plot, caption, caption)


def _share_plot(sides: Sequence[ErrorCounts]) -> Plot:
    shares = [[share(n, whole_error(one)) for n in one.ways.sum(axis=0).tolist()] for one in sides]
    first = share(sides[0].ways[:, :_NEAR_BAND].sum(), whole_error(sides[0]))
    caption = f"Share of all errors at each distance; {percent(first, 0)} % lie within {DISTANCE_EDGES_PX[2]} px"
    caption += " (A)." if len(sides) > 1 else "."
    plot = bars(_SHORT_DISTANCES, shares, "shares", "distance to the true boundary (px), up to", "of all errors (%)")
    return Plot(plot, caption, caption)


def _weight_plot(sides: Sequence[ErrorCounts]) -> Plot:
    rates = [_rates(*one.weights) for one in sides]
    caption = "Wrong pixels by the weight that the pixel null model gives them (as in Fig. 5 of the PNM paper)."
    pale = [_is_few(one.weights[0]) for one in sides]
    if np.any(pale):
        caption += _FEW_REMARK
    return Plot(bars(_SHORT_WEIGHTS, rates, "weights", "weight 1 − ln PNM, up to", "wrong (%)", pale), caption, caption)


def _distance_table(sides: Sequence[ErrorCounts], ways: Sequence[str]) -> Table:
    headers = ["distance (px)"]
    for letter in _letters(sides):
        headers += [f"pixels{letter}", f"wrong{letter}", f"rate{letter} (%)", *(f"{way}{letter}" for way in ways)]
    rows = []
    for band, label in enumerate([*DISTANCES, "all"]):
        row = [Cell(label, order=band)]
        for one in sides:
            chosen = slice(None) if band == len(DISTANCES) else slice(band, band + 1)
            looked, of_way = one.distances[PIXELS][:, chosen].sum(), one.ways[:, chosen].sum(axis=1)
            row += [count_cell(looked), count_cell(of_way.sum()), percent_cell(share(of_way.sum(), looked))]
            row += [count_cell(n) for n in of_way.tolist()]
        rows.append(row)
    return Table("Errors by distance to the true boundary, and what kind they are", headers, rows)


def _near_table(sides: Sequence[ErrorCounts]) -> Table:
    headers = ["where"]
    for letter in _letters(sides):
        headers += [f"pixels{letter}", f"wrong{letter}", f"rate{letter} (%)", f"of all errors{letter} (%)"]
    rows = []
    for n, label in enumerate(("within the boundary's width", "interior")):
        row = [label_cell(label)]
        for one in sides:
            looked, wrong = one.near[n].tolist()
            row += [count_cell(looked), count_cell(wrong), percent_cell(share(wrong, looked))]
            row.append(percent_cell(share(wrong, whole_error(one))))
        rows.append(row)
    return Table("Boundary and interior", headers, rows)


def _weight_table(sides: Sequence[ErrorCounts]) -> Table:
    headers = ["weight"]
    for letter in _letters(sides):
        headers += [f"pixels{letter}", f"wrong{letter}", f"rate{letter} (%)"]
    rows = []
    for band, label in enumerate(WEIGHTS):
        row = [Cell(label, order=band)]
        for one in sides:
            looked, wrong = one.weights[:, band].tolist()
            row += [count_cell(looked), count_cell(wrong), percent_cell(share(wrong, looked))]
        rows.append(row)
    return Table("Errors by weight of the pixel null model", headers, rows, folded=True)


def _size_table(sides: Sequence[ErrorCounts]) -> Table:
    edges = [round(edge**0.5) for edge in SIZE_EDGES_PX]
    names = (f"small (< {edges[0]}² px)", f"medium (< {edges[1]}² px)", f"large (from {edges[1]}² px)")
    headers = ["true object", "objects"]
    for letter in _letters(sides):
        headers += [f"found{letter} (%)", f"pixels{letter}", f"wrong{letter}", f"rate{letter} (%)"]
    rows = []
    for n, label in enumerate(names):
        row = [Cell(label, order=n), count_cell(sides[0].sizes[0, n])]
        for one in sides:
            number, found, looked, wrong = one.sizes[:, n].tolist()
            row += [percent_cell(share(found, number)), count_cell(looked), count_cell(wrong)]
            row.append(percent_cell(share(wrong, looked)))
        rows.append(row)
    return Table("Errors by size of the true object", headers, rows)


def class_table(sides: Sequence[ErrorCounts], class_names: Sequence[str]) -> Table:
    """Errors of each class."""
    headers = ["class"]
    for letter in _letters(sides):
        headers += [f"pixels{letter}", f"missed{letter}", f"false{letter}", f"within 4 px{letter} (%)"]
    rows = []
    for k, name in enumerate(class_names):
        row = [label_cell(name)]
        for one in sides:
            wrong = one.distances[[MISSED, FALSE], k]
            row += [count_cell(one.distances[PIXELS, k].sum()), *(count_cell(n) for n in wrong.sum(axis=1))]
            row.append(percent_cell(share(wrong[:, :_NEAR_BAND].sum(), wrong.sum()), 1))
        rows.append(row)
    caption = (
        "Pixels that each class misses, and that are falsely given to it, and how many of them lie near a boundary"
    )
    return Table(caption, headers, rows, folded=True)


def confusion_section(sides: Sequence[ErrorCounts], class_names: Sequence[str], unit: str, text: str) -> Section:
    """What was taken for what; ``unit`` is what is counted."""
    blocks: list[Block] = [Text(text)]
    plots = [_heat(one, class_names, n, len(sides) > 1, unit) for n, one in enumerate(sides)]
    blocks.append(Plots([plot for plot in plots if plot is not None]))
    blocks += [_confusions(one, class_names, letter, unit) for one, letter in zip(sides, _letters(sides))]
    return Section("confusions", "Confusions", blocks)


def _heat(counts: ErrorCounts, class_names: Sequence[str], number: int, compared: bool, unit: str) -> Plot | None:
    matrix = counts.confusion.astype(np.float64)
    if not matrix.sum():
        return None
    classes = len(class_names)
    off = matrix - np.diag(np.diag(matrix))
    amount = (off.sum(axis=0) + off.sum(axis=1))[:classes]
    occurs = np.flatnonzero((matrix.sum(axis=0) + matrix.sum(axis=1))[:classes] > 0)
    chosen = np.sort(occurs[np.argsort(-amount[occurs], kind="stable")[:SHOWN_CLASSES]])
    rows = [*chosen, classes] if matrix[classes].any() else [*chosen]
    columns = [*chosen, classes] if matrix[:, classes].any() else [*chosen]
    totals = matrix.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shares = (matrix / totals)[np.ix_(rows, columns)]
    names = [*class_names, "nothing"]
    left = (
        f" Of {len(occurs)} classes, the {len(chosen)} with most confusions are drawn."
        if len(chosen) < len(occurs)
        else ""
    )
    which = f"{'AB'[number]}: of" if compared else "Of"
    caption = f"{which} each true class's {unit} (row), the percentage predicted as each class.{left}"
    svg = heat(shares, [names[r] for r in rows], [names[c] for c in columns], f"heat{number}")
    return Plot(svg, caption, caption, is_wide=len(columns) > _MANY)


def _confusions(counts: ErrorCounts, class_names: Sequence[str], letter: str, unit: str) -> Table:
    names = [*class_names, "nothing"]
    off = counts.confusion - np.diag(np.diag(counts.confusion))
    order = np.argsort(-off, axis=None, kind="stable")[:SHOWN_CONFUSIONS]
    rows = []
    for t, p in zip(*np.unravel_index(order, off.shape)):
        if off[t, p] > 0:
            row = [label_cell(names[t]), label_cell(names[p]), count_cell(off[t, p])]
            rows.append([*row, percent_cell(share(off[t, p], counts.confusion[t].sum()))])
    caption = f"The largest confusions{' of' + letter if letter else ''}"
    return Table(caption, ("truth", "prediction", unit, "of the truth (%)"), rows, folded=bool(letter))
