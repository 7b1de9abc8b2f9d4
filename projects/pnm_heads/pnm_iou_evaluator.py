"""PNM IoU beside Detectron2's evaluators of semantic data sets."""

import logging
from collections import OrderedDict

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from pnm.label_png import read_label_png
from pnm.metrics.pnm_iou import PNMIoU
from pnm.user_error import UserError

logger = logging.getLogger(__name__)


class PNMIoUEvaluator(DatasetEvaluator):
    """Results: ``{"pnm_iou": {"PNM_IoU", "mIoU", "PNM_IoU-<class>", "IoU-<class>"}}`` in percent (Eq. 8).

    Names with a hyphen are those of single classes, as Detectron2's report wants it.

    Pixels are pooled over the data set and over processes. Classes without ground truth are nan and left out of the
    means.

    Args:
        dataset_name: registered, with "stuff_classes" and "ignore_label" as metadata and label files as
            "sem_seg_file_name".
        locality, transform, border: see :class:`pnm.metrics.pnm_iou.PNMIoU`.
    """

    def __init__(self, dataset_name: str, locality: int = 35, transform: str = "log", border: str = "valid"):
        metadata = MetadataCatalog.get(dataset_name)
        self._metric = PNMIoU(
            len(metadata.stuff_classes),
            locality,
            transform,
            metadata.ignore_label,
            border=border,
            class_names=metadata.stuff_classes,
        )
        self._dataset_name = dataset_name
        self._label_files = {x["file_name"]: x["sem_seg_file_name"] for x in DatasetCatalog.get(dataset_name)}

    def reset(self) -> None:
        self._metric.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            label_file = self._label_files[given["file_name"]]
            try:
                self._metric.update(output["sem_seg"].argmax(dim=0), read_label_png(label_file))
            except UserError as error:
                raise UserError(f"{label_file}: {error}") from None

    def evaluate(self) -> dict | None:
        comm.synchronize()
        first, *rest = comm.gather(self._metric) or [None]
        if first is None:
            return None
        for other in rest:
            first.merge(other)
        result = {name.replace("PNM-IoU", "PNM_IoU", 1): 100 * value for name, value in first.compute().items()}
        rows = [(name, result[f"PNM_IoU-{name}"], result[f"IoU-{name}"]) for name in first.class_names]
        rows.append(("mean", result["PNM_IoU"], result["mIoU"]))
        table = tabulate(rows, headers=("class", "PNM IoU", "IoU"), floatfmt=".2f")
        logger.info("%s, PNM IoU at d = %d:\n%s", self._dataset_name, first.locality, table)
        return OrderedDict(pnm_iou=result)
