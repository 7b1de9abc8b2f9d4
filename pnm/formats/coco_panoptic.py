"""COCO panoptic files: a JSON of segments and a folder of PNGs, whose colours are the segments' ids."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.formats.atomic_files import write_bytes, write_text
from pnm.formats.coco_instances import read_json
from pnm.formats.label_png import read_panoptic_png

EXPECTED = (
    'a COCO panoptic JSON, {"annotations": [{"image_id", "file_name", "segments_info": [{"id", "category_id"}]}], '
    '"categories": [{"id", "name", "isthing"}]}'
)
VOID = 0
MOST_ID = 2**24 - 1  # that a PNG's three bytes hold


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


def read_annotations(path: str | Path, *, predicted: bool = False) -> tuple[dict, dict]:
    """The content and ``{image id: annotation}`` of a COCO panoptic JSON, with the keys that are needed everywhere.

    Args:
        predicted: that the file is a prediction, whose segments may be numbered from 0 on, see
            :func:`read_prediction`; in a ground truth 0 is void.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: see :func:`annotations_by_image`.
    """
    return annotations_by_image(read_json(Path(path), EXPECTED), path, predicted=predicted)


def annotations_by_image(content: Any, path: str | Path, *, predicted: bool = False) -> tuple[dict, dict]:
    """As :func:`read_annotations`, of what the file ``path`` holds.

    Raises:
        UserError: it isn't such a JSON; an image occurs twice, or a segment's id in an image; a PNG's name leads out of
            its folder. The message names the entry.
    """
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise UserError(f"{path} is not a COCO panoptic JSON: it has no list of annotations, expected {EXPECTED}")
    by_image: dict[Any, dict] = {}
    for n, annotation in enumerate(content["annotations"]):
        _check_annotation(annotation, path, n, predicted)
        by_image[annotation["image_id"]] = annotation
    twice = len(content["annotations"]) - len(by_image)
    if twice:
        raise UserError(f"{path} has {twice} image(s) twice: keep one annotation of each")
    return content, by_image


def _check_annotation(annotation: Any, path: str | Path, n: int, predicted: bool) -> None:
    try:
        image, file_name, segments = [annotation[key] for key in ("image_id", "file_name", "segments_info")]
        rows = [(s["id"], s["category_id"], s.get("iscrowd", 0)) for s in segments]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a COCO panoptic JSON: {error!r} in annotations[{n}]") from None
    name = f"{path}: image {image}"
    if type(image) not in (int, str) or not isinstance(file_name, str) or not isinstance(segments, list):
        raise UserError(
            f"{name}: expected image_id to be a number or text, and file_name text, and segments_info a list "
            f"in annotations[{n}]"
        )
    _check_file_name(file_name, name)
    seen: set[int] = set()
    least, remark = (VOID, "") if predicted else (VOID + 1, f"; {VOID} is void")
    for number, category, crowd in rows:
        if type(number) is not int or not least <= number <= MOST_ID or type(category) is not int:
            raise UserError(
                f"{name} has a segment of id {number!r} and category {category!r}, expected whole numbers, the id from "
                f"{least} to {MOST_ID}{remark}"
            )
        if type(crowd) not in (int, bool) or crowd not in (0, 1):
            raise UserError(f"{name}: segment {number} has iscrowd {crowd!r}, expected 0 or 1")
        if number in seen:
            raise UserError(f"{name} lists segment id {number} twice: renumber one")
        seen.add(number)


def _check_file_name(file_name: str, name: str) -> None:
    windows = PureWindowsPath(file_name)
    if not windows.name or windows.anchor or ".." in windows.parts or PurePosixPath(file_name).anchor:
        raise UserError(f"{name}: file_name {file_name!r} leads out of the folder of PNGs, expected a name in it")


def read_categories(content: Mapping, path: str | Path) -> tuple[dict[int, bool], dict[int, str]]:
    """``{category id: is it a thing}`` and ``{category id: name}`` of a COCO panoptic JSON's content.

    Raises:
        UserError: no categories, or one that isn't what it should be; ``path`` names the file in messages.
    """
    fault = f"{path} is not a COCO panoptic JSON"
    categories = content.get("categories")
    if not isinstance(categories, list) or not categories:
        raise UserError(f"{fault}: it has no list of categories, expected {EXPECTED}")
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
    return isthing, names


def id_offset(segments: Iterable[Mapping[str, Any]]) -> int:
    """What the ids of a predicted image are to be raised by for 0 to be void: 1 if a segment has id 0, else 0.

    DETR numbers segments from 0 on. An image in whose list 0 stands has no void.
    """
    return int(any(segment["id"] == VOID for segment in segments))


def read_prediction(png: str | Path, segments: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """A predicted PNG's labels, (H, W) int32 with 0 for void, and its segments, ids raised by :func:`id_offset`.

    Args:
        segments: "segments_info" of the image.

    Raises:
        UserError: see :func:`pnm.formats.label_png.decode_panoptic_png`.
    """
    offset, labels = id_offset(segments), read_panoptic_png(png)
    return labels + offset if offset else labels, [{**segment, "id": segment["id"] + offset} for segment in segments]


def panoptic_folder(json_file: str | Path) -> Path:
    """The PNGs of a panoptic JSON: the folder of its name without ".json", else ``panoptic`` beside it (Detectron2).

    Raises:
        FileNotFoundError: there is neither.
    """
    path = Path(json_file)
    for folder in (path.with_suffix(""), path.parent / "panoptic"):
        if folder.is_dir():
            return folder
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: expected a COCO panoptic JSON")
    raise FileNotFoundError(
        f"{path} has no folder of PNGs, {path.with_suffix('')} or {path.parent / 'panoptic'}: put it there, or name it "
        "(--gt-folder, --pred-folder)"
    )


def rgb_to_ids(rgb: np.ndarray) -> np.ndarray:
    """Segment ids (H, W) int64 of a COCO panoptic PNG (H, W, 3) uint8: R + 256 G + 65536 B."""
    if rgb.ndim != 3 or rgb.shape[2] < 3 or rgb.dtype != np.uint8:
        raise UserError(f"a panoptic PNG is (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    return rgb[..., 0] + (rgb[..., 1].astype(np.int64) << 8) + (rgb[..., 2].astype(np.int64) << 16)


def ids_to_rgb(ids: np.ndarray) -> np.ndarray:
    """COCO panoptic PNG pixels (H, W, 3) uint8 of segment ids (H, W), 0 <= id < 2**24."""
    if ids.size and (ids.min() < 0 or ids.max() >= 1 << 24):
        raise UserError(f"segment ids must lie in [0, 2**24), got {ids.min()} to {ids.max()}")
    return np.stack([(ids >> shift) & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
