"""Panoptic quality, on COCO's panoptic format."""

import io
import itertools
import logging
import os
import tempfile
from collections import OrderedDict

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from PIL import Image

from .evaluator import DatasetEvaluator

logger = logging.getLogger(__name__)


class COCOPanopticEvaluator(DatasetEvaluator):
    """PQ, SQ and RQ over all categories, things (``_th``) and stuff (``_st``), in percent.

    Writes COCO's panoptic result format to ``output_dir``: ``predictions.json`` with the PNGs in ``panoptic/``.

    Args:
        dataset_name: with "panoptic_json", "panoptic_root" and both "*_dataset_id_to_contiguous_id" as metadata
            (and "label_divisor" for models that return no segments).
        output_dir: None keeps the files in a temporary folder until they are measured.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        self._metadata = meta = MetadataCatalog.get(dataset_name)
        self._things = {new: old for old, new in meta.thing_dataset_id_to_contiguous_id.items()}
        self._stuff = {new: old for old, new in meta.stuff_dataset_id_to_contiguous_id.items()}
        self._output_dir = output_dir
        self.reset()

    def reset(self) -> None:
        self._predictions: list[dict] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Takes outputs with "panoptic_seg": an (H, W) map of ids (0 = nothing) and its list of segments.

        With None for the list, ids are category · label_divisor + instance, and −1 is nothing.
        """
        for entry, output in zip(inputs, outputs, strict=True):
            ids, segments = output["panoptic_seg"]
            ids = ids.cpu().numpy()
            if segments is None:
                segments, ids = self._segments_from_labels(ids), ids + 1
            stem = os.path.splitext(os.path.basename(entry["file_name"]))[0]
            self._predictions.append(
                {
                    "image_id": entry["image_id"],
                    "file_name": f"{stem}.png",
                    "png": _png(ids),
                    "segments_info": [self._with_dataset_id(segment) for segment in segments],
                }
            )

    def _segments_from_labels(self, labels: np.ndarray) -> list[dict]:
        found = [label for label in np.unique(labels).tolist() if label != -1]
        categories = [label // self._metadata.label_divisor for label in found]
        return [
            {"id": label + 1, "category_id": category, "isthing": category in self._things}
            for label, category in zip(found, categories, strict=True)
        ]

    def _with_dataset_id(self, segment: dict) -> dict:
        """Without "isthing" the category is the data set's own already."""
        kept = {key: value for key, value in segment.items() if key != "isthing"}
        if "isthing" in segment:
            kept["category_id"] = (self._things if segment["isthing"] else self._stuff)[segment["category_id"]]
        return kept

    def evaluate(self) -> OrderedDict | None:
        """``{"panoptic_seg": {"PQ": percent, …}}`` in the main process."""
        comm.synchronize()
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        from pnm.formats.coco_panoptic import write_predictions
        from pnm.scoring.panoptic_files import evaluate_panoptic_files, pq_percentages, pq_table

        gt_json = PathManager.get_local_path(self._metadata.panoptic_json)
        gt_folder = PathManager.get_local_path(self._metadata.panoptic_root)
        with tempfile.TemporaryDirectory(prefix="panoptic_") as scratch:
            folder = self._output_dir or scratch
            result_file = write_predictions(folder, itertools.chain(*gathered), gt_json)
            measured = evaluate_panoptic_files(gt_json, gt_folder, result_file, os.path.join(folder, "panoptic"))
        logger.info("Results for panoptic_seg:\n%s", pq_table(measured))
        return OrderedDict(panoptic_seg=pq_percentages(measured))


def _png(ids: np.ndarray) -> bytes:
    """PNG of ids as R + 256 G + 65536 B."""
    from pnm.formats.coco_panoptic import ids_to_rgb

    with io.BytesIO() as stream:
        Image.fromarray(ids_to_rgb(ids)).save(stream, format="PNG")
        return stream.getvalue()
