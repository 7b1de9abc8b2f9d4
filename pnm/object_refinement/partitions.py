"""Segments of a label map refined, each as an object, so that every pixel keeps exactly one label."""

from collections.abc import Iterable

import numpy as np

from pnm.object_refinement.refining import Box


def claimed_labels(labels: np.ndarray, claims: Iterable[tuple[int, Box, np.ndarray]]) -> np.ndarray:
    """A label map with pixels moved from one segment to another.

    A pixel goes to the segment whose logit is highest, if that is above 0 and above the logit of the segment that has
    it; a label that was not refined is given up only to a segment that claims the pixel.

    Args:
        labels: (H, W) integers.
        claims: of each refined segment its label, a rectangle and its logits there, (h, w) float32, moved so that 0
            decides (:attr:`pnm.object_refinement.refining.Passes.decided`).
    """
    best = np.zeros(labels.shape, np.float32)
    own = np.zeros(labels.shape, np.float32)
    taker = labels.copy()
    for label, (top, left, bottom, right), logits in claims:
        part = slice(top, bottom), slice(left, right)
        mine = labels[part] == label
        own[part] = np.where(mine, logits, own[part])
        wins = ~mine & (logits > best[part])
        best[part] = np.where(wins, logits, best[part])
        taker[part] = np.where(wins, labels.dtype.type(label), taker[part])
    return np.where(best > own, taker, labels)
