"""COCO panoptic result files (a JSON and a folder of PNGs): written, read, scored, tabulated."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tabulate import tabulate
from tqdm import tqdm

from pnm.metrics.panoptic_quality import PanopticQuality, rgb_to_ids

_SPLITS = {"All": "", "Things": "_th", "Stuff": "_st"}


def write_predictions(folder: str | Path, records: Iterable[Mapping[str, Any]], gt_json: str | Path) -> Path:
    """Writes ``folder/panoptic/*.png`` and ``folder/predictions.json``; returns the JSON's path.

    Args:
        records: ``{"image_id", "file_name", "segments_info", "png"}`` of each image, ``png`` the encoded file.
        gt_json: its images and categories are taken over.
    """
    folder = Path(folder)
    (folder / "panoptic").mkdir(parents=True, exist_ok=True)
    annotations = []
    for record in records:
        (folder / "panoptic" / record["file_name"]).write_bytes(record["png"])
        annotations.append({key: record[key] for key in ("image_id", "file_name", "segments_info")})
    content, _ = _read_annotations(Path(gt_json))
    content["annotations"] = annotations
    path = folder / "predictions.json"
    temporary = path.with_suffix(".json.partial")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)
    return path


def _read_ids(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return rgb_to_ids(np.asarray(image.convert("RGB") if image.mode == "RGBA" else image))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: panoptic JSON and PNG folder don't belong together") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is not a readable panoptic PNG: {error}") from None


def _read_annotations(path: Path) -> tuple[dict, dict]:
    try:
        content = json.loads(path.read_text())
        return content, {annotation["image_id"]: annotation for annotation in content["annotations"]}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: expected a COCO panoptic JSON") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a COCO panoptic JSON: {error!r}") from None


def evaluate_panoptic_files(
    gt_json: str | Path, gt_folder: str | Path, pred_json: str | Path, pred_folder: str | Path, progress: bool = False
) -> dict[str, dict]:
    """PQ of COCO panoptic result files (JSON + PNG folder); returns :meth:`PanopticQuality.compute`.

    Raises:
        FileNotFoundError: a JSON or PNG is missing.
        ValueError: an image has no prediction, or a file is damaged or inconsistent; the message names it.
    """
    content, gt_by_image = _read_annotations(Path(gt_json))
    _, pred_by_image = _read_annotations(Path(pred_json))
    missing = [image for image in gt_by_image if image not in pred_by_image]
    if missing:
        raise ValueError(f"{pred_json} has no prediction for {len(missing)} image(s), first {missing[:5]}")
    quality = PanopticQuality({c["id"]: bool(c["isthing"]) for c in content["categories"]})
    for image_id, gt in tqdm(gt_by_image.items(), desc="PQ", unit="image", disable=not progress):
        pred = pred_by_image[image_id]
        try:
            quality.update(
                _read_ids(Path(gt_folder) / gt["file_name"]),
                gt["segments_info"],
                _read_ids(Path(pred_folder) / pred["file_name"]),
                pred["segments_info"],
            )
        except ValueError as error:
            raise ValueError(f"image {image_id}: {error}") from None
    return quality.compute()


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
