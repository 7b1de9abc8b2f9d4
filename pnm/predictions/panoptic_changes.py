"""Two COCO panoptic result files of the same images: what changed, and, with ground truth, what that was good for."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pnm.errors import UserError, listed
from pnm.formats.coco_instances import read_json
from pnm.formats.coco_panoptic import EXPECTED, panoptic_folder, read_annotations, read_categories
from pnm.formats.image_files import Key
from pnm.formats.label_png import png_size_of, read_panoptic_png
from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.predictions.coco_panoptic import PanopticPredictions
from pnm.predictions.image_predictions import Partition
from pnm.predictions.segment_changes import SegmentChanges, segment_changes

CHANGES = ("kept", "inserted", "deleted", "re-classed", "split", "merged")
OUTCOMES = ("found", "lost", "false ones deleted", "new false ones")
COLUMNS = ("all", "things", "stuff")


class PanopticChanges:
    """A base model's result file, before, and a refined one, after.

    Counts are of segments. Of a re-classed one, its category before decides whether it is a thing; a split one counts
    once, as does what others were merged into. Beside the ground truth, where segments match as in PQ:

    - found: ground-truth segments that were missed before and are matched after;
    - lost: those that were matched before and are missed after;
    - false ones deleted: false positives of the base whose id is gone;
    - new false ones: false positives after whose id is new.

    Args:
        before, after: the JSONs; ids needn't agree, see :func:`pnm.predictions.segment_changes.segment_changes`.
        before_folder, after_folder, gt_folder: of the PNGs; by default :func:`panoptic_folder` of the JSONs.
        gt: JSON of the ground truth, which may have more images.

    Attributes:
        images: ids in the order of ``before``.
        rows: names of the counts: ``CHANGES`` and, with ground truth, ``OUTCOMES``.
        isthing: ``{category id: is it a thing}`` of the ground truth, else of a result file that says so, else empty.
        image_info: the first of the files that lists images, or None.

    Raises:
        FileNotFoundError: a JSON or folder is missing.
        UserError: it isn't such a JSON; the files aren't of the same images; a PNG is missing or of another size; a
            category that the ground truth doesn't have.
    """

    def __init__(
        self,
        before: str | Path,
        after: str | Path,
        before_folder: str | Path | None = None,
        after_folder: str | Path | None = None,
        *,
        gt: str | Path | None = None,
        gt_folder: str | Path | None = None,
    ):
        self._before, self._after = _ResultFile(before, before_folder), _ResultFile(after, after_folder)
        _check_same_images(self._before, self._after)
        self.images = list(self._before.predictions.keys)
        self._truth: dict[Key, dict[str, Any]] = {}
        contents: dict[Path, Mapping[str, Any]] = {}
        if gt is not None:
            contents[Path(gt)], self._truth = read_annotations(gt)
            self._gt_folder = Path(gt_folder or panoptic_folder(gt))
            absent = [image for image in self.images if image not in self._truth]
            if absent:
                raise UserError(f"{gt} lacks {len(absent)} image(s) of {before}: {listed(absent)}")
        contents |= {side.path: side.content for side in (self._before, self._after)}
        self.image_info = next((path for path, content in contents.items() if content.get("images")), None)
        if gt is None:
            self.isthing = next(filter(None, map(_isthing, contents.values())), {})
        else:
            self.isthing, _ = read_categories(contents[Path(gt)], gt)
            self._quality = PanopticQuality(self.isthing)
        self._check_files()
        self.rows = (*CHANGES, *(OUTCOMES if gt is not None else ()))

    def of_image(self, image: Key) -> tuple[Partition, SegmentChanges]:
        """The base's segments of an image, and what became of them.

        Raises:
            UserError: a PNG is damaged, or doesn't fit its list of segments; the message names it.
        """
        base, refined = (side.predictions.read(image) for side in (self._before, self._after))
        try:
            return base, segment_changes(base, refined)
        except UserError as error:
            raise UserError(f"image {image}: {error}") from None

    def counts(self, image: Key) -> np.ndarray:
        """(rows, 3) int64, of all categories, of things and of stuff; sums over images are those of the data set.

        Where ``isthing`` is empty the last two are 0.
        """
        base, changes = self.of_image(image)
        category = _category(base) | _category(changes.refined)  # they agree on kept ids, and others are on one side
        ids: list[Collection[int]] = [changes.kept, changes.inserted, changes.deleted]
        ids += [[number for number, _ in changes.reclassed], changes.split, changes.merged]
        categories = [[category[number] for number in row] for row in ids]
        if self._truth:
            categories += self._outcomes(image, base, changes.refined)
        return np.array([self._by_column(row) for row in categories], np.int64)

    def _outcomes(self, image: Key, base: Partition, refined: Partition) -> list[list[int]]:
        """Categories of the segments that ``OUTCOMES`` count."""
        segments = self._truth[image]["segments_info"]
        truth = read_panoptic_png(self._truth_png(image))
        before, after = (
            self._quality.image_matches(truth, segments, side.labels, _segments(side)) for side in (base, refined)
        )
        category = {segment["id"]: segment["category_id"] for segment in segments}
        of_base, of_refined = _category(base), _category(refined)
        return [
            [category[number] for number in before.missed if number in set(after.matched)],
            [category[number] for number in before.matched if number in set(after.missed)],
            [of_base[number] for number in before.false_positives if number not in of_refined],
            [of_refined[number] for number in after.false_positives if number not in of_base],
        ]

    def _by_column(self, categories: Collection[int]) -> tuple[int, int, int]:
        are_things = [self.isthing.get(category) for category in categories]
        return len(are_things), are_things.count(True), are_things.count(False)

    def _truth_png(self, image: Key) -> Path:
        return self._gt_folder / self._truth[image]["file_name"]

    def _check_files(self) -> None:
        """A UserError about the first image whose files don't fit, before pixels are read."""
        for image in self.images:
            files = [self._before.png[image], self._after.png[image]]
            if self._truth:
                files.append(self._truth_png(image))
                for side in (self._before, self._after):
                    strange = [k for k in side.categories(image) if k not in self.isthing]
                    if strange:
                        raise UserError(
                            f"image {image}: {side.path} has categories {listed(strange)}, which the ground truth "
                            "doesn't have"
                        )
            for file in files:
                if not file.is_file():
                    raise UserError(f"image {image}: {file} is missing: check the folders of PNGs")
            sizes = {file: png_size_of(file) for file in files}
            if len(set(sizes.values())) > 1:
                wrong = ", ".join("{} is {} x {}".format(file, *size) for file, size in sizes.items())
                raise UserError(f"image {image}: {wrong}: expected one size")


class _ResultFile:
    """A panoptic JSON, read once, with ``png``, the path of each image's."""

    def __init__(self, path: str | Path, folder: str | Path | None):
        self.path = Path(path)
        self.content = read_json(self.path, EXPECTED)
        folder = Path(folder or panoptic_folder(path))
        self.predictions = PanopticPredictions(path, content=self.content, png_folder=folder)
        self._annotations = {annotation["image_id"]: annotation for annotation in self.content["annotations"]}
        self.png = {image: folder / annotation["file_name"] for image, annotation in self._annotations.items()}

    def categories(self, image: Key) -> list[int]:
        return [segment["category_id"] for segment in self._annotations[image]["segments_info"]]


def _check_same_images(before: _ResultFile, after: _ResultFile) -> None:
    only = [
        f"{len(absent)} image(s) only in {one.path}: {listed(absent)}"
        for one, other in ((before, after), (after, before))
        if (absent := [image for image in one.predictions.keys if image not in other.predictions])
    ]
    if only:
        raise UserError(f"the result files aren't of the same images, {'; '.join(only)}")
    if not before.predictions.keys:
        raise UserError(f"{before.path} and {after.path} have no image: nothing to compare")


def _isthing(content: Mapping[str, Any]) -> dict[int, bool]:
    """Of a result file's categories; empty where these are missing, or don't say it."""
    try:
        return read_categories(content, "")[0]
    except UserError:  # they are no part of the format of results
        return {}


def _category(partition: Partition) -> dict[int, int]:
    return dict(zip(partition.segments, partition.categories, strict=True))


def _segments(partition: Partition) -> list[dict[str, int]]:
    return [{"id": number, "category_id": category} for number, category in _category(partition).items()]
