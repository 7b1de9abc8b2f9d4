"""Small result files of each task, of a disc that moves from image to image, and what is in folders."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

SIZE, IMAGES = (40, 52), 11


def labels_of(n):
    """(H, W) of 1 and 2, a disc that moves."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.where((rows - 20) ** 2 + (columns - 10 - 3 * n) ** 2 < 80, 2, 1).astype(np.uint8)


def write_instances(folder):
    entries = []
    for n in [*range(IMAGES), 3, 0]:  # entries of an image needn't stand together
        mask = coco_mask.encode(np.asfortranarray((labels_of(n) == 2).astype(np.uint8)))
        segmentation = {"size": mask["size"], "counts": mask["counts"].decode()}
        entries.append({"image_id": n, "category_id": 1, "score": 0.5 + n / 99, "segmentation": segmentation})
    (folder / "results.json").write_text(json.dumps(entries), "utf-8")
    return folder / "results.json"


def write_panoptic(folder):
    (folder / "panoptic").mkdir()
    annotations = []
    for n in range(IMAGES):
        ids = labels_of(n)
        Image.fromarray(np.stack([ids, ids * 0, ids * 0], -1)).save(folder / f"panoptic/{n:03}.png")
        segments = [{"id": k, "category_id": k, "area": int((ids == k).sum())} for k in (2, 1)]
        annotations.append({"image_id": n, "file_name": f"{n:03}.png", "segments_info": segments})
    (folder / "predictions.json").write_text(json.dumps({"annotations": annotations}), "utf-8")
    return folder / "predictions.json"


def write_labels(folder):
    (folder / "labels").mkdir()
    for n in range(IMAGES):
        Image.fromarray(labels_of(n)).save(folder / f"labels/{n:03}.png")
    return folder / "labels"


WRITERS = {"instance": write_instances, "panoptic": write_panoptic, "semantic": write_labels}


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
