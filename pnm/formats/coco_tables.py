"""COCO's ground truth and results read as columns, without an object for each number.

What is sound and usual is read here, an annotation in a microsecond. All else, a value of another kind, an id that is
referred to in vain, a damaged mask, gives None: :mod:`pnm.formats.coco_instances` reads such files, too, and knows what
to tell.
"""

import gc
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from pnm.formats.coco_instances import CocoGroundTruth, CocoImage, CocoResults
from pnm.formats.coco_segmentations import Segmentation, read_codes
from pnm.masks.instance_table import InstanceTable
from pnm.masks.mask_codes import MOST_PIXELS, NO_CODES

_LARGEST = 1e300  # of any number
_Box = tuple[float, float, float, float]
_NONE = np.empty(0, np.int64)
_NO_BOX = (np.nan,) * 4
_Content = TypeVar("_Content")


class _Image(Struct, gc=False):
    id: int | str
    height: int
    width: int
    file_name: str | None = None


class _Category(Struct, gc=False):
    id: int
    name: str | UnsetType = UNSET


class _Annotation(Struct, gc=False):
    image_id: int | str
    category_id: int
    id: int | str | UnsetType = UNSET
    area: float | None = None
    iscrowd: float | bool | None = None


class _Detection(Struct, gc=False):
    image_id: int | str
    category_id: int
    score: float


class _Truth(Struct, Generic[_Content]):
    images: list[_Image]
    annotations: list[_Content]
    categories: list[_Category]


class TruthTable(NamedTuple):
    """A ground truth whose annotations are a table, images being numbered as in ``truth.images``.

    Attributes:
        truth: what else the file has, without annotations.
        table: the annotations, sorted by image; columns are places in ``truth.categories``.
        sizes: (I, 2) int64, height and width of the images.
    """

    truth: CocoGroundTruth
    table: InstanceTable
    sizes: np.ndarray


class ResultTable(NamedTuple):
    """Results whose detections are a table, as those of :class:`TruthTable`; ``results`` has none of them."""

    results: CocoResults
    table: InstanceTable


def read_truth_table(path: str | Path, *, masks: bool, boxes: bool) -> TruthTable | None:
    """A COCO ground truth as a table; None if there is anything to be told.

    Args:
        masks: whether annotations need masks; without, none are read.
        boxes: whether their boxes are read.
    """
    kind: Any = _kind(_Annotation, masks, boxes)
    content = _decoded(Path(path), _Truth[kind])
    if content is None:
        return None
    images = {image.id: CocoImage(image.height, image.width, image.file_name or "") for image in content.images}
    categories = {c.id: str(c.id) if c.name is UNSET else c.name for c in content.categories}
    sizes = np.array([image[:2] for image in images.values()]).reshape(-1, 2)
    are_sound = (
        (len(images), len(categories)) == (len(content.images), len(content.categories))
        and len({type(image) for image in images}) == 1
        and sizes.dtype == np.int64
        and sizes.min() >= 1
        and (sizes.astype(float).prod(axis=1) <= MOST_PIXELS).all()
    )
    truth = CocoGroundTruth(str(path), images, categories, {})
    table = _annotation_table(content.annotations, truth, sizes, masks, boxes) if are_sound else None
    return None if table is None else TruthTable(truth, table, sizes)


def read_result_table(path: str | Path, gt: TruthTable, *, masks: bool, boxes: bool) -> ResultTable | None:
    """COCO results as a table; None if there is anything to be told. Arguments as of :func:`read_truth_table`."""
    kind: Any = _kind(_Detection, masks, boxes)
    detections = _decoded(Path(path), list[kind])
    if detections is None:
        return None
    order, column = _placed(detections, gt.truth)
    if len(order) < len(detections) or (column < 0).any():
        return None
    detections = [detections[n] for n in order.tolist()]
    score = np.array([d.score for d in detections], np.float64)
    if (np.abs(score) > _LARGEST).any():
        return None
    number, image = len(score), _images(detections, gt.truth)
    codes = read_codes([d.segmentation for d in detections], gt.sizes[image]) if masks else (NO_CODES, _NONE)
    given = _boxes(detections, masks) if boxes else np.full((number, 4), np.nan)
    if codes is None or given is None or len(codes[1]):
        return None
    without = np.setdiff1d(np.arange(len(gt.sizes)), image)
    ids = list(gt.truth.images)
    results = CocoResults(str(path), dict.fromkeys(ids, []), [ids[n] for n in without])
    columns = image, column, score, np.full(number, np.nan), np.zeros(number, np.bool_), given
    return ResultTable(results, InstanceTable(*columns, codes[0]))


def _kind(base: type[Struct], masks: bool, boxes: bool) -> Any:
    """A struct of what is read of each annotation or detection; all else is passed over."""
    fields: list[Any] = [("segmentation", Segmentation)] if masks else []
    fields += [("bbox", _Box | None, None)] if boxes else []
    return msgspec.defstruct(base.__name__, fields, bases=(base,), gc=False, kw_only=True)


def _decoded(path: Path, kind: Any) -> Any:
    """The content of a JSON file in UTF-8; None if it is anything else."""
    was_collecting = gc.isenabled()
    gc.disable()  # a million new objects, none of them in a circle, would be looked through again and again
    try:
        data = path.read_bytes()
        if not data.isascii():
            data.decode()  # msgspec doesn't look at texts that nobody asks for
        return msgspec.json.decode(data, type=kind)
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        if was_collecting:
            gc.enable()


def _images(entries: list[Any], truth: CocoGroundTruth) -> np.ndarray:
    """(N,) indices of the images of entries; -1 if they aren't known."""
    index = {image: n for n, image in enumerate(truth.images)}
    return np.array([index.get(entry.image_id, -1) for entry in entries], np.int64)


def _placed(entries: list[Any], truth: CocoGroundTruth) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the entries of known images, sorted by image, and their indices of classes, -1 if not known."""
    image = _images(entries, truth)
    order = np.argsort(image, kind="stable")
    order = order[np.searchsorted(image[order], 0) :]
    index = {category: n for n, category in enumerate(truth.categories)}
    return order, np.array([index.get(entries[n].category_id, -1) for n in order.tolist()], np.int64)


def _annotation_table(
    annotations: list[Any], truth: CocoGroundTruth, sizes: np.ndarray, masks: bool, boxes: bool
) -> InstanceTable | None:
    order, column = _placed(annotations, truth)
    number, listed = len(order), [annotations[n] for n in order.tolist()]
    ids = [a.id for a in listed if a.id is not UNSET]
    kinds = {type(a.image_id) for a in annotations} - {type(image) for image in truth.images}
    area = np.array([np.nan if a.area is None else a.area for a in listed], np.float64)
    crowd = np.array([a.iscrowd or 0 for a in listed], np.float64)
    is_large = (np.abs(area) > _LARGEST) | (np.abs(crowd) > _LARGEST)
    if len(set(ids)) < len(ids) or kinds or (column < 0).any() or is_large.any():
        return None
    image = _images(listed, truth)
    codes = read_codes([a.segmentation for a in listed], sizes[image]) if masks else (NO_CODES, _NONE)
    given = _boxes(listed, masks) if boxes else np.full((number, 4), np.nan)
    if codes is None or given is None:
        return None
    if number < len(annotations):
        truth.unlisted.extend(np.setdiff1d(np.arange(len(annotations)), order).tolist())
    truth.thinned.extend(sorted(order[codes[1]].tolist()) if len(codes[1]) else [])
    return InstanceTable(image, column, np.zeros(number), area, crowd != 0, given, codes[0])


def _boxes(entries: list[Any], masks: bool) -> np.ndarray | None:
    """(N, 4) boxes, nan where none is given but a mask is; None if one isn't sound."""
    boxes = np.array([_NO_BOX if entry.bbox is None else entry.bbox for entry in entries], np.float64).reshape(-1, 4)
    is_sound = (np.abs(boxes) <= _LARGEST).all(axis=1) & (boxes[:, 2:] >= 0).all(axis=1)
    return boxes if (is_sound | (masks & np.isnan(boxes[:, 0]))).all() else None
