"""What a run will read is read before the long work starts, by the rules of evaluation; the config agrees with it."""

import difflib
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from pnm.errors import UserError, listed
from pnm.formats.coco_instances import CocoGroundTruth, read_coco_ground_truth
from pnm.formats.coco_panoptic import read_annotations, read_categories
from pnm.formats.label_png import png_size_of, read_panoptic_png
from pnm.usable_cores import usable_cores

from ...dataset_mappers.label_files import SEGMENT_IDS
from ...dataset_mappers.reading import read_labels
from ...refining import check_test_predictions, refined_task
from ..rooms import hooks
from .data_errors import as_user_error
from .mappers import lacks_twins, learns_panoptic, mapper_name
from .register_data import require

logger = logging.getLogger(__name__)

# Which kinds of classes Detectron2's own architectures predict; others predict what their data sets have.
_PREDICTED = {
    "GeneralizedRCNN": ("thing_classes",),
    "SemanticSegmentor": ("stuff_classes",),
    "PanopticFPN": ("thing_classes", "stuff_classes"),
}
_KEYS = {"thing_classes": "MODEL.ROI_HEADS.NUM_CLASSES", "stuff_classes": "MODEL.SEM_SEG_HEAD.NUM_CLASSES"}
_IGNORE = "MODEL.SEM_SEG_HEAD.IGNORE_VALUE"


def used_data_sets(cfg: CfgNode, train: bool = True) -> list[str]:
    """Names in ``DATASETS.TRAIN`` (if they are used) and ``DATASETS.TEST``, each once."""
    known = set(DatasetCatalog.list())
    names = list(dict.fromkeys([*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST]))
    return [name for name in names if name in known]


def _value(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def _agree(cfg: CfgNode, key: str, wanted: dict[str, Any], what: str) -> None:
    """Sets a key that has Detectron2's default to what the data sets (``{name: value}``) say."""
    if not wanted:
        return
    name, value = next(iter(wanted.items()))
    other = next((one for one in wanted if wanted[one] != value), None)
    if other is not None:
        raise UserError(
            f"data set {name} has {what} {value}, {other} {wanted[other]}: they cannot be used together; the key "
            "classes in DATASETS.REGISTER gives data sets of annotation tools one list"
        )
    came = _value(cfg, key)
    if came == value:
        return
    if came != _value(get_cfg(), key):
        raise UserError(
            f"{key} is {came}, but data set {name} has {what} {value}: set the key to that, or leave it out "
            "of config and command line"
        )
    cfg.merge_from_list([key, value])
    logger.info("%s is %s, as in data set %s", key, value, name)


def _same_classes(classes: dict[str, list[str]]) -> None:
    """Classes are numbered in the order of each data set's own list."""
    (first, names), *others = classes.items() or [("", [])]
    for name, other in others:
        if len(other) == len(names) and other != names:
            k = next(k for k, (a, b) in enumerate(zip(names, other)) if a != b)
            raise UserError(
                f"data sets {first} and {name} number other classes alike: {k} is {names[k]} in one and {other[k]} in "
                "the other; give both the same categories, with the same ids"
            )


def take_from_data(cfg: CfgNode, train: bool = True) -> None:
    """Numbers of classes and the ignored label are the data sets'; a key that was left alone gets them.

    Raises:
        UserError: a key says another, or data sets that differ.
    """
    metadata = {name: MetadataCatalog.get(name) for name in used_data_sets(cfg, train)}
    kinds: Sequence[str] = _PREDICTED.get(cfg.MODEL.META_ARCHITECTURE, ())
    if not kinds and refined_task(cfg) is None and not learns_panoptic(cfg):
        types = {one.get("evaluator_type", None) for one in metadata.values()}
        kinds = ("stuff_classes",) if types <= {"sem_seg", "cityscapes_sem_seg"} else ()
    for kind in kinds:
        _same_classes({name: list(one.get(kind)) for name, one in metadata.items() if one.get(kind, None)})
        numbers = {name: len(one.get(kind)) for name, one in metadata.items() if one.get(kind, None)}
        _agree(cfg, _KEYS[kind], numbers, "a number of classes of")
    ignored = {name: one.ignore_label for name, one in metadata.items() if one.get("ignore_label", None) is not None}
    _agree(cfg, _IGNORE, ignored, "the ignore_label")
    formats = {name: one.mask_format for name, one in metadata.items() if one.get("mask_format", None)}
    _agree(cfg, "INPUT.MASK_FORMAT", formats, "a mask format, in the files made of it,")
    for take in hooks("take_from_data", cfg.MODEL.IMPORTS):
        take(cfg, metadata)


def check_data(cfg: CfgNode, train: bool = True) -> None:
    """Reads annotation files, and looks for images and predictions, of all data sets that a run uses.

    Raises:
        UserError: something that would end the run later.
    """
    known = DatasetCatalog.list()
    for name in (*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"data set {name!r} is not registered; {advice}Your own: DATASETS.REGISTER, see datasets/README.md"
            )
    check_test_predictions(cfg)
    if train:
        mapper_name(cfg)
    for name in used_data_sets(cfg, train):
        metadata = MetadataCatalog.get(name)
        if metadata.get("json_file", None):
            _check_coco(cfg, name, metadata, train and name in cfg.DATASETS.TRAIN)
            if lacks_twins(metadata) and learns_panoptic(cfg):
                _check_panoptic(name, metadata)
        elif lacks_twins(metadata):
            _check_panoptic(name, metadata)
        elif metadata.get("evaluator_type", None) in ("sem_seg", "cityscapes_sem_seg") and cfg.DATASETS.CHECK_LABELS:
            _check_labels(cfg, name, metadata)
        elif name not in cfg.DATASETS.TRAIN or not train:  # training reads it at once, anyway
            DatasetCatalog.get(name)


def _check_panoptic(name: str, metadata: Any) -> None:
    """Reads the JSON by the rules of evaluation, and looks for all files; PNGs are not read."""
    path = Path(metadata.panoptic_json)
    content, _ = read_annotations(path)
    read_categories(content, path)
    with as_user_error([name]):
        entries = DatasetCatalog.get(name)
    for key, what in (("file_name", "image"), ("pan_seg_file_name", "panoptic PNG")):
        files = [str(entry[key]) for entry in entries]
        missing = [file for file in files if "://" not in file and not os.path.isfile(file)]
        if missing:
            raise UserError(
                f"data set {name}: {len(missing)} {what}(s) of {path} are missing, first {missing[0]}: check the "
                "folder, and DETECTRON2_DATASETS"
            )
    for entry in entries:
        png = str(entry["pan_seg_file_name"])
        size = entry.get("height"), entry.get("width")
        if None not in size and "://" not in png and png_size_of(png) != size:
            raise UserError(
                f"data set {name}: {png} is {' x '.join(map(str, png_size_of(png)))} (height x width), its image "
                f"{' x '.join(map(str, size))} in {path}: expected one size"
            )


def _check_labels(cfg: CfgNode, name: str, metadata: Any) -> None:
    """Reads all label PNGs, and those of segment ids beside them; cores share them, and a thousand of Cityscapes' take
    some seconds."""
    entries = DatasetCatalog.get(name)
    classes, ignored = len(metadata.stuff_classes), metadata.get("ignore_label", cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)

    def check(entry: dict) -> bool:
        """Whether some pixel counts."""
        labels = read_labels(entry["sem_seg_file_name"], classes, ignored)
        ids = entry.get(SEGMENT_IDS)
        if ids is not None and read_panoptic_png(ids).shape != labels.shape:
            sizes = [" x ".join(map(str, size)) for size in (png_size_of(ids), labels.shape)]
            raise UserError(
                f"{ids} is {sizes[0]}, the labels {entry['sem_seg_file_name']} are {sizes[1]}: expected one size"
            )
        return bool((labels != ignored).any())

    with ThreadPoolExecutor(usable_cores()) as pool:
        files = tqdm(pool.map(check, entries), total=len(entries), desc=f"reading the labels of {name}", unit="file")
        empty = sum(not counts for counts in files)
    if empty:
        logger.warning("%s: all pixels of %d of %d label files are ignored (%d)", name, empty, len(entries), ignored)


def _check_coco(cfg: CfgNode, name: str, metadata: Any, is_trained_on: bool) -> None:
    if "://" in metadata.json_file:
        return  # Detectron2 fetches it
    paths = {"annotation file": Path(metadata.json_file), "image folder": Path(metadata.image_root)}
    require(paths, name, metadata.get("made_by", ""))
    logger.info("reading %s", metadata.json_file)
    with open(metadata.json_file, "rb") as file:
        if file.read(3) == b"\xef\xbb\xbf":
            raise UserError(
                f"{metadata.json_file} begins with a byte order mark, which JSON readers stumble over: save it "
                "as UTF-8 without one"
            )
    has_masks = cfg.MODEL.MASK_ON or refined_task(cfg) is not None
    truth = read_coco_ground_truth(metadata.json_file, masks=has_masks)
    for remark in truth.remarks:
        logger.warning(remark)
    _check_images(name, truth, metadata.image_root)
    if not metadata.get("crowds_are_objects", False):
        _report_crowds(name, truth, is_trained_on)
    if is_trained_on and cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon" and refined_task(cfg) is None:
        _check_polygons(truth)


def _check_images(name: str, truth: CocoGroundTruth, root: str) -> None:
    """Every image is a file of its own."""
    first: dict[str, Any] = {}
    for image, entry in truth.images.items():
        if not entry.file_name:
            raise UserError(f"data set {name}: image {image} in {truth.path} has no file_name: add it")
        path = os.path.normpath(os.path.join(root, entry.file_name))
        other = first.setdefault(path, image)
        if other != image:
            raise UserError(f"data set {name}: images {other} and {image} in {truth.path} are one file, {path}")
        if not os.path.isfile(path):
            raise UserError(f"data set {name}: image {path} does not exist; {_remedy(root, entry.file_name)}")


def _remedy(root: str, file_name: str) -> str:
    plain = file_name.replace("\\", "/")
    if plain != file_name and os.path.isfile(os.path.join(root, plain)):
        return "with / in the place of \\ it does: change file_name in the annotations"
    parts = Path(plain).parts
    for skipped in range(1, len(parts)):
        if os.path.isfile(os.path.join(root, *parts[skipped:])):
            return f"{Path(*parts[skipped:])} in that folder does: change file_name, or the image folder"
    return "check the image folder, and file_name in the annotations"


def _annotations(truth: CocoGroundTruth) -> Iterable[dict]:
    return (annotation for annotations in truth.annotations.values() for annotation in annotations)


def _report_crowds(name: str, truth: CocoGroundTruth, is_trained_on: bool) -> None:
    crowds = sum(bool(annotation.get("iscrowd", 0)) for annotation in _annotations(truth))
    total = sum(map(len, truth.annotations.values()))
    if crowds:
        fate = (
            "are not trained on; 'crowds': 'objects' in DATASETS.REGISTER does"
            if is_trained_on
            else "aren't to be found"
        )
        logger.warning("%s: %d of %d annotations are crowds (iscrowd: 1), which %s", name, crowds, total, fate)


def _check_polygons(truth: CocoGroundTruth) -> None:
    encoded = [
        a.get("id", "?")
        for a in _annotations(truth)
        if isinstance(a.get("segmentation"), dict) and not a.get("iscrowd", 0)
    ]
    if encoded:
        raise UserError(
            f"{truth.path}: {len(encoded)} annotations have RLE masks (id {listed(encoded)}), but INPUT.MASK_FORMAT is "
            "polygon; add: INPUT.MASK_FORMAT bitmask"
        )
