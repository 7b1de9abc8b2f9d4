"""Where the wrong pixels of a prediction lie: by distance to the true boundary, by weight of the null model, by size.

All counts are whole numbers that add up over images, and those by distance add up to the whole error. An example, whose
truth changes between the second and the third pixel, while the prediction does between the third and the fourth::

    >>> import numpy as np
    >>> distances = np.array([2, 1, 1, 2, 3], np.float32)
    >>> bands(distances, DISTANCE_EDGES_PX).tolist()  # up to 1 px, up to 2 px, up to 4 px
    [1, 0, 0, 1, 2]
    >>> wrong = np.array([0, 0, 1, 0, 0])
    >>> np.bincount(bands(distances, DISTANCE_EDGES_PX), wrong).tolist()
    [1.0, 0.0, 0.0]
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pnm.kernels import kernel

DISTANCE_EDGES_PX = (1, 2, 4, 8, 16, 32)  # the last band is what lies further inside
WEIGHT_EDGES = (1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3)  # 1 - ln PNM; the first band is 1 itself
SIZE_EDGES_PX = (32**2, 96**2)  # COCO's small, medium and large
NUM_DISTANCES, NUM_WEIGHTS, NUM_SIZES = len(DISTANCE_EDGES_PX) + 1, len(WEIGHT_EDGES) + 1, len(SIZE_EDGES_PX) + 1
PIXELS, MISSED, FALSE = range(3)  # rows of ErrorCounts.distances
LOCALITY = 35  # of the null model, px

NOT_COUNTED, RIGHT, WRONG = 0, 1, 2  # states of a pixel; WRONG + n is wrong in way n


class ErrorCounts(NamedTuple):
    """Pixels of K classes; B bands of distance, W of weight, S of size, N ways to be wrong. All int64.

    Attributes:
        distances: (3, K, B) pixels that are looked at (those of the class in the truth; of instances, those of the true
            object and what is taken for it), wrong ones that the class misses, and wrong ones falsely given to it.
        ways: (N, B) wrong pixels; their sum is the whole error.
        weights: (2, W) pixels that are looked at, and wrong ones.
        sizes: (4, S) true objects, those found, pixels that are looked at, and wrong ones.
        near: (2, 2) within the boundary's width and beyond: pixels that are looked at, and wrong ones.
        confusion: (K + 1, K + 1) rows are the truth; the last row is what is false, the last column what is missed.
    """

    distances: np.ndarray
    ways: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray
    near: np.ndarray
    confusion: np.ndarray

    def plus(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(*(a + b for a, b in zip(self, other, strict=True)))


def no_errors(num_classes: int, num_ways: int) -> ErrorCounts:
    """Counts of no image."""
    shapes = (
        (3, num_classes, NUM_DISTANCES),
        (num_ways, NUM_DISTANCES),
        (2, NUM_WEIGHTS),
        (4, NUM_SIZES),
        (2, 2),
        (num_classes + 1, num_classes + 1),
    )
    return ErrorCounts(*(np.zeros(shape, np.int64) for shape in shapes))


class ImageErrors(NamedTuple):
    """What is kept of one image and prediction.

    Attributes:
        counts: of its pixels; None once they have been added to others.
        shared_boundary, all_boundary: boundary pixels of d px width that truth and prediction share, and those of
            either, over all classes or objects: their quotient is the image's Boundary IoU.
        object_ious: (G,) boundary IoU of each true object with its match, 0 of a missed one, nan of one that isn't
            looked at; empty where the truth has no objects.
        doubt: how much speaks against the annotation, in pixels or objects.
        scores: (D, 3) class, score and 1 if right, of each detection; empty where there are no scores.
    """

    counts: ErrorCounts | None
    shared_boundary: int
    all_boundary: int
    object_ious: np.ndarray
    doubt: float
    scores: np.ndarray

    @property
    def boundary_iou(self) -> float:
        """nan where neither side has a boundary."""
        return self.shared_boundary / self.all_boundary if self.all_boundary else float("nan")


NO_OBJECTS = np.zeros(0)
NO_SCORES = np.zeros((0, 3))


@kernel
def _bands(values: np.ndarray, edges: np.ndarray, out: np.ndarray) -> None:
    for i in range(values.size):
        band = 0
        while band < edges.size and values[i] > edges[band]:
            band += 1
        out[i] = band


def bands(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Of each value, the number of edges that it exceeds.

    Args:
        values: float32 of any shape, e.g. distances in px.
        edges: ascending.

    Returns:
        uint8 of the same shape.
    """
    out = np.empty(values.shape, np.uint8)
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    _bands(flat, np.asarray(edges, np.float32), out.reshape(-1))
    return out


def size_band(areas: np.ndarray) -> np.ndarray:
    """(N,) index among small, medium and large of areas in pixels; a limit belongs to the larger size."""
    return np.searchsorted(np.asarray(SIZE_EDGES_PX), areas, side="right")


@kernel
def add_map(
    truth: np.ndarray,
    pred: np.ndarray,
    state: np.ndarray,
    band: np.ndarray,
    weight_band: np.ndarray,
    is_near: np.ndarray,
    distances: np.ndarray,
    ways: np.ndarray,
    weights: np.ndarray,
    near: np.ndarray,
) -> None:
    """Adds the pixels of a label map to counts; all maps are flat.

    Args:
        truth, pred: class of each pixel, K or more for none.
        state: uint8, ``NOT_COUNTED``, ``RIGHT`` or ``WRONG`` + the way.
        band, weight_band: uint8, see :func:`bands`.
        is_near: bool, within the boundary's width.
        distances, ways, weights, near: of :class:`ErrorCounts`; added to.
    """
    classes = distances.shape[1]
    for i in range(state.size):
        if state[i] == 0:
            continue
        b, side = band[i], 0 if is_near[i] else 1
        wrong = 1 if state[i] > 1 else 0
        if truth[i] < classes:
            distances[0, truth[i], b] += 1
            distances[1, truth[i], b] += wrong
        weights[0, weight_band[i]] += 1
        weights[1, weight_band[i]] += wrong
        near[side, 0] += 1
        near[side, 1] += wrong
        if wrong:
            ways[state[i] - 2, b] += 1
            if pred[i] < classes:
                distances[2, pred[i], b] += 1


@kernel
def add_object(
    truth: np.ndarray,
    pred: np.ndarray,
    column: int,
    missed_way: int,
    false_way: int,
    band: np.ndarray,
    weight_band: np.ndarray,
    is_near: np.ndarray,
    distances: np.ndarray,
    ways: np.ndarray,
    weights: np.ndarray,
    near: np.ndarray,
) -> tuple[int, int]:
    """Adds the pixels of a true object and its match, flat bool masks, to counts.

    The pixels that are looked at are those of either mask; those of one alone are wrong, so that the share of wrong
    pixels is 1 - IoU.

    Args:
        column: class.
        missed_way, false_way: what wrong pixels of the truth, and of the prediction, count as.
        band, weight_band, is_near, distances, ways, weights, near: as in :func:`add_map`.

    Returns:
        Pixels that were looked at, and wrong ones.
    """
    looked = wrongs = 0
    for i in range(truth.size):
        if not (truth[i] or pred[i]):
            continue
        b, side = band[i], 0 if is_near[i] else 1
        wrong = 0 if truth[i] and pred[i] else 1
        looked += 1
        wrongs += wrong
        distances[0, column, b] += 1
        weights[0, weight_band[i]] += 1
        weights[1, weight_band[i]] += wrong
        near[side, 0] += 1
        near[side, 1] += wrong
        if wrong and truth[i]:
            distances[1, column, b] += 1
            ways[missed_way, b] += 1
        elif wrong:
            distances[2, column, b] += 1
            ways[false_way, b] += 1
    return looked, wrongs
