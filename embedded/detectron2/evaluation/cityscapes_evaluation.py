"""Cityscapes' own scores, by its scripts (``pip install cityscapesscripts``)."""

import glob
import importlib
import itertools
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from PIL import Image

from .evaluator import DatasetEvaluator

_ID_OF_NAME = {category["name"]: category["id"] for category in CITYSCAPES_CATEGORIES}


def _load_scripts(module: str):
    try:
        return importlib.import_module(f"cityscapesscripts.evaluation.{module}")
    except ImportError as error:
        raise ImportError(f"Cityscapes scores need its scripts ({error}): pip install cityscapesscripts") from error


@contextmanager
def _scoring(module) -> Iterator[None]:
    """Lets cityscapesscripts 2.3.0 run on NumPy ≥ 2.4, and turns its way of ending the program into an error.

    Its instance scores fail there for two reasons, both mended while they run and undone afterwards:
    ``np.in1d`` is gone (``np.isin`` does the same); and ``np.count_nonzero`` gives NumPy integers now, which
    the JSON dump of all matches, ``matches.json`` in the working directory, cannot write. Nobody reads
    that dump, nor the cache of the ground truth that the same function writes: it writes nothing.
    """
    write, is_missing = module.writeDict2JSON, not hasattr(np, "in1d")
    module.writeDict2JSON = lambda content, file_name: None
    if is_missing:
        setattr(np, "in1d", np.isin)  # noqa: B010
    try:
        yield
    except SystemExit as error:
        raise ValueError("cityscapesscripts refuses the files: its message is above") from error
    finally:
        module.writeDict2JSON = write
        if is_missing:
            delattr(np, "in1d")


class CityscapesEvaluator(DatasetEvaluator):
    """Writes predictions to a folder that all processes of one machine share; the main process scores them.

    ``dataset_name`` must have "gt_dir" as metadata, and "thing_classes" for instances.
    """

    _script = _truth = ""

    def __init__(self, dataset_name: str):
        self._metadata = MetadataCatalog.get(dataset_name)
        self._logger = logging.getLogger(__name__)

    def reset(self) -> None:
        if comm.get_local_size() != comm.get_world_size():
            raise ValueError("the Cityscapes evaluators work on one machine only: run --eval-only on one")
        _load_scripts(self._script)  # says now, not after hours, that they are missing
        own = tempfile.TemporaryDirectory(prefix="cityscapes_") if comm.is_main_process() else None
        self._working_dir = own
        self._temp_dir = comm.all_gather(own.name if own else None)[0]

    def _stem(self, entry: dict) -> str:
        return os.path.join(self._temp_dir, os.path.splitext(os.path.basename(entry["file_name"]))[0])

    def evaluate(self) -> OrderedDict | None:
        """``{task: {metric: percent}}`` in the main process."""
        comm.synchronize()
        if not comm.is_main_process():
            return None
        module = _load_scripts(self._script)
        args = module.args
        args.predictionPath, args.predictionWalk = os.path.abspath(self._temp_dir), None
        args.JSONOutput = args.colorized = False
        args.gtInstancesFile = os.path.join(self._temp_dir, "gtInstances.json")
        pattern = os.path.join(PathManager.get_local_path(self._metadata.gt_dir), "*", f"*_gtFine_{self._truth}.png")
        truths = sorted(glob.glob(pattern))
        if not truths:
            raise FileNotFoundError(f"no ground truth {pattern}: unpack gtFine_trainvaltest.zip there")
        self._logger.info("Scoring %d images with cityscapesscripts", len(truths))
        with _scoring(module):
            predictions = [self._find_prediction(module, truth) for truth in truths]
            scores = self._scores(module.evaluateImgLists(predictions, truths, args))
        self._working_dir.cleanup()
        return scores


class CityscapesInstanceEvaluator(CityscapesEvaluator):
    """AP and AP50 of instance masks."""

    _script, _truth = "evalInstanceLevelSemanticLabeling", "instanceIds"

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Takes outputs with "instances" (pred_classes, scores, pred_masks); without them, the image has none."""
        for entry, output in zip(inputs, outputs, strict=True):
            stem, lines = self._stem(entry), []
            if "instances" in output:
                found = output["instances"].to("cpu")
                rows = zip(found.pred_classes.tolist(), found.scores.tolist(), found.pred_masks, strict=True)
                for number, (label, score, mask) in enumerate(rows):
                    name = self._metadata.thing_classes[label]
                    # In the text file, blanks separate.
                    png = f"{stem}_{number}_{name.replace(' ', '_')}.png"
                    Image.fromarray(np.asarray(mask, dtype=np.uint8) * np.uint8(255)).save(png)
                    lines.append(f"{os.path.basename(png)} {_ID_OF_NAME[name]} {score}\n")
            with open(f"{stem}_pred.txt", "w", encoding="utf-8") as stream:
                stream.writelines(lines)

    @staticmethod
    def _find_prediction(module, truth: str) -> str:
        return module.getPrediction(truth, module.args)

    @staticmethod
    def _scores(results: dict) -> OrderedDict:
        averages = results["averages"]
        return OrderedDict(segm={"AP": averages["allAp"] * 100, "AP50": averages["allAp50%"] * 100})


class CityscapesSemSegEvaluator(CityscapesEvaluator):
    """IoU over the 19 classes and over their groups, pixel-wise and instance-weighted (``i``)."""

    _script, _truth = "evalPixelLevelSemanticLabeling", "labelIds"

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Takes outputs with "sem_seg", (19, H, W) scores."""
        ids = np.array([category["id"] for category in CITYSCAPES_CATEGORIES], dtype=np.uint8)
        for entry, output in zip(inputs, outputs, strict=True):
            labels = ids[output["sem_seg"].argmax(dim=0).cpu().numpy()]
            Image.fromarray(labels).save(f"{self._stem(entry)}_pred.png")

    @staticmethod
    def _find_prediction(module, truth: str) -> str:
        return module.getPrediction(module.args, truth)

    @staticmethod
    def _scores(results: dict) -> OrderedDict:
        kinds = itertools.product(("Classes", "Categories"), ("", "Inst"))
        names = ("IoU", "iIoU", "IoU_sup", "iIoU_sup")
        scores = {
            name: 100.0 * results[f"averageScore{inst}{kind}"] for name, (kind, inst) in zip(names, kinds, strict=True)
        }
        return OrderedDict(sem_seg=scores)
