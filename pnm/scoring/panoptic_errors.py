"""Errors of panoptic predictions: what a report counts and draws of them."""

import numpy as np

from pnm.metrics.boundary_width import boundary_width
from pnm.metrics.error_counts import LOCALITY, NOT_COUNTED, WRONG, ImageErrors
from pnm.metrics.label_errors import DOUBTFUL_PX, TruthMeasures, truth_measures
from pnm.metrics.panoptic_errors import (
    WAYS,
    PanopticMatching,
    match_panoptic,
    panoptic_errors,
    shared_panoptic_doubt,
)
from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.metrics.segment_matching import VOID
from pnm.scoring.error_survey import ObjectView, Scene
from pnm.scoring.image_results import PanopticImage


class PanopticErrors:
    """See :class:`pnm.scoring.error_survey.TaskErrors`.

    Args:
        quality: with a boundary.
    """

    ways: tuple[str, ...] = WAYS
    pixels = "pixels"
    unit = "segments"
    confusion_remark = (
        "Segments matched whatever their class at IoU > 0.5, void left out as PQ does; “nothing” is the true class of "
        "false segments and the predicted one of missed ones."
    )
    doubt_remark = (
        f"Counted are pixels that are wrong more than {DOUBTFUL_PX} px away from the true boundary: there it is no "
        "matter of where exactly a line was drawn. Maps have no scores, so every prediction counts as a confident one."
    )
    shared_doubt_remark = (
        f"Counted are pixels more than {DOUBTFUL_PX} px away from the true boundary for which A and B predict the same "
        "class, and the annotation says another one."
    )

    def __init__(self, quality: PanopticQuality):
        self._quality, self.class_names = quality, list(quality.class_names)
        self.remarks = [
            "A pixel is wrong if its predicted segment doesn't match its true one by PQ's rule (same class, IoU > "
            "0.5); void and crowds are left out. Distance is that to the nearest pixel of another true segment or of "
            "void.",
            f"Weights are those of the pixel null model of the true segments in windows of {LOCALITY} px, 1 − ln PNM.",
            "Objects are the true segments, things and stuff; one is found if it has a match.",
        ]

    def matched(self, result: PanopticImage) -> PanopticMatching:
        quality = self._quality
        width = boundary_width(result.truth.shape, quality.boundary_ratio, quality.boundary_px)
        return match_panoptic(result.truth, result.pred, *quality.image_pairs(*result), width)

    def measures(self, matched: PanopticMatching) -> TruthMeasures:
        return truth_measures(matched.truth_ids, VOID)

    def errors(self, matched: PanopticMatching, measures: TruthMeasures) -> ImageErrors:
        return panoptic_errors(matched, len(self.class_names), measures)

    def shared_doubt(self, a: PanopticMatching, b: PanopticMatching, measures: TruthMeasures) -> float:
        return shared_panoptic_doubt(a, b, measures)

    def doubt_text(self, doubt: float) -> str:
        return f"{doubt:.0f} px in doubt"

    def scene(self, matched: PanopticMatching) -> Scene:
        states = matched.states()
        looked = states != NOT_COUNTED
        partner = matched.matches.partner
        ids = np.where(partner >= 0, partner, len(matched.gt.ids) + np.arange(len(partner)))
        pred = np.append(ids + 1, 0).astype(np.int32)[matched.pred]
        truth = np.where(looked, matched.truth + 1, 0).astype(np.int32)
        return Scene(truth, np.where(looked, pred, 0), looked, states >= WRONG)

    def object_view(self, matched: PanopticMatching, number: int) -> ObjectView:
        finder = np.flatnonzero(matched.matches.partner == number)
        pred = np.isin(matched.pred, finder) if len(finder) else np.zeros(matched.truth.shape, np.bool_)
        return ObjectView(matched.truth == number, pred, self.class_names[matched.gt.column[number]])
