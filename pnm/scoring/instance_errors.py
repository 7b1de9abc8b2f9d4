"""Errors of predicted instances: what a report counts and draws of them."""

from collections.abc import Sequence

import numpy as np

from pnm.masks.crops import crop_runs, paste
from pnm.metrics.boundary_width import boundary_width
from pnm.metrics.error_counts import LOCALITY, ImageErrors
from pnm.metrics.instance_errors import (
    LEAST_IOU,
    TOUCHED,
    WAYS,
    InstanceMatching,
    instance_errors,
    match_instances,
    shared_instance_doubt,
)
from pnm.scoring.error_survey import ObjectView, Scene
from pnm.scoring.image_results import InstanceImage


class InstanceErrors:
    """See :class:`pnm.scoring.error_survey.TaskErrors`.

    Args:
        category_ids, class_names: K of both.
        least_score: detections from this score on count.
        boundary_ratio, boundary_px: width of Boundary AP; the first one counts where the second is None.
        origin: where ``least_score`` comes from, for the page.
    """

    ways: tuple[str, ...] = WAYS
    pixels = "pixels of true objects and detections, counted object by object,"
    unit = "objects"
    confusion_remark = (
        f"Objects and detections matched whatever their class, the best detection first, at IoU ≥ {LEAST_IOU}; "
        "“nothing” is the true class of false detections and the predicted one of missed objects."
    )
    doubt_remark = (
        "The doubt of an image is the sum of score × (1 − boundary IoU) over objects that were found, of the scores of "
        "false detections, and of 1 for each annotation that no detection of any class and score touches "
        f"(IoU < {TOUCHED})."
    )
    shared_doubt_remark = (
        "The doubt of an image is a sum: over objects that A and B find, the lesser score × how much higher the "
        "boundary IoU of their masks with each other is than that of the better one with the annotation; over false "
        "detections that both have, the lesser score; and 1 for each annotation that no detection of either touches "
        f"(IoU < {TOUCHED})."
    )

    def __init__(
        self,
        category_ids: Sequence[int],
        class_names: Sequence[str],
        least_score: float,
        boundary_ratio: float,
        boundary_px: int | None,
        origin: str,
    ):
        self._columns = {category: k for k, category in enumerate(category_ids)}
        self.class_names, self.least_score = list(class_names), least_score
        self._ratio, self._px = boundary_ratio, boundary_px
        self.remarks = [
            f"{origin} They are matched class by class, the best "
            f"one first, at IoU ≥ {LEAST_IOU}. Pixels are looked at object by object: those of the true object and of "
            "its match; wrong are those that one of them lacks, so that the rate is 1 − IoU. Crowds are left out.",
            "Distance is that to the boundary of the true object, of a false one to its own boundary. Weights are "
            f"those of the pixel null model of the object's mask in windows of {LOCALITY} px, 1 − ln PNM.",
            "The size of an object is the area of its true mask; false objects have no size.",
        ]

    def matched(self, result: InstanceImage) -> InstanceMatching:
        width = boundary_width(result.size, self._ratio, self._px)
        return match_instances(*result, self._columns, self.least_score, width)

    def measures(self, matched: InstanceMatching) -> None:
        """Nothing: each object is measured within the box of itself and its match."""

    def errors(self, matched: InstanceMatching, measures: None) -> ImageErrors:
        return instance_errors(matched, len(self.class_names))

    def shared_doubt(self, a: InstanceMatching, b: InstanceMatching, measures: None) -> float:
        return shared_instance_doubt(a, b)

    def doubt_text(self, doubt: float) -> str:
        return f"doubt {doubt:.2f}"

    def scene(self, matched: InstanceMatching) -> Scene:
        """Smaller objects lie on top of larger ones."""
        shape = matched.gt.height, matched.gt.width
        truth, pred, crowd = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.bool_)
        for n in np.argsort(-matched.gt.areas, kind="stable"):
            mask = paste(crop_runs(matched.gt, int(n)), *shape)
            if matched.crowd[n]:
                crowd |= mask
            else:
                truth[mask] = n + 1
        for n in np.argsort(-matched.dt.areas, kind="stable"):
            if matched.kept[n] and not matched.excused[n]:
                own = matched.partner[n] if matched.partner[n] >= 0 else len(matched.gt_column) + n
                pred[paste(crop_runs(matched.dt, int(n)), *shape)] = own + 1
        return Scene(truth, pred, ~crowd, (truth != pred) & ~crowd)

    def object_view(self, matched: InstanceMatching, number: int) -> ObjectView:
        shape = matched.gt.height, matched.gt.width
        finder = int(matched.finder()[number])
        truth = paste(crop_runs(matched.gt, number), *shape)
        pred = paste(crop_runs(matched.dt, finder), *shape) if finder >= 0 else np.zeros(shape, np.bool_)
        return ObjectView(truth, pred, self.class_names[matched.gt_column[number]])
