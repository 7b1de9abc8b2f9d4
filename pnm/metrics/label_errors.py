"""Where a semantic prediction is wrong, in one image."""

from typing import NamedTuple

import numpy as np

from pnm.interior_offsets.distances import label_distances
from pnm.metrics.boundary_pixels import interior_pixels
from pnm.metrics.connected_regions import connected_regions
from pnm.metrics.error_counts import (
    DISTANCE_EDGES_PX,
    LOCALITY,
    NO_OBJECTS,
    NO_SCORES,
    NOT_COUNTED,
    RIGHT,
    WEIGHT_EDGES,
    WRONG,
    ErrorCounts,
    ImageErrors,
    add_map,
    bands,
    no_errors,
    size_band,
)
from pnm.metrics.exact_sums import LabelPair, class_sums
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights

WAYS = ("another class", "no class")
DOUBTFUL_PX = 4  # a difference beyond it is no matter of where exactly a boundary was drawn
FIRST_DOUBTFUL = DISTANCE_EDGES_PX.index(DOUBTFUL_PX) + 1


class TruthMeasures(NamedTuple):
    """What a true map says of its pixels, whatever is predicted; (H, W) each.

    Attributes:
        distances: float32, px to the nearest pixel of another label, an ignored one being one, too; inf if none.
        bands: uint8, of the distances.
        weight_bands: uint8, of the weights (Zhang et al., "PNM", Eq. 3) in windows of ``LOCALITY`` px, in which ignored
            pixels have no share.
    """

    distances: np.ndarray
    bands: np.ndarray
    weight_bands: np.ndarray


def truth_measures(labels: np.ndarray, ignore_label: int | None) -> TruthMeasures:
    """Measures of (H, W) true labels or segment ids."""
    weights = pixel_weights(pixel_null_model(labels, LOCALITY, ignore_label=ignore_label), overwrite_pnm=True)
    distances = label_distances(labels)
    return TruthMeasures(distances, bands(distances, DISTANCE_EDGES_PX), bands(weights, WEIGHT_EDGES))


def label_states(pair: LabelPair) -> np.ndarray:
    """(H, W) uint8: what each pixel counts as; see ``WAYS``."""
    states = np.where(pair.truth == pair.pred, np.uint8(RIGHT), np.uint8(WRONG))
    states[pair.pred > pair.num_classes] = WRONG + 1
    states[pair.truth == pair.num_classes] = NOT_COUNTED
    return states


def add_label_map(
    counts: ErrorCounts,
    truth: np.ndarray,
    pred: np.ndarray,
    states: np.ndarray,
    measures: TruthMeasures,
    boundary_px: int,
) -> None:
    """Adds an image's pixels to ``counts``.

    Args:
        truth, pred: (H, W) class of each pixel, K or more for none.
        states: (H, W) uint8.
        measures: of the truth.
        boundary_px: how far the boundary reaches, for ``counts.near``.
    """
    flags = measures.bands, measures.weight_bands, measures.distances <= boundary_px
    flat = [array.reshape(-1) for array in (truth, pred, states, *flags)]
    add_map(*flat, counts.distances, counts.ways, counts.weights, counts.near)


def add_sizes(counts: ErrorCounts, objects: np.ndarray, states: np.ndarray, found: np.ndarray | None = None) -> None:
    """Adds true objects by their area to ``counts``.

    Args:
        objects: (H, W) their numbers from 0, -1 where there is none.
        found: (G,) bool; None: those of which more than half is right.
    """
    looked = (states != NOT_COUNTED) & (objects >= 0)
    numbers = objects[looked]
    number = 1 + int(numbers.max(initial=-1)) if found is None else len(found)
    areas = np.bincount(numbers, minlength=number)
    wrongs = np.bincount(numbers[states[looked] >= WRONG], minlength=number)
    found = 2 * wrongs < areas if found is None else found
    for n, amounts in enumerate((areas > 0, found & (areas > 0), areas, wrongs)):
        np.add.at(counts.sizes[n], size_band(areas), amounts.astype(np.int64))


def label_errors(pair: LabelPair, boundary_px: int, measures: TruthMeasures) -> ImageErrors:
    """Errors of one image; true objects are the connected regions of the truth.

    Args:
        pair: classes, see :class:`pnm.metrics.exact_sums.LabelPair`.
        boundary_px: width of the boundary of Boundary IoU.
        measures: of the truth.

    Returns:
        Doubt is the number of wrong pixels further than ``DOUBTFUL_PX`` from the true boundary.
    """
    counts, states = no_errors(pair.num_classes, len(WAYS)), label_states(pair)
    add_label_map(counts, pair.truth, pair.pred, states, measures, boundary_px)
    add_sizes(counts, connected_regions(pair.truth), states)
    counts.confusion[:] = label_confusion(pair)
    shared, predicted, true = class_sums(pair, None, _interiors(pair, boundary_px))[3:].sum(axis=1)
    doubt = float(counts.ways[:, FIRST_DOUBTFUL:].sum())
    return ImageErrors(counts, int(shared), int(predicted + true - shared), NO_OBJECTS, doubt, NO_SCORES)


def _interiors(pair: LabelPair, boundary_px: int) -> tuple[np.ndarray, np.ndarray]:
    return interior_pixels(pair.truth, boundary_px), interior_pixels(pair.pred, boundary_px)


def label_confusion(pair: LabelPair) -> np.ndarray:
    """(K + 1, K + 1) int64 pixels, the truth's class by the predicted one; the last column is no class."""
    side, counted = pair.num_classes + 1, pair.truth != pair.num_classes
    pred = np.minimum(pair.pred, pair.num_classes)  # K + 1 is no class, and K isn't predicted where pixels count
    index = pair.truth[counted].astype(np.int64) * side + pred[counted]
    return np.bincount(index, minlength=side * side).reshape(side, side)


def shared_doubt(a: LabelPair, b: LabelPair, measures: TruthMeasures) -> float:
    """Pixels further than ``DOUBTFUL_PX`` from the true boundary where A and B agree against the annotation."""
    agree = (a.pred == b.pred) & (a.pred != a.truth) & (a.pred < a.num_classes)
    return float(np.count_nonzero(agree & (measures.distances > DOUBTFUL_PX)))
