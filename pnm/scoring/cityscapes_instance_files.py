"""Cityscapes' instance results in files, scored by its own rules and by COCO's, which papers use beside them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pnm.cityscapes_classes import CITYSCAPES_INSTANCE_CLASSES, FIRST_INSTANCE
from pnm.errors import UserError
from pnm.formats.cityscapes import (
    CityscapesPrediction,
    files_by_frame,
    mask_size,
    read_cityscapes_predictions,
    read_mask,
    result_files,
)
from pnm.formats.label_png import read_label_png
from pnm.masks.runs import array_counts, rle_text
from pnm.metrics.cityscapes_instance_ap import CityscapesInstanceAP
from pnm.metrics.instance_ap import InstanceMetrics
from pnm.scoring.image_results import InstanceImage
from pnm.scoring.scores import ImageFault, ImagesState, Scores, for_each_image, missing_lines
from pnm.shards import WHOLE, Shard

_TRUTH = "_gtFine_instanceIds.png"
_BY_COCO = "COCO-"


def _rle(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": rle_text(array_counts(mask))}


def instance_annotations(ids: np.ndarray) -> list[dict[str, Any]]:
    """COCO annotations of a map of instance ids (H, W), as in ``*_gtFine_instanceIds.png``.

    Id 1000 c + n is an instance of label id c, the id c alone a group, which becomes a crowd region. Labels without
    instances are left out: COCO knows no void.
    """
    annotations = []
    for number in np.flatnonzero(np.bincount(ids.ravel())).tolist():
        label = number // FIRST_INSTANCE if number >= FIRST_INSTANCE else number
        if label in CITYSCAPES_INSTANCE_CLASSES:
            crowd = int(number < FIRST_INSTANCE)
            annotations.append({"category_id": label, "segmentation": _rle(ids == number), "iscrowd": crowd})
    return annotations


class CityscapesInstanceFiles:
    """A folder of ``*_pred.txt`` (:mod:`pnm.formats.cityscapes`) beside one with ``*_gtFine_instanceIds.png``.

    ``AP``, ``AP50`` and those of the classes follow the benchmark (:mod:`pnm.metrics.cityscapes_instance_ap`). Names
    with ``COCO-`` before them are those of :class:`pnm.metrics.instance_ap.InstanceMetrics`, with groups as crowd
    regions and void as background: ``COCO-AP``, ``COCO-AP90``, ``COCO-Boundary-AP``, ``COCO-AF``..., as Zhang et al.
    ("BPR") report them for Cityscapes, too.

    Args:
        shard: all, as such files aren't split.
        options: of :class:`pnm.metrics.instance_ap.InstanceMetrics`.

    Raises:
        FileNotFoundError: a folder that holds no such files.
        UserError: damaged text files, with a line for each, or two files of one image.
    """

    task = "instance"

    def __init__(self, pred: str | Path, gt: str | Path, *, shard: Shard = WHOLE, **options: Any):
        if shard != WHOLE:
            raise UserError("--shard isn't for Cityscapes' *_pred.txt, of which there are few enough for one machine")
        self._options = options
        self._truth = files_by_frame(gt, _TRUTH)
        files = result_files(pred)
        read = for_each_image(partial(read_cityscapes_predictions, folder=pred), list(files.values()), 1, False)
        self._pred: dict[str, list[CityscapesPrediction]] = dict(zip(files, read))
        self.listed, self.faults = list(self._truth), list[ImageFault]()
        without = sum(not predictions for predictions in self._pred.values())
        self.remarks = [f"{pred}: no instances in {without} of {len(files)} text files"] if without else []
        pairs = [(place, image) for place, image in enumerate(self._truth) if image in self._pred]
        self.images = [image for place, image in pairs if self._fits(place, image)]
        self.problems = missing_lines(self._truth, self._pred, str(pred)) + [fault.line for fault in self.faults]

    def _fits(self, place: int, image: str) -> bool:
        size = mask_size(self._truth[image])
        sizes = {prediction.mask_path: mask_size(prediction.mask_path) for prediction in self._pred[image]}
        wrong = [
            f"image {image}: mask {mask} is {own[0]} x {own[1]}, the ground truth {size[0]} x {size[1]}"
            for mask, own in sizes.items()
            if own != size
        ]
        self.faults += [ImageFault(place, line) for line in wrong]
        return not wrong

    def score(self, images: Sequence[str], workers: int = 1, progress: bool = False) -> Scores:
        names = list(CITYSCAPES_INSTANCE_CLASSES.values())
        own = CityscapesInstanceAP()
        coco = self.metric()

        def add(image: str) -> None:
            ids = read_label_png(self._truth[image])
            size, annotations, detections = self._with_masks(image, ids)
            try:
                own.update(image, ids, detections)
            except UserError as error:
                raise UserError(f"{self._truth[image]}: {error}") from None
            coco.update(image, *size, annotations, detections)

        for_each_image(add, images, workers, progress)

        return Scores(
            own.image_ids,
            names,
            lambda counts: own.compute_many(counts).joined(coco.compute_many(counts), _BY_COCO),
            lambda: own.per_image().joined(coco.per_image(), _BY_COCO),
        )

    def state(self, images: Sequence[str], workers: int = 1, progress: bool = False) -> ImagesState:
        raise NotImplementedError  # a shard of such files is refused

    def scores_and_objects(self, images: Sequence[str]) -> tuple[np.ndarray, int]:
        """Scores of all detections of images, and the number of true objects."""
        scores = [prediction.score for image in images for prediction in self._pred[image]]
        ids = (np.flatnonzero(np.bincount(read_label_png(self._truth[image]).ravel())) for image in images)
        labels = [number // FIRST_INSTANCE for numbers in ids for number in numbers[numbers >= FIRST_INSTANCE].tolist()]
        return np.array(scores), sum(label in CITYSCAPES_INSTANCE_CLASSES for label in labels)

    def metric(self) -> InstanceMetrics:
        """An empty metric by COCO's rules."""
        names = list(CITYSCAPES_INSTANCE_CLASSES.values())
        return InstanceMetrics(list(CITYSCAPES_INSTANCE_CLASSES), class_names=names, **self._options)

    def read(self, image: str) -> InstanceImage:
        """Annotations and detections of an image.

        Raises:
            UserError: a damaged file.
        """
        return self._with_masks(image, read_label_png(self._truth[image]))

    def image_key(self, image: str) -> str:
        """What the image is called, for :class:`pnm.formats.image_files.ImageFiles`."""
        return image

    def _with_masks(self, image: str, ids: np.ndarray) -> InstanceImage:
        height, width = ids.shape
        detections = [self._detection(prediction, (height, width)) for prediction in self._pred[image]]
        return InstanceImage((height, width), instance_annotations(ids), detections)

    @staticmethod
    def _detection(prediction: CityscapesPrediction, size: tuple[int, int]) -> dict[str, Any]:
        mask = _rle(read_mask(prediction.mask_path, size))
        return {"category_id": prediction.label_id, "segmentation": mask, "score": prediction.score}
