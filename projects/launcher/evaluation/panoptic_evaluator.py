"""Panoptic evaluation without panopticapi, whose result files stay on disk for refiners to read."""

import io
import itertools
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from PIL import Image

from pnm.formats.coco_panoptic import ids_to_rgb, write_predictions
from pnm.scoring.panoptic_files import pq_table, score_panoptic_files

from .metric_evaluators import reported

logger = logging.getLogger(__name__)


def named_apart(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records whose "file_name" no other has: images of one name, in several folders, are numbered."""
    renamed = [dict(record) for record in records]
    count = Counter(record["file_name"] for record in renamed)
    taken = set(count)
    for record in renamed:
        name, number = record["file_name"], 0
        while count[name] > 1 and record["file_name"] in taken:
            number += 1
            record["file_name"] = f"{Path(name).stem}_{number}.png"
        taken.add(record["file_name"])
    return renamed


def segment_row(segment: Mapping[str, Any], category_id: Callable[[int, bool], int]) -> dict[str, Any]:
    """A segment as result files list it, with the model's "score" of a thing if it gives one.

    Args:
        segment: of the model's "segments_info".
        category_id: the data set's id of a contiguous category, and whether it is a thing.
    """
    isthing = bool(segment["isthing"])
    row = {"id": int(segment["id"]), "category_id": category_id(int(segment["category_id"]), isthing)}
    has_score = isthing and segment.get("score") is not None
    return {**row, "score": float(segment["score"])} if has_score else row


class PanopticEvaluator(DatasetEvaluator):
    """Writes ``predictions.json`` and ``panoptic/*.png`` in COCO's format under ``output_folder`` and scores them.

    Things have a "score" in their "segments_info" if the model gives one.

    Results: ``{"panoptic_seg": {"PQ", "SQ", "RQ", "PQ_th", ..., "RQ_st"}}`` in percent, as Detectron2 names them, and
    the same of Boundary PQ as "Boundary_PQ", ..., "Boundary_RQ_st".
    PNGs are encoded in the process that predicted them and gathered; the main process scores all images once.
    """

    def __init__(self, dataset_name: str, output_folder: str | Path, boundary_ratio: float = 0.02):
        self._metadata = MetadataCatalog.get(dataset_name)
        self._folder, self._boundary_ratio = Path(output_folder), boundary_ratio
        things = self._metadata.thing_dataset_id_to_contiguous_id
        stuff = self._metadata.stuff_dataset_id_to_contiguous_id
        self._category = {(True, k): category for category, k in things.items()}
        self._category |= {(False, k): category for category, k in stuff.items()}
        self._records: list[dict[str, Any]] = []

    def reset(self) -> None:
        self._records = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            ids, segments = output["panoptic_seg"]
            png = io.BytesIO()
            Image.fromarray(ids_to_rgb(np.asarray(ids.cpu()))).save(png, format="PNG")
            rows = [segment_row(segment, self._category_id) for segment in segments]
            name = Path(given["file_name"]).stem + ".png"
            self._records.append(
                {"image_id": given["image_id"], "file_name": name, "segments_info": rows, "png": png.getvalue()}
            )

    def _category_id(self, category: int, isthing: bool) -> int:
        return self._category[isthing, category]

    def evaluate(self) -> dict | None:
        comm.synchronize()
        of_processes = comm.gather(self._records)
        if not comm.is_main_process():
            return None
        records = named_apart({r["image_id"]: r for r in itertools.chain(*of_processes)}.values())
        predictions = write_predictions(self._folder, records, self._metadata.panoptic_json)
        files = (self._metadata.panoptic_json, self._metadata.panoptic_root, predictions, self._folder / "panoptic")
        quality = score_panoptic_files(*files, boundary_ratio=self._boundary_ratio).quality
        logger.info("panoptic quality:\n%s", pq_table(quality.by_split()))
        return OrderedDict(panoptic_seg=reported(quality.compute()).means)
