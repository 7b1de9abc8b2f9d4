"""COCO panoptic result files (a JSON and a folder of PNGs): written, read, scored, tabulated."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from pnm.errors import UserError
from pnm.formats.atomic_files import write_bytes, write_text
from pnm.formats.coco_instances import read_json
from pnm.formats.label_png import read_panoptic_png
from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.metrics.segment_matching import VOID
from pnm.metrics.segment_pairs import MAX_ID

_EXPECTED = (
    'a COCO panoptic JSON, {"annotations": [{"image_id", "file_name", "segments_info": [{"id", "category_id"}]}], '
    '"categories": [{"id", "name", "isthing"}]}'
)
_SPLITS = {"All": "", "Things": "_th", "Stuff": "_st"}


class PanopticScores(NamedTuple):
    """What the files of a data set score.

    Attributes:
        quality: of the whole data set.
        image_ids: N, in the order of the ground truth's JSON.
        statistics: (N, R, C) int64, those of each image, for :meth:`PanopticQuality.compute_many`.
    """

    quality: PanopticQuality
    image_ids: list
    statistics: np.ndarray


def write_predictions(folder: str | Path, records: Iterable[Mapping[str, Any]], gt_json: str | Path) -> Path:
    """Writes ``folder/panoptic/*.png`` and ``folder/predictions.json``; returns the JSON's path.

    Args:
        records: ``{"image_id", "file_name", "segments_info", "png"}`` of each image, ``png`` the encoded file.
        gt_json: its images and categories are taken over.
    """
    folder = Path(folder)
    annotations = []
    for record in records:
        write_bytes(folder / "panoptic" / record["file_name"], record["png"])
        annotations.append({key: record[key] for key in ("image_id", "file_name", "segments_info")})
    content, _ = read_annotations(Path(gt_json))
    content["annotations"] = annotations
    path = folder / "predictions.json"
    write_text(path, json.dumps(content))
    return path


def read_annotations(path: Path) -> tuple[dict, dict]:
    """The content and ``{image id: annotation}`` of a COCO panoptic JSON, with the keys that scoring needs.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it isn't such a JSON, or an image or category occurs twice; the message names the entry.
    """
    content = read_json(path, _EXPECTED)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise UserError(f"{path} is not a COCO panoptic JSON: it has no list of annotations, expected {_EXPECTED}")
    by_image: dict[Any, dict] = {}
    for n, annotation in enumerate(content["annotations"]):
        _check_annotation(annotation, path, n)
        by_image[annotation["image_id"]] = annotation
    twice = len(content["annotations"]) - len(by_image)
    if twice:
        raise UserError(f"{path} has {twice} image(s) twice: keep one annotation of each")
    return content, by_image


def _check_annotation(annotation: Any, path: Path, n: int) -> None:
    try:
        image, file_name, segments = [annotation[key] for key in ("image_id", "file_name", "segments_info")]
        pairs = [(s["id"], s["category_id"], s.get("iscrowd", 0)) for s in segments]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a COCO panoptic JSON: {error!r} in annotations[{n}]") from None
    name = f"{path}: image {image}"
    if type(image) not in (int, str) or not isinstance(file_name, str) or not isinstance(segments, list):
        raise UserError(
            f"{name}: expected image_id to be a number or text, and file_name text, and segments_info a list "
            f"in annotations[{n}]"
        )
    for number, category, crowd in pairs:
        if type(number) is not int or not VOID < number <= MAX_ID or type(category) is not int:
            raise UserError(
                f"{name} has a segment of id {number!r} and category {category!r}, expected whole numbers, the id from "
                f"1 to {MAX_ID}; {VOID} is void"
            )
        if type(crowd) not in (int, bool) or crowd not in (0, 1):
            raise UserError(f"{name}: segment {number} has iscrowd {crowd!r}, expected 0 or 1")


def score_panoptic_files(
    gt_json: str | Path,
    gt_folder: str | Path,
    pred_json: str | Path,
    pred_folder: str | Path,
    *,
    boundary_ratio: float | None = None,
    boundary_px: int | None = None,
    workers: int = 1,
    progress: bool = False,
) -> PanopticScores:
    """PQ, and Boundary PQ if asked for, of COCO panoptic result files (JSON + PNG folder).

    Args:
        boundary_ratio, boundary_px: as :class:`PanopticQuality` takes them.
        workers: images worked on at a time, in threads: decoding and counting release Python's lock. The results
            don't depend on their number.
        progress: shows a bar.

    Raises:
        FileNotFoundError: a JSON or PNG is missing.
        UserError: an image has no prediction, or a file is damaged or inconsistent; the message names it.
    """
    content, gt_by_image = read_annotations(Path(gt_json))
    _, pred_by_image = read_annotations(Path(pred_json))
    missing = [image for image in gt_by_image if image not in pred_by_image]
    if missing:
        raise UserError(f"{pred_json} has no prediction for {len(missing)} image(s), first {missing[:5]}")
    if workers < 1:
        raise UserError(f"workers is {workers}, expected at least 1")
    quality = quality_of(content, gt_json, boundary_ratio, boundary_px)

    def score(image_id: Any) -> np.ndarray:
        gt, pred = gt_by_image[image_id], pred_by_image[image_id]
        maps = (_read_ids(Path(gt_folder) / gt["file_name"]), _read_ids(Path(pred_folder) / pred["file_name"]))
        try:
            return quality.image_statistics(maps[0], gt["segments_info"], maps[1], pred["segments_info"])
        except UserError as error:
            raise UserError(f"image {image_id}: {error}") from None

    rows = _in_threads(score, list(gt_by_image), workers, progress)
    statistics = np.stack(rows) if rows else np.zeros((0, *quality.statistics.shape), np.int64)
    quality.statistics = statistics.sum(axis=0)
    return PanopticScores(quality, list(gt_by_image), statistics)


def quality_of(content: Mapping, path: str | Path, ratio: float | None, pixels: int | None) -> PanopticQuality:
    """An empty metric over the categories of a COCO panoptic JSON's content; ``path`` is for its error messages."""
    fault = f"{path} is not a COCO panoptic JSON"
    categories = content.get("categories")
    if not isinstance(categories, list) or not categories:
        raise UserError(f"{fault}: it has no list of categories, expected {_EXPECTED}")
    isthing: dict[int, bool] = {}
    names: dict[int, str] = {}
    for n, entry in enumerate(categories):
        try:
            number, thing, name = entry["id"], entry["isthing"], entry.get("name", entry["id"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{fault}: {error!r} in its categories") from None
        if type(number) is not int or type(thing) not in (int, bool) or thing not in (0, 1):
            raise UserError(
                f"{fault}: categories[{n}] has id {number!r} and isthing {thing!r}, expected a whole number, and 0 or 1"
            )
        if number in isthing:
            raise UserError(f"{path} has category {number} twice: renumber one")
        isthing[number], names[number] = bool(thing), str(name)
    return PanopticQuality(isthing, class_names=names, boundary_ratio=ratio, boundary_px=pixels)


def _read_ids(path: Path) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: panoptic JSON and PNG folder don't belong together")
    return read_panoptic_png(path)


def _in_threads(work: Callable[[Any], Any], items: list, workers: int, progress: bool) -> list:
    """Results in the order of the items; the first error ends it without starting what is still waiting."""
    bar = {"total": len(items), "desc": "PQ", "unit": "image", "disable": not progress}
    if workers == 1:
        return [work(item) for item in tqdm(items, **bar)]
    pool = ThreadPoolExecutor(workers)
    try:
        return list(tqdm(pool.map(work, items), **bar))
    finally:
        pool.shutdown(cancel_futures=True)


def evaluate_panoptic_files(
    gt_json: str | Path, gt_folder: str | Path, pred_json: str | Path, pred_folder: str | Path, progress: bool = False
) -> dict[str, dict[str, float]]:
    """PQ of COCO panoptic result files as panopticapi returns it, see :meth:`PanopticQuality.by_split`.

    Raises:
        FileNotFoundError, UserError: as :func:`score_panoptic_files` does.
    """
    return score_panoptic_files(gt_json, gt_folder, pred_json, pred_folder, progress=progress).quality.by_split()


def pq_percentages(result: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """``{"PQ", "SQ", "RQ", "PQ_th", ..., "RQ_st"}`` in percent, in Detectron2's names and order."""
    return {
        name.upper() + suffix: 100 * result[split][name]
        for split, suffix in _SPLITS.items()
        for name in ("pq", "sq", "rq")
    }


def pq_table(result: Mapping[str, Mapping[str, float]]) -> str:
    """PQ, SQ and RQ in percent and the number of categories, as a text table."""
    rows = [
        [split, *(100 * result[split][name] for name in ("pq", "sq", "rq")), result[split]["n"]] for split in _SPLITS
    ]
    return tabulate(rows, headers=("", "PQ", "SQ", "RQ", "categories"), floatfmt=("", ".3f", ".3f", ".3f", "d"))
