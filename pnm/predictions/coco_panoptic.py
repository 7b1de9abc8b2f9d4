"""COCO panoptic results: a JSON of segments and a folder of PNGs, as Detectron2 and our launcher write them, too."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from pnm.errors import UserError
from pnm.formats.coco_panoptic import (
    VOID,
    annotations_by_image,
    id_offset,
    ids_to_rgb,
    panoptic_folder,
    read_annotations,
    read_prediction,
)
from pnm.formats.image_files import Key
from pnm.masks.crops import segment_extents
from pnm.predictions.image_predictions import Partition, checked_labels
from pnm.predictions.prediction_set import PredictionSet, RecordOf, files_digest
from pnm.predictions.records import Record
from pnm.predictions.refinement_details import Detail
from pnm.predictions.relisting import with_kept_ids

logger = logging.getLogger(__name__)


class PanopticPredictions(PredictionSet):
    """``{"annotations": [{"image_id", "file_name", "segments_info": [{"id", "category_id", ...}]}], ...}`` and PNGs.

    Labels are the segments' ids; 0 is void. Where an image's list has id 0, as DETR's files do, that is a segment and
    there is no void: labels are the ids + 1.

    The output is a JSON and, beside it, the folder of its name without ".json", with PNGs of the same names. "area" and
    "bbox" of a segment follow its mask where it has them; all else in the JSON stays. A segment whose pixels are gone
    is left out, as the format has none without. An image that didn't change keeps its PNG.

    A refiner may also give a Partition into other segments: those that are the same keep their ids and entries, others
    get new ones, see :func:`pnm.predictions.relisting.with_kept_ids`. The log says how many segments are gone and how
    many new. Ids are numbered as they were, with one exception: if such a Partition has void in an image with id 0,
    all ids of that image are raised by 1.

    Args:
        path: of the JSON. No annotations are all right.
        content: what the file holds, where that is known already.
        png_folder: by default the folder of the JSON's name without ".json", else ``panoptic`` beside it.

    Raises:
        FileNotFoundError: there is no such file or folder.
        UserError: it isn't such a JSON; an image occurs twice, or a segment's id in an image; a PNG's name leads out
            of the folder.
    """

    FORMAT = "COCO panoptic JSON with a folder of PNGs"
    ANNOTATIONS = "coco-panoptic"  # what the format of annotations is called
    task = "panoptic"

    OPTIONS = ("png_folder",)
    HAS_FIELDS = True

    def __init__(self, path: str | Path, *, png_folder: str | Path | None = None, content: Any = None):
        path = Path(path)
        if content is None:
            self._content, by_image = read_annotations(path, predicted=True)
        else:
            self._content, by_image = annotations_by_image(content, path, predicted=True)
        self._annotations: dict[Key, dict[str, Any]] = by_image
        super().__init__(path, by_image)
        names = [annotation["file_name"] for annotation in self._annotations.values()]
        if len(set(names)) < len(names):
            raise UserError(f"{path} names a PNG for two images: expected a PNG for each")
        if png_folder is None:
            png_folder = panoptic_folder(path) if names else path.with_suffix("")
        elif not Path(png_folder).is_dir():
            raise FileNotFoundError(f"{png_folder} is not a folder: expected the PNGs of {path}")
        self._folder = Path(png_folder)

    @property
    def category_ids(self) -> set[int]:
        """Of all segments."""
        return {s["category_id"] for one in self._annotations.values() for s in one["segments_info"]}

    def _png(self, key: Key) -> Path:
        return self._folder / self._annotations[key]["file_name"]

    def read(self, key: Key) -> Partition:
        path, listed = self._png(key), self._annotations[key]["segments_info"]
        labels, segments = read_prediction(path, listed)
        raised, ids = id_offset(listed), [segment["id"] for segment in segments]
        present = set(np.unique(labels).tolist()) - {VOID}
        unlisted, absent = (
            [number - raised for number in numbers][:5]
            for numbers in (sorted(present - set(ids)), [number for number in ids if number not in present])
        )
        if unlisted:
            raise UserError(f"{path} has segment ids {unlisted} that {self.path} doesn't list for image {key}")
        if absent:
            raise UserError(f"{self.path} lists segments {absent} for image {key} that have no pixel in {path}")
        return Partition(labels, tuple(ids), tuple(segment["category_id"] for segment in segments))

    def inputs(self) -> tuple[Path, ...]:
        return self.path, self._folder

    def digest(self) -> str:
        files = files_digest([self.path], ((str(key), self._png(key)) for key in self.keys))
        return f"lists of segments {files}"  # what records hold, so that others aren't gone on with

    def targets(self, output: Path) -> tuple[Path, ...]:
        if output.suffix != ".json":
            raise UserError(f"the output {output} should be named *.json; its PNGs go into the folder of that name")
        return output.with_suffix(""), output

    def encode(self, key: Key, refined: Any, coarse: Partition) -> Record:
        """The list of segments, :class:`SegmentRow` by row, and the PNG if it is another."""
        result = checked_segments(coarse, refined, f"image {key}")
        raised = id_offset(self._annotations[key]["segments_info"]) if result.labels.all() else 0
        meta = segment_rows(result, coarse, raised)
        if np.array_equal(result.labels, coarse.labels):
            return Record(meta)
        done, png = cv2.imencode(".png", ids_to_rgb(result.labels - raised)[..., ::-1])
        assert done
        return Record(meta, (png.tobytes(),))

    def with_fields(self, record: Record, details: Sequence[Detail]) -> Record:
        rows = (SegmentRow(*row) for row in record.meta)
        return record._replace(meta=[row._replace(fields=one.fields()) for row, one in zip(rows, details, strict=True)])

    def assemble(self, places: Sequence[Path], record_of: RecordOf) -> None:
        folder, json_file = places
        folder.mkdir()
        annotations, gone, new = [], 0, 0
        isthing = _isthing(self._content)
        for key, annotation in self._annotations.items():
            record = record_of(key)
            png = folder / annotation["file_name"]
            png.parent.mkdir(parents=True, exist_ok=True)
            if record and record.blobs:
                png.write_bytes(record.blobs[0])
            else:
                shutil.copyfile(self._png(key), png)
            if record:
                rows, before = [SegmentRow(*row) for row in record.meta], annotation["segments_info"]
                kept = sum(row.place is not None for row in rows)
                gone, new = gone + len(before) - kept, new + len(rows) - kept
                annotation = {**annotation, "segments_info": [segment_entry(row, before, isthing) for row in rows]}
            annotations.append(annotation)
        json_file.write_text(json.dumps({**self._content, "annotations": annotations}), "utf-8")
        if gone or new:
            logger.warning("%d segments are gone after refinement and %d are new", gone, new)


class SegmentRow(NamedTuple):
    """A segment of a refined image, as a record holds it.

    Attributes:
        place: in the coarse image's list, None of a new one.
        id: in the output.
        bbox: x, y, width, height in pixels, as ``area``.
        fields: that the entry gets beside.
    """

    place: int | None
    id: int
    category_id: int
    area: int
    bbox: list[int]
    fields: Mapping[str, Any] = {}


def checked_segments(coarse: Partition, refined: Any, name: str) -> Partition:
    """A refined image in the coarse one's ids; segments may be without pixels."""
    if not isinstance(refined, Partition):
        return replace(coarse, labels=checked_labels(coarse, refined, (VOID,), name))
    try:
        return with_kept_ids(coarse, refined)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def segment_rows(result: Partition, coarse: Partition, raised: int = 0) -> list[SegmentRow]:
    """Those segments that have pixels; ``raised`` is by how much labels are above the ids in the output."""
    places = {label: place for place, label in enumerate(coarse.segments)}
    areas, boxes = segment_extents(result.labels, result.segments)
    rows = zip(result.segments, result.categories, areas.tolist(), boxes.tolist(), strict=True)
    return [
        SegmentRow(places.get(label), label - raised, category, area, [left, top, right - left, bottom - top])
        for label, category, area, (top, left, bottom, right) in rows
        if area
    ]


def _isthing(content: Mapping[str, Any]) -> dict[int, bool | int]:
    """Whether each category is a thing, in the type in which segments say it; empty where none of them does."""
    segments = (segment for annotation in content["annotations"] for segment in annotation["segments_info"])
    kind = next((type(segment["isthing"]) for segment in segments if "isthing" in segment), None)
    categories = content.get("categories")
    if kind not in (bool, int) or not isinstance(categories, list):
        return {}
    pairs = [(row.get("id"), row.get("isthing")) for row in categories if isinstance(row, dict)]
    return {category: kind(thing) for category, thing in pairs if type(category) is int and thing in (0, 1)}


def segment_entry(
    row: SegmentRow, before: Sequence[Mapping[str, Any]], isthing: Mapping[int, bool | int]
) -> dict[str, Any]:
    """The entry of a refined segment: that of the coarse list with what follows from the mask, or a new one."""
    if row.place is not None:
        new = {"id": row.id, "area": row.area, "bbox": row.bbox}
        return {key: new.get(key, value) for key, value in before[row.place].items()} | dict(row.fields)
    entry = {"id": row.id, "category_id": row.category_id, "area": row.area, "bbox": row.bbox, "iscrowd": 0}
    return entry | dict(row.fields) | ({"isthing": isthing[row.category_id]} if row.category_id in isthing else {})
