"""Data set entries, augmentation, sampling and evaluation as plain values.

``folder`` holds ``root``, data sets in their own layouts with the prepared files (made by ``test_data.py``).
"""

# ruff: noqa: NPY002 - the engines draw from NumPy's global generator.

import io
import itertools
import json
import os
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

PLAIN = (
    "coco_2017_train",
    "coco_2017_val",
    "coco_2017_val_panoptic",
    "coco_2017_val_panoptic_stuffonly",
    "cityscapes_fine_instance_seg_train",
    "cityscapes_fine_sem_seg_val",
    "cityscapes_fine_panoptic_train",
    "ade20k_sem_seg_val",
)
OUTSIDE = ("lvis", "voc", "keypoints")


def prepare(folder: Path) -> Path:
    """Points the data sets at ``folder/root`` and gives Detectron2 the modules that it imports under other names."""
    os.environ["DETECTRON2_DATASETS"] = str(folder / "root")
    import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as scores
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling  # noqa: F401
    import cityscapesscripts.helpers.labels  # noqa: F401
    import detectron2

    prefix = "deeplearning.projects.cityscapesApi"
    for name in ("deeplearning", "deeplearning.projects", prefix):
        sys.modules[name] = types.ModuleType(name)
    for name in [name for name in sys.modules if name.startswith("cityscapesscripts")]:
        sys.modules[f"{prefix}.{name}"] = sys.modules[name]
    if Path(detectron2.__file__).parents[1].name != "embedded":
        if not hasattr(np, "in1d"):
            setattr(np, "in1d", np.isin)  # noqa: B010
            scores.writeDict2JSON = lambda *content: None
        _provide_panopticapi()
    return folder / "root"


def _provide_panopticapi() -> None:
    """Where panopticapi is not installed: its conversion of ids, and its scores from pnm (compared elsewhere)."""
    try:
        import panopticapi.evaluation  # noqa: F401
    except ImportError:
        from pnm.formats.coco_panoptic import ids_to_rgb
        from pnm.scoring.panoptic_files import evaluate_panoptic_files

        api, utils, evaluation = (types.ModuleType(f"panopticapi{n}") for n in ("", ".utils", ".evaluation"))
        utils.id2rgb = ids_to_rgb
        evaluation.pq_compute = lambda gt, pred, gt_folder, pred_folder: evaluate_panoptic_files(
            gt, gt_folder, pred, pred_folder
        )
        for module in (api, utils, evaluation):
            sys.modules[module.__name__] = module


def plain(value):
    """Structures as containers of arrays."""
    if hasattr(value, "get_fields"):
        return {"size": tuple(value.image_size), **{k: plain(v) for k, v in value.get_fields().items()}}
    if hasattr(value, "polygons"):
        return [[np.asarray(p) for p in polygons] for polygons in value.polygons]
    if hasattr(value, "tensor"):
        return value.tensor
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return int(value) if type(value).__name__ == "BoxMode" else value


def by_name(entries: list[dict]) -> list[dict]:
    """Detectron2 lists Cityscapes in the order of the file system."""
    return sorted(entries, key=lambda entry: entry["file_name"])


def entries(folder: Path) -> dict:
    root = prepare(folder)
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets import convert_to_coco_json
    from detectron2.data.datasets.cityscapes import load_cityscapes_instances

    found = {name: plain(by_name(DatasetCatalog.get(name))) for name in PLAIN}
    found["separated"] = plain(DatasetCatalog.get(register_separated(root)))
    for to_polygons in (True, False):
        city = [str(root / "cityscapes" / kind / "train") for kind in ("leftImg8bit", "gtFine")]
        found[f"png {to_polygons}"] = plain(by_name(load_cityscapes_instances(*city, False, to_polygons)))
    known = [name for name in DatasetCatalog.list() if not any(word in name for word in OUTSIDE)]
    found["metadata"] = {name: MetadataCatalog.get(name).as_dict() for name in known}
    convert_to_coco_json("coco_2017_train", str(folder / "converted.json"), allow_cached=False)
    found["converted"] = json.loads((folder / "converted.json").read_text())
    found["converted"].pop("info")
    return found


def register_separated(root: Path) -> str:
    from detectron2.data.datasets import register_coco_panoptic_separated
    from detectron2.data.datasets.builtin_meta import _get_builtin_metadata

    coco, name = root / "coco", "coco_two_panoptic"
    places = ("panoptic_images", "panoptic_val2017", "annotations/panoptic_val2017.json", "panoptic_stuff_val2017")
    places = [str(coco / place) for place in places] + [str(root / "instances.json")]
    register_coco_panoptic_separated(name, _get_builtin_metadata("coco_panoptic_separated"), *places)
    return f"{name}_separated"


def mapped(folder: Path) -> list:
    """The mapper's output for both mask formats, crops, flips and ways to draw the size."""
    root = prepare(folder)
    from detectron2.config import get_cfg
    from detectron2.data import DatasetCatalog, DatasetMapper

    with_masks = [d for d in DatasetCatalog.get("coco_2017_val") if any(not o["iscrowd"] for o in d["annotations"])]
    panoptic, labels = DatasetCatalog.get(register_separated(root)), DatasetCatalog.get("ade20k_sem_seg_val")
    found = []
    for mask_format, crop, flip, style in itertools.product(
        ("polygon", "bitmask"), (False, True), ("horizontal", "vertical", "none"), ("choice", "range")
    ):
        cfg = get_cfg()
        cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT, cfg.INPUT.CROP.ENABLED = True, mask_format, crop
        cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = flip, style
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (120, 200), 300, 99
        mapper = DatasetMapper(cfg, True)
        np.random.seed(3)
        given = with_masks[:3] + labels[:1] + (panoptic if mask_format == "bitmask" else [])
        found += [plain(mapper(entry)) for entry in given]
    return found + [plain(DatasetMapper(cfg, False)(entry)) for entry in with_masks]


def augmented(folder: Path) -> dict:
    """Pixels, boxes, labels and points after each augmentation, and the next random number."""
    from detectron2.data import transforms as T

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (97, 131, 3), dtype=np.uint8)
    labels = np.repeat(np.repeat(rng.integers(0, 5, (10, 14), dtype=np.uint8), 10, 0), 10, 1)[:97, :131]
    boxes = np.array([[10.5, 20, 60, 80], [5, 6, 30, 31.25]], dtype=np.float32)
    points = np.array([[3.5, 4.25], [60, 70]])
    augmentations = {
        "flip": T.RandomFlip(),
        "flip vertically": T.RandomFlip(0.7, horizontal=False, vertical=True),
        "resize": T.Resize((50, 75)),
        "shortest": T.ResizeShortestEdge((50, 100), 120),
        "shortest of": T.ResizeShortestEdge([50, 75], 105, "choice"),
        "random resize": T.RandomResize([(50, 60), (45, 40), (100, 101)]),
        "crop relative": T.RandomCrop("relative", (0.5, 0.6)),
        "crop relative range": T.RandomCrop("relative_range", (0.5, 0.6)),
        "crop absolute": T.RandomCrop("absolute", (50, 9000)),
        "crop absolute range": T.RandomCrop("absolute_range", (20, 100)),
        "area": T.RandomCrop_CategoryAreaConstraint("absolute", (20, 20), 0.5, 0),
        "area range": T.RandomCrop_CategoryAreaConstraint("relative_range", (0.2, 0.2), 0.3),
        "area off": T.RandomCrop_CategoryAreaConstraint("relative", (0.3, 0.3), 1.0),
        "extent": T.RandomExtent((0.5, 1.6), (0.4, 0.3)),
        "contrast": T.RandomContrast(0.5, 1.5),
        "brightness": T.RandomBrightness(0.5, 1.5),
        "saturation": T.RandomSaturation(0.5, 1.5),
        "lighting": T.RandomLighting(50),
        "apply": T.RandomApply(T.RandomFlip(0.9), 0.6),
        "fixed": T.FixedSizeCrop((80, 200)),
        "fixed without padding": T.FixedSizeCrop((80, 90), pad=False),
        "scale": T.ResizeScale(0.3, 1.2, 100, 120),
        "rotation": T.RandomRotation([-30, 40]),
        "rotation about": T.RandomRotation([-30, 40], expand=False, center=[[0.3, 0.3], [0.6, 0.6]]),
        "rotation of": T.RandomRotation([10, 20, 0], sample_style="choice"),
        "min iou": T.MinIoURandomCrop(),
        "list": T.AugmentationList([T.RandomFlip(), T.RandomApply(T.RandomContrast(0.5, 1.5)), T.HFlipTransform(131)]),
    }
    found = {}
    for (name, augmentation), seed in itertools.product(augmentations.items(), range(4)):
        np.random.seed(seed)
        given = T.AugInput(image.copy(), boxes=boxes.copy(), sem_seg=labels.copy())
        transform = augmentation(given)
        moved = transform.apply_coords(points.copy())
        found[f"{name} {seed}"] = [given.image, given.boxes, given.sem_seg, moved, np.random.rand()]
    resize = T.ResizeTransform(97, 131, 33, 77)
    found["floats"] = [resize.apply_image(image / np.float32(255)), resize.apply_coords(np.array([[5, 7], [11, 13]]))]
    return found


def sampled(folder: Path) -> list:
    """Indices of each sampler in each of several pretended processes, and batches of the loaders."""
    prepare(folder)
    from detectron2.config import get_cfg
    from detectron2.data import DatasetCatalog, build_detection_test_loader, build_detection_train_loader
    from detectron2.data import samplers as S
    from detectron2.utils import comm
    from detectron2.utils.env import seed_all_rng

    real_rank, real_size = comm.get_rank, comm.get_world_size
    dicts, found = DatasetCatalog.get("coco_2017_train"), []
    for rank, size in ((0, 1), (0, 3), (2, 3)):
        comm.get_rank, comm.get_world_size = (lambda rank=rank: rank), (lambda size=size: size)
        factors = S.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dicts, 0.3)
        endless = (
            S.TrainingSampler(13, seed=5),
            S.TrainingSampler(13, shuffle=False, seed=5),
            S.RandomSubsetTrainingSampler(20, 0.37, seed_shuffle=3, seed_subset=4),
            S.RepeatFactorTrainingSampler(factors, seed=9),
            S.RepeatFactorTrainingSampler(factors, seed=9, shuffle=False),
        )
        found += [list(itertools.islice(iter(sampler), 60)) for sampler in endless]
        found += [factors, list(S.InferenceSampler(11)), list(S.InferenceSampler(2))]
    comm.get_rank, comm.get_world_size = real_rank, real_size
    for workers, grouping in itertools.product((0, 2), (True, False)):
        cfg = get_cfg()
        cfg.DATASETS.TRAIN, cfg.SEED, cfg.SOLVER.IMS_PER_BATCH = ("coco_2017_train",), 7, 4
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (60, 90), 50
        cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.ASPECT_RATIO_GROUPING = workers, grouping
        seed_all_rng(11)
        batches = itertools.islice(iter(build_detection_train_loader(cfg)), 4)
        found += [[(x["file_name"], x["image"].clone(), plain(x["instances"])) for x in batch] for batch in batches]
        found += [plain(batch) for batch in build_detection_test_loader(cfg, "coco_2017_val")]
    return found


def _instances(entry: dict, seed: int):
    """Shifted annotations with random scores and some wrong classes, as predictions."""
    from detectron2.structures import Boxes, BoxMode, Instances

    rng, rows = np.random.default_rng(seed), []
    size = (entry["height"], entry["width"])
    for annotation in entry["annotations"]:
        rle, (dy, dx) = annotation["segmentation"], rng.integers(-4, 5, 2).tolist()
        if isinstance(rle, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(rle, *size))
        box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        category = annotation["category_id"] if rng.random() < 0.85 else int(rng.integers(8))
        moved = np.roll(coco_mask.decode(rle), (dy, dx), (0, 1))
        rows.append((np.add(box, [dx, dy, dx, dy]), category, rng.random(), moved))
    found = Instances(size)
    found.pred_boxes = Boxes(torch.tensor(np.array([r[0] for r in rows], dtype=np.float32).reshape(-1, 4)))
    found.pred_classes = torch.tensor([r[1] for r in rows], dtype=torch.int64)
    found.scores = torch.tensor([r[2] for r in rows], dtype=torch.float32)
    found.pred_masks = torch.tensor(np.array([r[3] for r in rows]).reshape(-1, *size)).bool()
    return found


def _label_scores(file_name: str, classes: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    labels = np.array(Image.open(file_name)).astype(np.int64)
    labels[labels >= classes] = 0
    wrong = rng.random(labels.shape) < 0.2
    labels[wrong] = rng.integers(0, classes, wrong.sum())
    return torch.nn.functional.one_hot(torch.from_numpy(np.roll(labels, 3, 1)), classes).permute(2, 0, 1).float()


def _files(folder: Path) -> dict:
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def evaluated(folder: Path) -> dict:
    """Scores and result files of each evaluator for the same made-up predictions."""
    root = prepare(folder)
    from detectron2.data import DatasetCatalog
    from detectron2.data.datasets.cityscapes import load_cityscapes_instances
    from detectron2.evaluation import (
        CityscapesInstanceEvaluator,
        CityscapesSemSegEvaluator,
        COCOEvaluator,
        SemSegEvaluator,
    )

    found = {}

    results = Path(tempfile.mkdtemp(dir=folder))
    output = str(results)

    def run(name: str, evaluator, pairs) -> None:
        evaluator.reset()
        for entry, output in pairs:
            evaluator.process([entry], [output])
        scores = {task: dict(values) for task, values in evaluator.evaluate().items()}
        for values in scores.values():
            for metric in [m for m in values if "Boundary" in m or "B-Iou" in m]:
                values.pop(metric)  # not a Boundary IoU: outside
        found[name] = [scores, {task: list(values) for task, values in scores.items()}, _files(results)]

    for name, options in (
        ("coco_2017_val", {}),
        ("coco_2017_train", {}),
        ("coco_2017_val", {"max_dets_per_image": 12}),
    ):
        pairs = [(e, {"instances": _instances(e, i)}) for i, e in enumerate(DatasetCatalog.get(name))]
        run(f"{name} {options}", COCOEvaluator(name, output_dir=output, **options), pairs)
    nothing = [(e, {"instances": o["instances"][:0]}) for e, o in pairs]
    run("empty", COCOEvaluator("coco_2017_val", output_dir=output), nothing)
    for name, classes in (
        ("ade20k_sem_seg_val", 150),
        ("cityscapes_fine_sem_seg_val", 19),
        ("coco_2017_val_panoptic_stuffonly", 54),
    ):
        listed = enumerate(by_name(DatasetCatalog.get(name)))
        pairs = [(e, {"sem_seg": _label_scores(e["sem_seg_file_name"], classes, i)}) for i, e in listed]
        run(name, SemSegEvaluator(name, output_dir=output), pairs)
        if classes == 19:
            run("cityscapes labels", CityscapesSemSegEvaluator(name), pairs)
    city = [str(root / "cityscapes" / kind / "val") for kind in ("leftImg8bit", "gtFine")]
    listed = enumerate(by_name(load_cityscapes_instances(*city, from_json=False)))
    pairs = [(e, {"instances": _instances(e, i)}) for i, e in listed]
    run("cityscapes instances", CityscapesInstanceEvaluator("cityscapes_fine_instance_seg_val"), pairs)
    return found | {f"panoptic {name}": _panoptic(name, folder) for name in ("coco_2017_val", "cityscapes_fine")}


def _panoptic(name: str, folder: Path) -> list:
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.evaluation import COCOPanopticEvaluator

    name = {"coco_2017_val": "coco_2017_val_panoptic", "cityscapes_fine": "cityscapes_fine_panoptic_val"}[name]
    meta, output = MetadataCatalog.get(name), Path(tempfile.mkdtemp(dir=folder))
    evaluator = COCOPanopticEvaluator(name, str(output))
    evaluator.reset()
    for entry in by_name(DatasetCatalog.get(name)):
        ids = np.array(Image.open(entry["pan_seg_file_name"])).astype(np.int64) @ [1, 256, 65536]
        rng, predicted, segments = np.random.default_rng(0), np.zeros(ids.shape, dtype=np.int32), []
        for number, segment in enumerate(entry["segments_info"], 1):
            here = np.roll(ids, 2, 1) == segment["id"]
            if rng.random() < 0.15 or not here.any():
                continue
            predicted[here] = number
            isthing = segment["category_id"] in meta.thing_dataset_id_to_contiguous_id.values()
            segments.append({"id": number, "category_id": segment["category_id"], "isthing": isthing, "area": 1})
        evaluator.process([entry], [{"panoptic_seg": (torch.from_numpy(predicted), segments)}])
    pngs = [record.get("png", record.get("png_string")) for record in evaluator._predictions]
    scores = evaluator.evaluate()
    written = _files(output)["predictions.json"]
    for annotation in written["annotations"]:
        for segment in annotation["segments_info"]:
            segment.pop("area", None)
    return [{k: dict(v) for k, v in scores.items()}, written, [np.asarray(Image.open(io.BytesIO(p))) for p in pngs]]
