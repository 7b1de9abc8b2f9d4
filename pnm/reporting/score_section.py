"""The section of scores: whether they say how often a prediction is right."""

from collections.abc import Sequence

import numpy as np

from pnm.reporting.blocks import (
    Block,
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
from pnm.reporting.plots import Plot, reliability

INTERVALS = 10
_CLASS, _SCORE, _RIGHT = range(3)


def reliability_rows(scores: np.ndarray) -> np.ndarray:
    """(``INTERVALS``, 3): mean score, share of right ones and number of the detections in each tenth of 0..1.

    Args:
        scores: (D, 3) class, score and 1 if right; scores beyond 0..1 belong to the outer tenths. nan where there are
            no detections.
    """
    tenth = np.clip((scores[:, _SCORE] * INTERVALS).astype(np.int64), 0, INTERVALS - 1)
    number = np.bincount(tenth, minlength=INTERVALS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(tenth, scores[:, part], INTERVALS) / number for part in (_SCORE, _RIGHT)]
    return np.stack([*means, number], axis=1)


def calibration_error(scores: np.ndarray) -> float:
    """Expected calibration error: the mean over detections of how far score and share are apart in their tenth; nan
    without detections."""
    rows = reliability_rows(scores)
    rows = rows[rows[:, 2] > 0]
    return share(float((np.abs(rows[:, 0] - rows[:, 1]) * rows[:, 2]).sum()), float(rows[:, 2].sum()))


def score_section(sides: Sequence[np.ndarray], class_names: Sequence[str]) -> Section:
    """Reliability of scores, whole and by class.

    Args:
        sides: for each prediction, (D, 3) class, score and 1 if right.
    """
    if not any(len(side) for side in sides):
        return Section("scores", "Scores", [Text("The predictions have no scores whose calibration could be tested.")])
    letters = ["A", "B"] if len(sides) > 1 else [""]
    errors = [f"{letter} {percent(calibration_error(side), 1)} %".strip() for letter, side in zip(letters, sides)]
    caption = (
        "Share of right detections (IoU ≥ 0.5 with an object of the class that no better one found) by score, in "
        "tenths; larger dots are more detections. On the dashed line a score says how often it is right. Expected "
        f"calibration error: {', '.join(errors)}."
    )
    plot = Plot(reliability([reliability_rows(side) for side in sides], "reliability"), caption, caption)
    blocks: list[Block] = [Plots([plot]), _by_class(sides, letters, class_names)]
    return Section("scores", "Scores", blocks)


def _by_class(sides: Sequence[np.ndarray], letters: Sequence[str], class_names: Sequence[str]) -> Table:
    headers = ["class"]
    for letter in letters:
        names = ("detections", "mean score (%)", "right (%)", "calibration error (%)")
        headers += [f"{name} {letter}".strip() for name in names]
    rows = []
    for k, name in enumerate(class_names):
        own = [side[side[:, _CLASS] == k] for side in sides]
        if any(len(part) for part in own):
            row = [label_cell(name)]
            for part in own:
                sums = part[:, [_SCORE, _RIGHT]].sum(axis=0).tolist()
                row += [count_cell(len(part)), *(percent_cell(share(n, len(part)), 1) for n in sums)]
                row.append(percent_cell(calibration_error(part), 1))
            rows.append(row)
    return Table("Calibration by class", headers, rows, folded=len(rows) > 12)
