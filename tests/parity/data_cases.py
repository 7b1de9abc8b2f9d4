"""Data sets, mapped samples, sampler indices and evaluator files on real annotations."""

import itertools
import json
import os
import random
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, build_detection_train_loader
from detectron2.data import transforms as T
from detectron2.data.samplers import InferenceSampler, RepeatFactorTrainingSampler, TrainingSampler
from detectron2.structures import BoxMode, Instances

from projects.launcher.config import load_config

CONFIG = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"


def plain(value):
    """Detectron2's types as containers that compare with ``==``."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, BoxMode) else value


def metadata(folder: Path) -> dict:
    """Everything that is registered for every built-in data set."""
    names = [n for n in DatasetCatalog.list() if n.startswith(("coco_2014", "coco_2017", "cityscapes", "ade20k"))]
    return {name: plain(MetadataCatalog.get(name).as_dict()) for name in sorted(names)}


def dicts(folder: Path, name: str) -> list:
    """The records of a built-in data set under ``DETECTRON2_DATASETS``."""
    return sorted(plain(DatasetCatalog.get(name)), key=lambda record: record["file_name"])


def _sample(given: dict) -> dict:
    row = {"image": given["image"]}
    if "sem_seg" in given:
        row["sem_seg"] = given["sem_seg"]
    if "instances" in given:
        instances: Instances = given["instances"]
        row |= {"boxes": instances.gt_boxes.tensor, "classes": instances.gt_classes}
        if instances.has("gt_masks"):
            masks = instances.gt_masks
            row["masks"] = masks.tensor if hasattr(masks, "tensor") else [[np.asarray(p) for p in m] for m in masks.polygons]
    return row


def _mapper(variant: str) -> DatasetMapper:
    overrides = ["INPUT.CROP.ENABLED", str(variant.startswith("crop"))]
    if variant.endswith("bitmask"):
        overrides += ["INPUT.MASK_FORMAT", "bitmask"]
    cfg: CfgNode = load_config(CONFIG, overrides)
    if variant != "colour":
        return DatasetMapper(cfg, True)
    augmentations = [
        T.RandomApply(T.RandomContrast(0.6, 1.4), 0.7),
        T.RandomBrightness(0.6, 1.4),
        T.RandomSaturation(0.6, 1.4),
        T.RandomLighting(0.7),
        T.ResizeScale(0.3, 1.6, 320, 320),
        T.FixedSizeCrop((320, 320)),
        T.RandomFlip(),
    ]
    return DatasetMapper(cfg, True, augmentations=augmentations)


def mapped(folder: Path, name: str, variant: str) -> list[dict]:
    """Training samples, augmented from one random state."""
    records = [r for r in DatasetCatalog.get(name) if variant.endswith("bitmask") or not _has_rle(r)]
    mapper = _mapper(variant)
    found = []
    for k, record in enumerate(sorted(records, key=lambda r: r["file_name"])[:12]):
        np.random.seed(k)
        random.seed(k)
        torch.manual_seed(k)
        given = mapper(record)
        found.append(_sample(given))
    return found


def _has_rle(record: dict) -> bool:
    return any(isinstance(a["segmentation"], dict) for a in record.get("annotations", []) if not a.get("iscrowd"))


def semantic_crops(folder: Path, name: str) -> list[dict]:
    """Label maps cropped until no class fills the crop."""
    augmentations = [
        T.ResizeShortestEdge((200, 300), 900, "range"),
        T.RandomCrop_CategoryAreaConstraint("absolute", (128, 192), 0.6, 255),
        T.RandomFlip(),
    ]
    cfg = load_config(CONFIG, [])
    mapper = DatasetMapper(cfg, True, augmentations=augmentations)
    found = []
    for k, record in enumerate(sorted(DatasetCatalog.get(name), key=lambda r: r["file_name"]) * 3):
        np.random.seed(k)
        found.append(_sample(mapper(record)))
    return found


def samplers(folder: Path) -> dict:
    """The first indices of every sampler."""
    repeats = torch.tensor([1.0, 2.5, 1.3, 4.0, 1.0])
    take = 37
    return {
        "shuffled": list(itertools.islice(TrainingSampler(11, seed=5), take)),
        "in order": list(itertools.islice(TrainingSampler(11, shuffle=False), take)),
        "repeat": list(itertools.islice(RepeatFactorTrainingSampler(repeats, seed=3), take)),
        "inference": list(InferenceSampler(13)),
    }


def loader(folder: Path) -> list:
    """File names of the first batches of a grouped, shuffled loader."""
    cfg = load_config(CONFIG, ["SOLVER.IMS_PER_BATCH", "3", "DATALOADER.NUM_WORKERS", "0", "INPUT.MIN_SIZE_TRAIN", "(64,)"])
    torch.manual_seed(0)
    np.random.seed(0)
    batches = itertools.islice(iter(build_detection_train_loader(cfg)), 8)
    return [[os.path.basename(given["file_name"]) for given in batch] for batch in batches]


def shaken_instances(record: dict, rng: np.random.Generator) -> Instances:
    """Ground truth as a prediction: boxes moved, classes at times wrong, masks shifted."""
    from detectron2.structures import Boxes
    from pycocotools import mask as coco_mask

    size = record["height"], record["width"]
    boxes, classes, masks = [], [], []
    for row in record["annotations"]:
        x, y, width, height = row["bbox"]
        shift = rng.normal(0, 0.06, 4) * [width, height, width, height]
        boxes.append(np.array([x, y, x + width, y + height]) + shift)
        classes.append(row["category_id"] if rng.random() < 0.9 else int(rng.integers(80)))
        polygons = row["segmentation"]
        rle = polygons if isinstance(polygons, dict) else coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
        if isinstance(rle["counts"], list):
            rle = coco_mask.frPyObjects(rle, *size)
        masks.append(np.roll(coco_mask.decode(rle), tuple(rng.integers(-4, 5, 2)), (0, 1)))
    found = Instances(size)
    found.pred_boxes = Boxes(torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)))
    found.scores = torch.tensor(rng.random(len(boxes)).astype(np.float32))
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    found.pred_masks = torch.tensor(np.array(masks, bool).reshape(-1, *size))
    return found


def coco_evaluator(folder: Path, name: str, empty: str) -> tuple:
    """Numbers and result file of shaken ground truth; ``empty`` "yes": of no detections at all."""
    from detectron2.evaluation import COCOEvaluator

    output = folder / "inference"
    evaluator = COCOEvaluator(name, tasks=("bbox", "segm"), distributed=False, output_dir=str(output))
    evaluator.reset()
    rng = np.random.default_rng(0)
    for record in DatasetCatalog.get(name):
        instances = shaken_instances(record, rng)
        evaluator.process([record], [{"instances": instances[:0] if empty == "yes" else instances}])
    results = {task: dict(row) for task, row in evaluator.evaluate().items()}
    return results, json.loads((output / "coco_instances_results.json").read_text())


def semantic_evaluator(folder: Path, name: str) -> tuple:
    """Numbers and result file of shifted label maps."""
    from detectron2.evaluation import SemSegEvaluator
    from PIL import Image

    output = folder / "semantic"
    evaluator = SemSegEvaluator(name, distributed=False, output_dir=str(output))
    evaluator.reset()
    classes = len(MetadataCatalog.get(name).stuff_classes)
    for record in DatasetCatalog.get(name):
        labels = torch.from_numpy(np.array(Image.open(record["sem_seg_file_name"]))).long()
        moved = labels.roll((5, -7), (0, 1)).clamp(max=classes - 1)
        evaluator.process([record], [{"sem_seg": torch.nn.functional.one_hot(moved, classes).permute(2, 0, 1).float()}])
    results = dict(evaluator.evaluate()["sem_seg"])
    return results, json.loads((output / "sem_seg_predictions.json").read_text())
