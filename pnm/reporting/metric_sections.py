"""The sections of metrics: tables with intervals, and plots of what was gained."""

import math
from collections.abc import Mapping, Sequence

from pnm.metrics.metric_values import MetricValues
from pnm.reporting.blocks import (
    Beside,
    Block,
    Bullets,
    Cell,
    Plots,
    Section,
    Table,
    Text,
    interval_cell,
    label_cell,
    signed,
)
from pnm.reporting.plots import Plot, excludes_zero, forest
from pnm.scoring.compare import Comparison, Interval

SHOWN_CLASSES = 40  # rows of a plot
_COMPARED = ("A", "B", "B − A")


def _cells(entry: Interval | Comparison) -> list[Cell]:
    if isinstance(entry, Comparison):
        return [interval_cell(entry.a), interval_cell(entry.b), interval_cell(entry.difference, is_difference=True)]
    cell = interval_cell(entry)
    return [cell._replace(below=""), Cell(cell.below)]


def _known(entries: Mapping[str, Comparison]) -> list[tuple[str, Interval]]:
    return [(name, entry.difference) for name, entry in entries.items() if not math.isnan(entry.difference.value)]


def _forest_of_classes(metric: str, entries: Mapping[str, Comparison], number: int) -> Plot:
    rows = _known(entries)
    most = sorted(rows, key=lambda row: -abs(row[1].value))[:SHOWN_CLASSES]
    most.sort(key=lambda row: -row[1].value)
    better, worse = (sum(sign * entry.value > 0 and excludes_zero(entry) for _, entry in rows) for sign in (1, -1))
    left = f" The {SHOWN_CLASSES} largest differences are drawn." if len(most) < len(rows) else ""
    caption = (
        f"{metric} by class, B − A in percentage points with 95 % intervals: surely better in {better}, surely worse "
        f"in {worse} of {len(rows)} classes (filled dots).{left}"
    )
    return Plot(forest(most, f"gain{number}", f"{metric}, B − A (percentage points)"), caption, caption)


def _forest_of_metrics(means: Mapping[str, Comparison]) -> Plot:
    rows = _known(means)
    better, worse = (sum(sign * entry.value > 0 and excludes_zero(entry) for _, entry in rows) for sign in (1, -1))
    caption = (
        f"Differences B − A with 95 % intervals: {better} of {len(rows)} metrics are surely better, {worse} surely "
        "worse (filled dots); intervals of the others hold 0."
    )
    return Plot(forest(rows, "gains", "B − A (percentage points)"), caption, caption)


def changes(values: MetricValues) -> list[str]:
    """Lines that say which metrics and classes are surely better, and which worse."""
    lines = []
    for sign, word in ((1, "better"), (-1, "worse")):
        names = [
            f"{name} ({signed(entry.difference.value, 2)})"
            for name, entry in values.means.items()
            if sign * entry.difference.value > 0 and excludes_zero(entry.difference)
        ]
        lines.append(f"Surely {word}: {', '.join(names) if names else 'no metric'}.")
    return lines


def whole_section(values: MetricValues, compared: bool, remarks: Sequence[str]) -> Section:
    """Metrics of the whole data set."""
    headers = ("metric", *(_COMPARED if compared else ("%", "95 % interval")))
    rows = [[label_cell(name), *_cells(entry)] for name, entry in values.means.items()]
    caption = "In percent, with 95 % bootstrap intervals over the images"
    blocks: list[Block] = [Bullets([*(changes(values) if compared else ()), *remarks])]
    table = Table(caption, headers, rows)
    if compared and _known(values.means):
        table = table._replace(caption=f"{caption}; differences in bold have intervals without 0")
        blocks.append(Beside([table, Plots([_forest_of_metrics(values.means)])]))
    else:
        blocks.append(table)
    return Section("metrics", "Metrics", [block for block in blocks if block != Bullets([])])


def class_section(values: MetricValues, compared: bool, first: str) -> Section:
    """Metrics of each class; ``first`` is the one whose gains are drawn."""
    columns = values.by_class
    if not columns:
        return Section("classes", "Classes", [Text("There are no metrics of single classes.")])
    names = list(next(iter(columns.values())))
    if not compared:
        rows = [[label_cell(name), *(interval_cell(column[name]) for column in columns.values())] for name in names]
        return Section("classes", "Classes", [Table("In percent, with 95 % intervals", ("class", *columns), rows)])
    blocks: list[Block] = []
    drawn = [metric for metric in (first, *columns) if metric in columns and _known(columns[metric])]
    chosen = list(dict.fromkeys(drawn))[:2]
    if chosen:
        blocks.append(Plots([_forest_of_classes(metric, columns[metric], n) for n, metric in enumerate(chosen)]))
    for metric, column in columns.items():
        rows = [[label_cell(name), *_cells(column[name])] for name in names]
        blocks.append(Table(f"{metric} by class, in percent", ("class", *_COMPARED), rows, metric != first))
    return Section("classes", "Classes", blocks)
