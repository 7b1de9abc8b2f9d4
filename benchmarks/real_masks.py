"""True masks of real photographs, cut out with a margin: of COCO, CamVid, Cityscapes and ADE20K, as folders lie."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pnm.cityscapes_classes import CITYSCAPES_INSTANCE_CLASSES, FIRST_INSTANCE
from pnm.errors import UserError
from pnm.formats.coco_instances import read_coco_ground_truth
from pnm.formats.label_png import read_label_png
from pnm.masks.crops import crop_runs, paste
from pnm.masks.runs import decode_masks
from pnm.metrics.boundary_width import boundary_distance_px

LEAST_AREA = 1024  # pixels
BOUNDARY_RATIO = 0.005  # of the whole image's diagonal
LEAST_MARGIN, MARGIN_SHARE = 64, 0.5  # pixels; of the longer side of the object's box
CAMVID_VOID, ADE20K_VOID = 11, 0
CITYSCAPES_UNKNOWN = (0, 1, 2, 3)  # unlabelled, own vehicle, rectification border, outside of the region of interest


class RealMask(NamedTuple):
    """One object, cut out of its image.

    Attributes:
        image: (H, W, 3) uint8 RGB, a view of the whole image.
        truth, ignored: (H, W) bool; what is ignored has no known label.
        boundary_px: width of the boundary, by the whole image's diagonal.
        name: image, and the object's number in it.
    """

    image: np.ndarray
    truth: np.ndarray
    ignored: np.ndarray
    boundary_px: int
    name: str


def read_rgb(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise UserError(f"{path} is no image that can be read, or is missing")
    return np.ascontiguousarray(pixels[:, :, ::-1])


def boundary_px(image: np.ndarray) -> int:
    return boundary_distance_px(image.shape[0], image.shape[1], BOUNDARY_RATIO)


def cut_out(image: np.ndarray, truth: np.ndarray, ignored: np.ndarray, name: str) -> RealMask:
    """The object's box with a margin, inside the image; arguments have the image's size."""
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    longer = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    margin = max(LEAST_MARGIN, round(MARGIN_SHARE * longer))
    box = tuple(slice(max(0, lines[0] - margin), lines[-1] + 1 + margin) for lines in (rows, columns))
    return RealMask(image[box], truth[box].copy(), ignored[box].copy(), boundary_px(image), name)


def coco_objects(data: Path) -> Iterator[RealMask]:
    """Instances of COCO's annotation files, crowds left out, of images that are there."""
    for split in ("train2017", "val2017"):
        file = data / f"coco/annotations/instances_{split}.json"
        truth = read_coco_ground_truth(file) if file.is_file() else None
        for key, entry in truth.images.items() if truth else ():
            path = data / "coco" / split / Path(entry.file_name).name
            rows = [row for row in truth.annotations.get(key, []) if not row.get("iscrowd", 0)]
            if not rows or not path.is_file():
                continue
            image, nothing = read_rgb(path), np.zeros((entry.height, entry.width), np.bool_)
            masks = decode_masks([row["segmentation"] for row in rows], entry.height, entry.width, str)
            for n in np.flatnonzero(masks.areas >= LEAST_AREA).tolist():
                yield cut_out(image, paste(crop_runs(masks, n), entry.height, entry.width), nothing, f"{path.stem}/{n}")


def region_objects(image: np.ndarray, labels: np.ndarray, void: int, name: str) -> Iterator[RealMask]:
    """Connected regions (8 neighbours) of each class of a label map."""
    number, ignored = 0, labels == void
    for label in np.unique(labels[~ignored]).tolist():
        _, regions, stats, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=8)
        for region in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= LEAST_AREA).tolist():
            yield cut_out(image, regions == region + 1, ignored, f"{name}/{number}")
            number += 1


def camvid_objects(data: Path) -> Iterator[RealMask]:
    for path in sorted((data / "camvid/trainannot").glob("*.png")):
        image = read_rgb(data / "camvid/train" / path.name)
        yield from region_objects(image, read_label_png(path), CAMVID_VOID, path.stem)


def ade20k_objects(data: Path) -> Iterator[RealMask]:
    folder = data / "ADEChallengeData2016"
    for path in sorted((folder / "annotations/validation").glob("*.png")):
        image = read_rgb(folder / f"images/validation/{path.stem}.jpg")
        yield from region_objects(image, read_label_png(path), ADE20K_VOID, path.stem)


def cityscapes_objects(data: Path) -> Iterator[RealMask]:
    """Instances of classes that have them; groups are none."""
    for path in sorted((data / "cityscapes/gtFine").glob("*/*/*_instanceIds.png")):
        stem = path.name.removesuffix("_gtFine_instanceIds.png")
        split, city = path.parts[-3:-1]
        image = read_rgb(data / "cityscapes/leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
        ids = read_label_png(path)
        ignored = np.isin(ids, CITYSCAPES_UNKNOWN)
        numbers, areas = np.unique(ids, return_counts=True)
        for number in numbers[areas >= LEAST_AREA].tolist():
            if number >= FIRST_INSTANCE and number // FIRST_INSTANCE in CITYSCAPES_INSTANCE_CLASSES:
                yield cut_out(image, ids == number, ignored, f"{stem}/{number}")


# (objects, how many are drawn of them at most)
SOURCES: dict[str, tuple[Callable[[Path], Iterator[RealMask]], int]] = {
    "coco": (coco_objects, 120),
    "camvid": (camvid_objects, 100),
    "cityscapes": (cityscapes_objects, 80),
    "ade20k": (ade20k_objects, 60),
}
