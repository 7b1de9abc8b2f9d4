"""Errors of semantic predictions: what a report counts and draws of them."""

from collections.abc import Sequence

import numpy as np

from pnm.errors import UserError
from pnm.metrics.boundary_width import boundary_width
from pnm.metrics.error_counts import LOCALITY, WRONG, ImageErrors
from pnm.metrics.exact_sums import LabelPair
from pnm.metrics.label_errors import (
    DOUBTFUL_PX,
    WAYS,
    TruthMeasures,
    label_errors,
    label_states,
    shared_doubt,
    truth_measures,
)
from pnm.scoring.error_survey import ObjectView, Scene


class SemanticErrors:
    """See :class:`pnm.scoring.error_survey.TaskErrors`.

    Args:
        boundary_ratio, boundary_px: width of Boundary IoU.
    """

    ways: tuple[str, ...] = WAYS
    pixels = "pixels"
    unit = "pixels"
    confusion_remark = "Pixels by their true and predicted class; “nothing” is a label that is no class."
    doubt_remark = (
        f"Counted are pixels that are wrong more than {DOUBTFUL_PX} px away from the true boundary: there it is no "
        "matter of where exactly a line was drawn. Label maps have no scores, so every prediction counts as a "
        "confident one."
    )
    shared_doubt_remark = (
        f"Counted are pixels more than {DOUBTFUL_PX} px away from the true boundary for which A and B predict the same "
        "class, and the annotation says another one."
    )

    def __init__(self, class_names: Sequence[str], boundary_ratio: float | None, boundary_px: int | None):
        self.class_names = list(class_names)
        self._ratio, self._px = boundary_ratio, boundary_px
        self.remarks = [
            "A pixel is wrong if its predicted class isn't the true one; pixels that the ground truth ignores count "
            "nowhere. Distance is that to the nearest pixel of another true class (ignored pixels are one, too).",
            f"Weights are those of the pixel null model in windows of {LOCALITY} px, 1 − ln PNM.",
            "Objects are connected regions of one class in the truth; one is found if most of it is right.",
        ]

    def matched(self, result: LabelPair) -> LabelPair:
        return result

    def measures(self, matched: LabelPair) -> TruthMeasures:
        return truth_measures(matched.truth, matched.num_classes)

    def errors(self, matched: LabelPair, measures: TruthMeasures) -> ImageErrors:
        return label_errors(matched, boundary_width(matched.truth.shape, self._ratio, self._px), measures)

    def shared_doubt(self, a: LabelPair, b: LabelPair, measures: TruthMeasures) -> float:
        return shared_doubt(a, b, measures)

    def doubt_text(self, doubt: float) -> str:
        return f"{doubt:.0f} px in doubt"

    def scene(self, matched: LabelPair) -> Scene:
        states = label_states(matched)
        looked = matched.truth != matched.num_classes
        truth, pred = (np.where(looked, side.astype(np.int32) + 1, 0) for side in (matched.truth, matched.pred))
        return Scene(truth, pred, looked, states >= WRONG)

    def object_view(self, matched: LabelPair, number: int) -> ObjectView:
        raise UserError("semantic maps have no objects")
