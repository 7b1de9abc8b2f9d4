"""Semantic predictions and ground truth in files: label PNGs of any model, and Detectron2's JSON of masks.

Files belong together by their image's name, see :func:`image_name`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pnm.cityscapes_classes import CITYSCAPES_CLASSES, CITYSCAPES_IDS
from pnm.errors import UserError
from pnm.formats.folders import SameNameError, label_pngs_below, one_file_each
from pnm.formats.json_list import JsonList
from pnm.formats.label_png import png_size_of, read_label_png
from pnm.kernels import entry_kernel
from pnm.masks.runs import decode_masks

_NO_CLASS = -1
EXPECTED_MASKS = 'a list of {"file_name", "category_id", "segmentation"}, one for each image and class'
_LABELS = r"_gtFine_label(?:Train)?Ids|_gtCoarse_label(?:Train)?Ids"
_SUFFIX = re.compile(rf"(_leftImg8bit.*|{_LABELS}|_pred.*)$")
_NO_LABELS = re.compile(r"_gt(?:Fine|Coarse)_(color|instance(?:Train)?Ids)$")


class MaskEntries(NamedTuple):
    """Masks of one image from Detectron2's ``sem_seg_predictions.json``."""

    path: Path
    image: str
    entries: list[dict[str, Any]]


Source = Path | MaskEntries


def image_name(file_name: str | Path) -> str:
    """The name by which files of one image are matched.

    It is the file name without folders and extension, and without what Cityscapes appends: ``_leftImg8bit...``,
    ``_gtFine_labelIds``, ``_gtFine_labelTrainIds`` (also ``_gtCoarse``), ``_pred...``.
    """
    return _SUFFIX.sub("", Path(file_name).stem)


def label_files(folder: str | Path, *, label_ids: bool = False, by_path: bool = False) -> dict[str, Path]:
    """Label PNGs in a folder and the folders in it, by :func:`image_name`, sorted.

    Cityscapes' colour and instance files are passed over. Of an image that has both label ids and train ids, the latter
    are taken, or the former with ``label_ids``.

    Args:
        by_path: names have the folders below ``folder`` before them.

    Raises:
        FileNotFoundError: no such folder, or no PNG in it.
        SameNameError: two files of one image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: expected one with label PNGs")
    files = [folder / path for path in label_pngs_below(folder)]
    files = [file for file in files if not _NO_LABELS.search(file.stem)]

    def name_of(file: Path) -> str:
        name = image_name(file)
        return (file.parent.relative_to(folder) / name).as_posix() if by_path else name

    unwanted = "labelTrainIds" if label_ids else "labelIds"
    wanted = {name_of(file) for file in files if not file.stem.endswith(unwanted)}
    named = [(name_of(file), file) for file in files]
    named = [(name, file) for name, file in named if not (file.stem.endswith(unwanted) and name in wanted)]
    return one_file_each(named, folder, "label PNG")


def mask_entries(path: str | Path) -> dict[str, MaskEntries]:
    """Entries of Detectron2's ``sem_seg_predictions.json``, by :func:`image_name`, sorted.

    Raises:
        FileNotFoundError: no such file.
        UserError: it isn't such a JSON.
    """
    path = Path(path)
    of_image: dict[str, MaskEntries] = {}
    files: dict[str, str] = {}

    def visit(n: int, entry: Any) -> None:
        file, _ = check_mask_entry(path, n, entry)
        name = image_name(file)
        if files.setdefault(name, file) != file:
            raise UserError(f"{path}: {files[name]} and {file} have the same image name {name}: rename one")
        of_image.setdefault(name, MaskEntries(path, name, [])).entries.append({**entry, "number": n})

    JsonList(path, EXPECTED_MASKS, visit)
    return dict(sorted(of_image.items()))


def check_mask_entry(path: Path, n: int, entry: Any) -> tuple[str, int]:
    """File name and category of entry ``n`` of ``sem_seg_predictions.json``, whose mask is not looked at.

    Raises:
        UserError: one of them isn't what it should be.
    """
    file, category = (entry.get("file_name"), entry.get("category_id")) if isinstance(entry, dict) else (None, None)
    if not isinstance(file, str) or type(category) is not int or "segmentation" not in entry:
        raise UserError(f"{path}: entry {n} is {str(entry)[:80]}: expected {EXPECTED_MASKS}")
    return file, category


def prediction_sources(path: str | Path, *, by_path: bool = False) -> Mapping[str, Source]:
    """Of each image, where its prediction is: a folder of label PNGs or ``sem_seg_predictions.json``."""
    if Path(path).suffix == ".json":
        return mask_entries(path)
    return label_files(path, label_ids=True, by_path=by_path)


def paired_files(pred: str | Path, gt: str | Path, *, label_ids: bool) -> tuple[Mapping[str, Source], dict[str, Path]]:
    """Predictions and label PNGs by image name; by the folders that they are in, too, where names come twice.

    Raises:
        FileNotFoundError, UserError: as :func:`prediction_sources` and :func:`label_files` do.
    """
    try:
        return prediction_sources(pred), label_files(gt, label_ids=label_ids)
    except SameNameError:
        if Path(pred).suffix != ".json":
            sources, files = prediction_sources(pred, by_path=True), label_files(gt, label_ids=label_ids, by_path=True)
            if sources.keys() & files.keys():
                return sources, files
        raise


def source_size(source: Source) -> tuple[int, int]:
    """(height, width) that a PNG's header or the first mask states; a UserError if neither can be read."""
    if isinstance(source, Path):
        return png_size_of(source)
    for entry in source.entries:
        segmentation = entry["segmentation"]
        size = segmentation.get("size") if isinstance(segmentation, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size):
            return size[0], size[1]
    raise UserError(f'{source.path}: no mask of image {source.image} states its size: expected RLE with "size": [H, W]')


def unknown_categories(source: Source, category_ids: Sequence[int]) -> list[int]:
    """Category ids of masks that the data set doesn't have; none for a PNG, whose strange labels are no class."""
    if isinstance(source, Path):
        return []
    return sorted({entry["category_id"] for entry in source.entries} - set(category_ids))


def train_ids(path: Path, label_map: np.ndarray, *, truth: bool) -> np.ndarray:
    """Cityscapes' train ids 0..18, and 255, of a map of label ids; maps named ``*labelTrainIds`` are left as they are.

    Raises:
        UserError: a ground truth with label ids that Cityscapes doesn't have.
    """
    import cv2

    if path.stem.endswith("labelTrainIds"):
        return label_map
    if truth and label_map.max(initial=0) >= CITYSCAPES_IDS:
        raise UserError(
            f"{path} has label {label_map.max()}, expected label ids 0 to {CITYSCAPES_IDS - 1}: train ids belong in "
            "files named *_gtFine_labelTrainIds.png"
        )
    table = np.full(2**16, 255, np.uint8)
    table[list(CITYSCAPES_CLASSES)] = np.arange(len(CITYSCAPES_CLASSES))
    return cv2.LUT(label_map, table[:256]) if label_map.dtype == np.uint8 else table[label_map]


def read_labels(source: Source, category_ids: Sequence[int]) -> np.ndarray:
    """(H, W) labels of a PNG, or classes of masks: the places of their categories in ``category_ids``, else -1.

    Raises:
        UserError: a damaged file or mask, masks that overlap or are of a category that isn't there.
    """
    if isinstance(source, Path):
        return read_label_png(source)
    size, column = source_size(source), {category: k for k, category in enumerate(category_ids)}
    names = [f"{source.path}: entry {entry['number']}" for entry in source.entries]
    strange = unknown_categories(source, category_ids)
    if strange:
        raise UserError(f"{source.path}: image {source.image} has categories {strange[:5]}, unknown to the data set")
    masks = decode_masks([entry["segmentation"] for entry in source.entries], *size, names.__getitem__)
    columns = np.array([column[entry["category_id"]] for entry in source.entries], np.int64)
    labels = np.full(size[0] * size[1], _NO_CLASS, np.int32)
    if _paint(masks.starts, masks.ends, masks.offsets, columns, labels):
        raise UserError(f"{source.path}: masks of image {source.image} overlap: expected one class a pixel")
    return np.ascontiguousarray(labels.reshape(size[1], size[0]).T)


@entry_kernel
def _paint(starts: np.ndarray, ends: np.ndarray, offsets: np.ndarray, columns: np.ndarray, labels: np.ndarray) -> bool:
    """Writes each mask's class into ``labels``, which go by columns; whether two masks share a pixel."""
    overlap = False
    for n in range(columns.size):
        for r in range(offsets[n], offsets[n + 1]):
            for pixel in range(starts[r], ends[r]):
                overlap |= labels[pixel] != -1
                labels[pixel] = columns[n]
    return overlap
