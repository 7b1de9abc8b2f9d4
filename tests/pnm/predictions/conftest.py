"""Small prediction files of all five formats, made without the code under test."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pnm.masks.crops import paste

SIZE = (37, 53)
PALETTE = [0, 0, 0, 200, 10, 10, 10, 200, 10, 10, 10, 200, 7, 8, 9]
KINDS = ("coco", "panoptic", "labels", "sem_seg", "cityscapes")


def blob(rng, size=SIZE):
    """A random ellipse, part of which may lie outside."""
    y, x = np.mgrid[: size[0], : size[1]]
    centre, radii = rng.uniform(0, size), rng.uniform(3, 15, 2)
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1


def blob_labels(rng, labels, size=SIZE):
    """(H, W) int64, each of the labels somewhere."""
    found = np.full(size, labels[0])
    for label in labels[1:]:
        found[blob(rng, size)] = label
    found[0, : len(labels)] = labels
    return found


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def rgb(ids):
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def make_coco(folder, rng):
    entries = []
    for image in (7, 3, 7, 12, 3, 7):  # an image's entries needn't stand together
        mask = blob(rng)
        entries.append({"image_id": image, "category_id": int(rng.integers(1, 90)), "bbox": [1.5, 2.5, 3.0, 4.0]})
        entries[-1] |= {"score": float(rng.random()), "segmentation": rle(mask), "area": 9, "extra": {"é": [1, None]}}
    entries[2]["segmentation"] = rle(np.zeros(SIZE, bool))
    uncompressed = {"size": list(SIZE), "counts": [0, 5, 0, 3, SIZE[0] * SIZE[1] - 8]}
    entries[3] = {"image_id": 12, "category_id": 1, "segmentation": uncompressed, "score": 1}
    entries[4]["segmentation"] = [[2.0, 3.0, 30.5, 4.0, 20.0, 30.0]]
    (folder / "results.json").write_text(json.dumps(entries))
    return folder / "results.json"


def make_panoptic(folder, rng):
    (folder / "panoptic").mkdir()
    annotations, ids = [], [0, 1, 300, 70000, 2**24 - 1]
    for image in (5, "b", 2):
        labels = blob_labels(rng, ids)
        Image.fromarray(rgb(labels)).save(folder / "panoptic" / f"{image}.png")
        segments = [{"id": i, "category_id": 10 + k, "isthing": True} for k, i in reversed(list(enumerate(ids[1:])))]
        segments[0] |= {"area": int((labels == segments[0]["id"]).sum()), "bbox": [0, 0, 1, 1], "note": "x"}
        annotations.append({"image_id": image, "file_name": f"{image}.png", "segments_info": segments, "more": 1})
    content = {"info": {"a": 1}, "images": [], "annotations": annotations, "categories": [{"id": 10, "name": "ä"}]}
    (folder / "predictions.json").write_text(json.dumps(content))
    return folder / "predictions.json"


def make_labels(folder, rng):
    root = folder / "labels"
    (root / "b" / "c").mkdir(parents=True)
    Image.fromarray(blob_labels(rng, [0, 3, 255]).astype(np.uint8)).save(root / "grey8.png")
    Image.fromarray(blob_labels(rng, [0, 3, 40000]).astype(np.uint16)).save(root / "b" / "grey16.png")
    for bits in (2, 4, 8):
        image = Image.fromarray(blob_labels(rng, [1, 3, 2]).astype(np.uint8))
        image.putpalette(PALETTE)
        image.save(root / "b" / "c" / f"palette{bits}.png", bits=bits, transparency=1)
    return root


def make_sem_seg(folder, rng):
    entries = []
    for image in ("val/x.jpg", "val/a.jpg"):
        labels = blob_labels(rng, [0, 4, 9, 11])
        for label in (9, 0, 4):
            entries.append({"file_name": image, "category_id": label, "segmentation": rle(labels == label)})
    entries.append({"file_name": "val/x.jpg", "category_id": 77, "segmentation": rle(np.zeros(SIZE, bool))})
    (folder / "sem_seg_predictions.json").write_text(json.dumps(entries))
    return folder / "sem_seg_predictions.json"


def make_cityscapes(folder, rng):
    root = folder / "instances"
    for frame, objects in (("aachen_000001_000019", 3), ("ulm_000000_000002", 0), ("bonn_000000_000003", 2)):
        stem, lines = f"{frame}_leftImg8bit", []
        (root / "masks").mkdir(parents=True, exist_ok=True)
        for n in range(objects):
            Image.fromarray(blob(rng).astype(np.uint8) * (255 if n else 1)).save(root / f"masks/{stem}_{n}.png")
            lines.append(f"masks/{stem}_{n}.png {24 + n} {0.5 + n / 7:.4f}\n")
        (root / f"{stem}_pred.txt").write_text("".join(lines))
    return root


MAKERS = dict(zip(KINDS, (make_coco, make_panoptic, make_labels, make_sem_seg, make_cityscapes)))


@pytest.fixture
def make(tmp_path):
    """``make(kind)`` writes predictions of that format below ``tmp_path``; ``(path, options to open them)``."""

    def made(kind, seed=0):
        folder = tmp_path / f"{kind}{seed}"
        folder.mkdir()
        path = MAKERS[kind](folder, np.random.default_rng(seed))
        return path, {"image_sizes": dict.fromkeys((3, 7, 12), SIZE)} if kind == "coco" else {}

    return made


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def output_name(kind):
    return "refined" if kind in ("labels", "cityscapes") else "refined.json"


@pytest.fixture
def content_of():
    """Bytes of the files that an output consists of, by name."""

    def content(output):
        roots = [output, output.with_suffix("")]
        files = {path for root in roots for path in ([root] if root.is_file() else root.rglob("*")) if path.is_file()}
        return {path.relative_to(output.parent).as_posix(): path.read_bytes() for path in files}

    return content


@pytest.fixture
def moved():
    """A refinement of any prediction: masks a pixel to the right, where that's allowed."""

    def refine(coarse):
        if hasattr(coarse, "masks"):
            return [np.roll(paste(mask, *coarse.size), 1, axis=1) for mask in coarse.masks]
        rolled = np.roll(coarse.labels, 1, axis=1)
        other = ~np.isin(rolled, coarse.segments) | ~np.isin(coarse.labels, coarse.segments)
        return np.where(other, coarse.labels, rolled)

    return refine
