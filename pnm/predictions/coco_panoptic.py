"""COCO panoptic results: a JSON of segments and a folder of PNGs, as Detectron2 and our launcher write them, too."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pnm.errors import UserError
from pnm.formats.coco_panoptic import VOID, annotations_by_image, ids_to_rgb, panoptic_folder, read_annotations
from pnm.formats.image_files import Key
from pnm.formats.label_png import read_panoptic_png
from pnm.masks.crops import segment_extents
from pnm.predictions.image_predictions import Partition, checked_labels
from pnm.predictions.prediction_set import PredictionSet, RecordOf, files_digest
from pnm.predictions.records import Record

logger = logging.getLogger(__name__)


class PanopticPredictions(PredictionSet):
    """``{"annotations": [{"image_id", "file_name", "segments_info": [{"id", "category_id", ...}]}], ...}`` and PNGs.

    Labels are the segments' ids; 0 is void. The output is a JSON and, beside it, the folder of its name without
    ".json", with PNGs of the same names. "area" and "bbox" of a segment follow its mask where it has them. A segment
    whose pixels are gone is left out, as the format has none without; the log says how many. All else in the JSON
    stays. An image that didn't change keeps its PNG.

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
    task = "panoptic"

    OPTIONS = ("png_folder",)

    def __init__(self, path: str | Path, *, png_folder: str | Path | None = None, content: Any = None):
        path = Path(path)
        self._content, by_image = annotations_by_image(content, path) if content else read_annotations(path)
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

    def _png(self, key: Key) -> Path:
        return self._folder / self._annotations[key]["file_name"]

    def read(self, key: Key) -> Partition:
        path, segments = self._png(key), self._annotations[key]["segments_info"]
        ids = [segment["id"] for segment in segments]
        labels = read_panoptic_png(path)
        present = set(np.unique(labels).tolist()) - {VOID}
        unlisted, absent = sorted(present - set(ids)), [number for number in ids if number not in present]
        if unlisted:
            raise UserError(f"{path} has segment ids {unlisted[:5]} that {self.path} doesn't list for image {key}")
        if absent:
            raise UserError(f"{self.path} lists segments {absent[:5]} for image {key} that have no pixel in {path}")
        return Partition(labels, tuple(ids), tuple(segment["category_id"] for segment in segments))

    def inputs(self) -> tuple[Path, ...]:
        return self.path, self._folder

    def digest(self) -> str:
        return files_digest([self.path], ((str(key), self._png(key)) for key in self.keys))

    def targets(self, output: Path) -> tuple[Path, ...]:
        if output.suffix != ".json":
            raise UserError(f"the output {output} should be named *.json; its PNGs go into the folder of that name")
        return output.with_suffix(""), output

    def encode(self, key: Key, refined: Any, coarse: Partition) -> Record:
        labels = checked_labels(coarse, refined, (VOID,), f"image {key}")
        extents = _extents(labels, coarse.segments)
        if np.array_equal(labels, coarse.labels):
            return Record(extents)
        done, png = cv2.imencode(".png", ids_to_rgb(labels)[..., ::-1])
        assert done
        return Record(extents, (png.tobytes(),))

    def assemble(self, places: Sequence[Path], record_of: RecordOf) -> None:
        folder, json_file = places
        folder.mkdir()
        annotations, vanished = [], 0
        for key, annotation in self._annotations.items():
            record = record_of(key)
            png = folder / annotation["file_name"]
            png.parent.mkdir(parents=True, exist_ok=True)
            if record and record.blobs:
                png.write_bytes(record.blobs[0])
            else:
                shutil.copyfile(self._png(key), png)
            if record:
                before, annotation = annotation, _refined(annotation, record.meta)
                vanished += len(before["segments_info"]) - len(annotation["segments_info"])
            annotations.append(annotation)
        json_file.write_text(json.dumps({**self._content, "annotations": annotations}))
        if vanished:
            logger.warning("%d segments have no pixel left after refinement and are left out", vanished)


def _extents(labels: np.ndarray, segments: Sequence[int]) -> list[list]:
    """[area, [x, y, width, height]] of each segment, zeros of one without pixels; in pixels."""
    areas, boxes = segment_extents(labels, segments)
    return [
        [area, [left, top, right - left, bottom - top] if area else [0] * 4]
        for area, (top, left, bottom, right) in zip(areas.tolist(), boxes.tolist(), strict=True)
    ]


def _refined(annotation: dict[str, Any], extents: Sequence[Sequence]) -> dict[str, Any]:
    segments = []
    for segment, (area, box) in zip(annotation["segments_info"], extents):
        new = {"area": area, "bbox": box}
        if area:
            segments.append({key: new.get(key, value) for key, value in segment.items()})
    return {**annotation, "segments_info": segments}
