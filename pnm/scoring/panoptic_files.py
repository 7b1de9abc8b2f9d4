"""COCO panoptic predictions in files, beside their ground truth: PQ and Boundary PQ, scored and tabulated."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from pnm.errors import UserError
from pnm.formats.coco_panoptic import id_offset, panoptic_folder, read_annotations, read_categories, read_prediction
from pnm.formats.label_png import png_size_of, read_panoptic_png
from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.scoring.image_results import PanopticImage
from pnm.scoring.scores import (
    ImageFault,
    ImagesState,
    Scores,
    for_each_image,
    missing_lines,
    summed_scores,
    summed_state,
)
from pnm.shards import WHOLE, Shard

_SPLITS = {"All": "", "Things": "_th", "Stuff": "_st"}


class PanopticFiles:
    """COCO panoptic JSONs and their folders of PNGs.

    In a predicted image whose list has id 0, that is a segment, as in panopticapi; in the ground truth 0 is void.

    Args:
        pred_folder, gt_folder: of the PNGs; by default :func:`panoptic_folder` of the JSONs.
        boundary_ratio, boundary_px: as :class:`pnm.metrics.panoptic_quality.PanopticQuality` takes them.
        shard: of whose images alone the PNGs are looked at.

    Attributes:
        missing: images of the ground truth that have no prediction.
        faults: each thing that is wrong with an image that both have.

    Raises:
        FileNotFoundError, UserError: a path that holds no such files.
    """

    task = "panoptic"

    def __init__(
        self,
        pred: str | Path,
        gt: str | Path,
        pred_folder: str | Path | None = None,
        gt_folder: str | Path | None = None,
        *,
        boundary_ratio: float | None = None,
        boundary_px: int | None = None,
        shard: Shard = WHOLE,
    ):
        self._folders = Path(pred_folder or panoptic_folder(pred)), Path(gt_folder or panoptic_folder(gt))
        content, self._truth = read_annotations(gt)
        _, self._pred = read_annotations(pred, predicted=True)
        isthing, names = read_categories(content, gt)
        self.quality = PanopticQuality(
            isthing, class_names=names, boundary_ratio=boundary_ratio, boundary_px=boundary_px
        )
        listed = content.get("images")
        self._image_names = {
            entry.get("id"): str(entry.get("file_name", ""))
            for entry in (listed if isinstance(listed, list) else ())
            if isinstance(entry, dict) and isinstance(entry.get("id"), (int, str))
        }
        self.missing = [image for image in self._truth if image not in self._pred]
        self.listed, self.faults = list(self._truth), list[ImageFault]()
        own = shard.part([*enumerate(self.listed)])
        self.images = [image for place, image in own if image in self._pred and self._fits(place, image)]
        self.problems = missing_lines(self._truth, self._pred, str(pred)) + [fault.line for fault in self.faults]
        self.remarks: list[str] = []

    def _files(self, image: Any) -> tuple[Path, Path]:
        names = self._pred[image]["file_name"], self._truth[image]["file_name"]
        return self._folders[0] / names[0], self._folders[1] / names[1]

    def _fits(self, place: int, image: Any) -> bool:
        faults = [f"{file} is missing" for file in self._files(image) if not file.is_file()]
        if not faults:
            sizes = [png_size_of(file) for file in self._files(image)]
            if sizes[0] != sizes[1]:
                wrong = " and ".join("{} x {}".format(*size) for size in sizes)
                faults.append(f"prediction and ground truth are {wrong}, expected one size")
        for side, annotations in (("prediction", self._pred), ("ground truth", self._truth)):
            categories = [segment["category_id"] for segment in annotations[image]["segments_info"]]
            strange = [category for category in categories if category not in list(self.quality.isthing)]
            if strange:
                faults.append(f"{side} has categories {strange[:5]}, which the data set doesn't have")
        self.faults += [ImageFault(place, f"image {image}: {line}") for line in faults]
        return not faults

    def statistics(self, images: Sequence[Any], workers: int = 1, progress: bool = False) -> np.ndarray:
        """(N, R, C) int64, what each image adds to :attr:`PanopticQuality.statistics`."""
        rows = for_each_image(self._statistics, images, workers, progress)
        return np.stack(rows) if rows else np.zeros((0, *self.quality.statistics.shape), np.int64)

    def score(self, images: Sequence[Any], workers: int = 1, progress: bool = False) -> Scores:
        return summed_scores(self.quality, [self.state(images, workers, progress).part()])

    def state(self, images: Sequence[Any], workers: int = 1, progress: bool = False) -> ImagesState:
        names = [self._truth[image]["file_name"] for image in images]
        isthing = [[category, bool(thing)] for category, thing in self.quality.isthing.items()]
        about = {"isthing": isthing, "class_names": list(self.quality.class_names)}
        rows = for_each_image(self._statistics, images, workers, progress)
        return summed_state(self.quality, about, images, names, rows)

    def _statistics(self, image: Any) -> np.ndarray:
        maps = self.read(image)
        with self._errors_named(image):
            return self.quality.image_statistics(*maps)

    @contextmanager
    def _errors_named(self, image: Any) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raised = id_offset(self._pred[image]["segments_info"])
            remark = ", its predicted ids raised by 1, as 0 is one of them" if raised else ""
            raise UserError(f"image {image}{remark}: {error}") from None

    def read(self, image: Any) -> PanopticImage:
        """Maps and segments of an image, predicted ids raised by 1 if 0 is one of them.

        Raises:
            UserError: a damaged file.
        """
        pred_file, gt_file = self._files(image)
        pred, pred_segments = read_prediction(pred_file, self._pred[image]["segments_info"])
        return PanopticImage(read_panoptic_png(gt_file), self._truth[image]["segments_info"], pred, pred_segments)

    def image_key(self, image: Any) -> str:
        """What the image is called, for :class:`pnm.formats.image_files.ImageFiles`."""
        return self._image_names.get(image) or self._truth[image]["file_name"]


class PanopticScores(NamedTuple):
    """What the files of a data set score.

    Attributes:
        quality: of the whole data set.
        image_ids: N, in the order of the ground truth's JSON.
        statistics: (N, R, C) int64, those of each image, for :meth:`PanopticQuality.compute_many`.
    """

    quality: PanopticQuality
    image_ids: list
    statistics: np.ndarray


def score_panoptic_files(
    gt_json: str | Path,
    gt_folder: str | Path,
    pred_json: str | Path,
    pred_folder: str | Path,
    *,
    workers: int = 1,
    progress: bool = False,
    **boundary: Any,
) -> PanopticScores:
    """PQ, and Boundary PQ if asked for, of COCO panoptic result files that fit their ground truth.

    Args:
        workers: images worked on at a time, in threads: decoding and counting release Python's lock. The results
            don't depend on their number.
        progress: shows a bar.
        boundary: ``boundary_ratio`` or ``boundary_px``, as :class:`PanopticQuality` takes them.

    Raises:
        FileNotFoundError: a JSON is missing.
        UserError: an image has no prediction, or a file is missing, damaged or inconsistent; the message has a line for
            each, and names it. Predictions of images that the ground truth doesn't have are passed over.
    """
    files = PanopticFiles(pred_json, gt_json, pred_folder, gt_folder, **boundary)
    if files.missing:
        raise UserError(f"{pred_json} has no prediction for {len(files.missing)} image(s), first {files.missing[:5]}")
    if files.faults:
        raise UserError("\n".join(fault.line for fault in files.faults))
    statistics = files.statistics(files.images, workers, progress)
    files.quality.statistics = statistics.sum(axis=0)
    return PanopticScores(files.quality, files.images, statistics)


def evaluate_panoptic_files(
    gt_json: str | Path, gt_folder: str | Path, pred_json: str | Path, pred_folder: str | Path, progress: bool = False
) -> dict[str, dict[str, float]]:
    """PQ of COCO panoptic result files as panopticapi returns it, see :meth:`PanopticQuality.by_split`.

    Raises:
        FileNotFoundError, UserError: as :func:`score_panoptic_files` does.
    """
    return score_panoptic_files(gt_json, gt_folder, pred_json, pred_folder, progress=progress).quality.by_split()


def pq_percentages(result: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """``{"PQ", "SQ", "RQ", "PQ_th", ..., "RQ_st"}`` in percent, in Detectron2's names and order."""
    return {
        name.upper() + suffix: 100 * result[split][name]
        for split, suffix in _SPLITS.items()
        for name in ("pq", "sq", "rq")
    }


def pq_table(result: Mapping[str, Mapping[str, float]]) -> str:
    """PQ, SQ and RQ in percent and the number of categories, as a text table."""
    rows = [
        [split, *(100 * result[split][name] for name in ("pq", "sq", "rq")), result[split]["n"]] for split in _SPLITS
    ]
    return tabulate(rows, headers=("", "PQ", "SQ", "RQ", "categories"), floatfmt=("", ".3f", ".3f", ".3f", "d"))
