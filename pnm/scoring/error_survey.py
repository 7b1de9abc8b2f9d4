"""Looks at the errors of one or two predictions, image by image, and keeps what is small."""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from pnm.metrics.error_counts import ErrorCounts, ImageErrors, no_errors
from pnm.scoring.scores import ResultFiles, for_each_image


class Scene(NamedTuple):
    """Truth and prediction of an image as maps of the same ids, to be drawn; (H, W) each.

    Attributes:
        truth, pred: int32; 0 where there is nothing. What belongs together has the same id.
        looked: bool, pixels that count.
        wrong: bool, those of them that are wrong.
    """

    truth: np.ndarray
    pred: np.ndarray
    looked: np.ndarray
    wrong: np.ndarray


class ObjectView(NamedTuple):
    """A true object and its match in an image.

    Attributes:
        truth, pred: (H, W) bool.
        class_name: of the truth.
    """

    truth: np.ndarray
    pred: np.ndarray
    class_name: str


class TaskErrors(Protocol):
    """How errors of a task are counted and drawn.

    Attributes:
        class_names: K of them.
        ways: N ways for a pixel to be wrong.
        pixels: which are looked at, in words.
        remarks: lines that say how, for a page.
        unit, confusion_remark: what a confusion matrix counts, and how.
        doubt_remark, shared_doubt_remark: what speaks against an annotation, of one prediction and of two.
    """

    class_names: list[str]
    ways: tuple[str, ...]
    pixels: str
    remarks: list[str]
    unit: str
    confusion_remark: str
    doubt_remark: str
    shared_doubt_remark: str

    def matched(self, result: Any) -> Any:
        """What belongs together in what was read of an image; the other methods take it."""

    def measures(self, matched: Any) -> Any:
        """What the truth alone tells, which is the same for two predictions of an image."""

    def errors(self, matched: Any, measures: Any) -> ImageErrors:
        """Errors of one image."""

    def shared_doubt(self, a: Any, b: Any, measures: Any) -> float:
        """How far A and B agree with each other against the annotation of an image."""

    def doubt_text(self, doubt: float) -> str:
        """An image's doubt in words."""

    def scene(self, matched: Any) -> Scene:
        """Maps to be drawn."""

    def object_view(self, matched: Any, number: int) -> ObjectView:
        """True object ``number`` of those that ``errors`` gives a boundary IoU."""


class Survey(NamedTuple):
    """Errors of a prediction on I images.

    Attributes:
        counts: over all images.
        boundary_ious: (I,) Boundary IoU of each image, nan where there is no boundary.
        object_ious: of each image, (G,) boundary IoUs of its true objects, see :class:`ImageErrors`.
        doubts: (I,) how much speaks against each annotation.
        scores: (D, 3) class, score and whether it is right, of all detections.
    """

    counts: ErrorCounts
    boundary_ious: np.ndarray
    object_ious: list[np.ndarray]
    doubts: np.ndarray
    scores: np.ndarray


class Surveys(NamedTuple):
    """One :class:`Survey` for each prediction; of two, (I,) ``shared_doubts``, else None."""

    sides: list[Survey]
    shared_doubts: np.ndarray | None


def survey(
    files: Sequence[ResultFiles], tasks: Sequence[TaskErrors], images: Sequence[Any], workers: int, progress: bool
) -> Surveys:
    """Reads each image of one or two predictions once, in ``workers`` threads.

    Args:
        tasks: one for each prediction.
        images: keys that all files have.

    Raises:
        UserError: damaged files, with a line for each.
    """
    totals = [no_errors(len(task.class_names), len(task.ways)) for task in tasks]
    lock = threading.Lock()

    def look(image: Any) -> tuple[list[ImageErrors], float]:
        matched = [task.matched(one.read(image)) for one, task in zip(files, tasks)]
        measures = tasks[0].measures(matched[0])
        errors = [task.errors(one, measures) for task, one in zip(tasks, matched)]
        shared = tasks[0].shared_doubt(matched[0], matched[1], measures) if len(files) == 2 else 0.0
        with lock:
            for n, one in enumerate(errors):
                assert one.counts is not None
                totals[n] = totals[n].plus(one.counts)
        return [one._replace(counts=None) for one in errors], shared

    looked = for_each_image(look, images, workers, progress, "errors")
    sides = [_joined(totals[n], [errors[n] for errors, _ in looked]) for n in range(len(files))]
    return Surveys(sides, np.array([shared for _, shared in looked]) if len(files) == 2 else None)


def _joined(counts: ErrorCounts, images: Sequence[ImageErrors]) -> Survey:
    return Survey(
        counts,
        np.array([one.boundary_iou for one in images]),
        [one.object_ious for one in images],
        np.array([one.doubt for one in images]),
        np.concatenate([one.scores for one in images]),
    )
