"""Whether a picture of a mask shows one object or a label map, by its values."""

import cv2
import numpy as np

_SOFT_LEVELS, _SOFT_SHARE = 16, 0.75  # more values than labels have, most pixels being black or white: soft edges
_ALMOST_WHITE = 0.9  # of the range: numbers of labels rarely come near its end
_THICK_SHARE = 0.05  # of soft edges, pixels with such all around them
_STEPS = (2, 4, 8, 9, 16)  # of antialiased masks: averages of 2 x 2 to 4 x 4 pixels


def is_label_map(values: np.ndarray) -> bool:
    """Whether (H, W) integers are labels: more than two values that aren't those of one object with soft edges.

    Numbers with a point and bool are no labels. Of other integers than 8 and 16 bits without sign, the range is that of
    the smaller of the two which holds them; negative ones are labels.
    """
    if values.dtype.kind not in "iu" or has_two_values(values):
        return False
    narrow = narrowed(values)
    return narrow is None or not _has_soft_edges(narrow)


def has_two_values(values: np.ndarray) -> bool:
    """Whether there are at most two different ones."""
    return not values.size or bool(((values == values.min()) | (values == values.max())).all())


def narrowed(values: np.ndarray) -> np.ndarray | None:
    """Integers as 8 or 16 bits without sign; None if they don't fit."""
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        return None
    return values.astype(np.uint8 if values.max() <= np.iinfo(np.uint8).max else np.uint16)


def _has_soft_edges(values: np.ndarray) -> bool:
    levels, counts = np.unique(values, return_counts=True)
    most = int(np.iinfo(values.dtype).max)
    ends = (levels == 0) | (levels == most)
    if counts[ends].sum() < _SOFT_SHARE * values.size:
        return False
    are_many = len(levels) > _SOFT_LEVELS and int(levels[-1]) >= _ALMOST_WHITE * most
    return are_many or _is_antialiased(values, levels, most)


def _is_antialiased(values: np.ndarray, levels: np.ndarray, most: int) -> bool:
    """Whether values from black to white are those of a mask drawn at a finer scale: equal steps, rounded, and along
    lines, where a label map has areas."""
    if levels[0] != 0 or levels[-1] != most:
        return False
    between = ((values > 0) & (values < most)).astype(np.uint8)
    inner = cv2.erode(between, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    if np.count_nonzero(inner) > _THICK_SHARE * np.count_nonzero(between):
        return False
    near = (np.abs(levels[:, None] - np.arange(steps + 1) * most / steps).min(axis=1) for steps in _STEPS)
    return any((off <= 1).all() for off in near)
