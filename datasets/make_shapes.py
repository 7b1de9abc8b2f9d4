"""Makes the synthetic data set ``shapes``: small scenes with exact masks, for quick starts, tests and benchmarks.

    python datasets/make_shapes.py                      # 400 + 100 scenes of 192x256 under datasets/shapes
    python datasets/make_shapes.py --train 2000 --height 384 --width 512 --seed 7

The same arguments give the same files. What is written (things: blob, ring, pole, urchin; stuff: sky, rock,
field, water):

    shapes/images/{train,val}/*.png
    shapes/annotations/{instances,panoptic}_{train,val}.json   COCO instances (RLE) and COCO panoptic
    shapes/panoptic_{train,val}/*.png                          COCO panoptic ids
    shapes/panoptic_stuff_{train,val}/*.png                    0 = thing, 1.. = stuff, 255 = ignore (Panoptic FPN)
    shapes/semantic_{train,val}/*.png                          all classes, 255 = ignore
    shapes/cityscapes/{leftImg8bit,gtFine}/{train,val}/shapes/ the same scenes as Cityscapes files
"""

import argparse
import json
import os
import shutil
import sys
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import cv2
import label_files
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from shapes_scene import STUFF_CLASSES, THING_CLASSES, Scene, draw_scene
from tqdm import tqdm

FORMAT = 1
IGNORE = 255
THING_IDS = (1, 2, 3, 4)
STUFF_IDS = (11, 12, 13, 14)
# Cityscapes has none of these classes; theirs stand in: (name, label id, train id).
CITYSCAPES_THINGS = (("person", 24, 11), ("car", 26, 13), ("bicycle", 33, 18), ("rider", 25, 12))
CITYSCAPES_STUFF = (("sky", 23, 10), ("building", 11, 2), ("terrain", 22, 9), ("road", 7, 0))


def categories() -> list[dict]:
    """COCO panoptic categories."""
    things = [{"id": i, "name": n, "isthing": 1} for i, n in zip(THING_IDS, THING_CLASSES, strict=True)]
    return things + [{"id": i, "name": n, "isthing": 0} for i, n in zip(STUFF_IDS, STUFF_CLASSES, strict=True)]


def _box_xywh(mask: np.ndarray) -> list[int]:
    y, x = np.nonzero(mask)
    return [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]


def _segments(scene: Scene) -> list[tuple[int, np.ndarray, int, int]]:
    """(panoptic id, mask, category id, index of the thing or -1) of all segments."""
    found = []
    for k, kind in enumerate(scene.classes, 1):
        found.append((THING_IDS[kind] * 1000 + k, scene.instances == k, THING_IDS[kind], k))
    for index, category in enumerate(STUFF_IDS):
        mask = (scene.stuff == index) & (scene.instances == 0)
        if mask.any():
            found.append((category * 1000, mask, category, -1))
    return found


def _annotate(scene: Scene, image_id: int) -> tuple[list[dict], list[dict]]:
    """COCO instance annotations and panoptic ``segments_info`` of a scene."""
    annotations, segments = [], []
    for number, mask, category, thing in _segments(scene):
        row = {"category_id": category, "area": int(mask.sum()), "bbox": _box_xywh(mask), "iscrowd": 0}
        segments.append({"id": number, **row})
        if thing > 0:
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            rle["counts"] = rle["counts"].decode()
            annotations.append({"image_id": image_id, "segmentation": rle, **row})
    return annotations, segments


def _label_maps(scene: Scene) -> dict[str, np.ndarray]:
    """All label images of a scene, by kind."""
    shape = scene.stuff.shape
    semantic = scene.stuff + np.uint8(len(THING_CLASSES))
    stuff = scene.stuff + np.uint8(1)
    label_ids = np.array([label for _, label, _ in CITYSCAPES_STUFF], np.uint8)[scene.stuff]
    train_ids = np.array([train for _, _, train in CITYSCAPES_STUFF], np.uint8)[scene.stuff]
    instance_ids = label_ids.astype(np.uint16)
    seen = [0] * len(THING_CLASSES)
    for k, kind in enumerate(scene.classes, 1):
        there = scene.instances == k
        _, label, train = CITYSCAPES_THINGS[kind]
        semantic[there], stuff[there], label_ids[there], train_ids[there] = kind, 0, label, train
        instance_ids[there] = label * 1000 + seen[kind]
        seen[kind] += 1
    void = scene.instances < 0
    for array, value in ((semantic, IGNORE), (stuff, IGNORE), (label_ids, 0), (train_ids, IGNORE), (instance_ids, 0)):
        array[void] = value
    panoptic = np.zeros((*shape, 3), np.uint8)
    for number, mask, _, _ in _segments(scene):
        panoptic[mask] = [number & 255, number >> 8 & 255, number >> 16]
    return {
        "panoptic": panoptic,
        "panoptic_stuff": stuff,
        "semantic": semantic,
        "labelIds": label_ids,
        "labelTrainIds": train_ids,
        "instanceIds": instance_ids,
    }


def _cityscapes_polygons(scene: Scene) -> dict:
    """Cityscapes polygon file: outer contours, back to front. It fills holes; the instanceIds are exact."""
    masks = [((scene.stuff == k).astype(np.uint8), name) for k, (name, _, _) in enumerate(CITYSCAPES_STUFF)]
    masks += [
        ((scene.instances == k).astype(np.uint8), CITYSCAPES_THINGS[c][0]) for k, c in enumerate(scene.classes, 1)
    ]
    objects = []
    for mask, name in masks:
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        objects += [{"label": name, "polygon": c[:, 0].tolist()} for c in contours if len(c) >= 4]
    height, width = scene.stuff.shape
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def _write_scene(k: int, root: Path, split: str, seed: int, size: tuple[int, int]) -> tuple[dict, list, list]:
    """Draws and writes scene ``k`` of a split; returns its COCO image row, annotations and segments."""
    scene = draw_scene(np.random.default_rng([seed, split == "val", k]), *size)
    name = f"{k:06d}.png"
    Image.fromarray(scene.image).save(root / "images" / split / name)
    maps = _label_maps(scene)
    for kind in ("panoptic", "panoptic_stuff", "semantic"):
        Image.fromarray(maps[kind]).save(root / f"{kind}_{split}" / name)
    stem = f"shapes_{k:06d}_000000"
    for kind in ("labelIds", "labelTrainIds", "instanceIds"):
        Image.fromarray(maps[kind]).save(root / f"cityscapes/gtFine/{split}/shapes/{stem}_gtFine_{kind}.png")
    polygons = root / f"cityscapes/gtFine/{split}/shapes/{stem}_gtFine_polygons.json"
    polygons.write_text(json.dumps(_cityscapes_polygons(scene)), "utf-8")
    twin = root / f"cityscapes/leftImg8bit/{split}/shapes/{stem}_leftImg8bit.png"
    try:
        os.link(root / "images" / split / name, twin)
    except OSError:  # a file system without hard links
        shutil.copyfile(root / "images" / split / name, twin)
    row = {"id": k, "file_name": name, "height": size[0], "width": size[1]}
    return row, *_annotate(scene, k)


def _write_split(root: Path, split: str, n: int, seed: int, size: tuple[int, int], pool) -> None:
    for folder in (
        f"images/{split}", f"panoptic_{split}", f"panoptic_stuff_{split}", f"semantic_{split}", "annotations",
        f"cityscapes/leftImg8bit/{split}/shapes", f"cityscapes/gtFine/{split}/shapes",
    ):  # fmt: skip
        (root / folder).mkdir(parents=True, exist_ok=True)
    work = pool.imap(partial(_write_scene, root=root, split=split, seed=seed, size=size), range(n))
    images, annotations, panoptic = [], [], []
    for row, instances, segments in tqdm(work, total=n, desc=f"shapes {split}", unit="scene"):
        images.append(row)
        annotations += [{"id": len(annotations) + i, **a} for i, a in enumerate(instances, 1)]
        panoptic.append({"image_id": row["id"], "file_name": row["file_name"], "segments_info": segments})
    things = [c for c in categories() if c["isthing"]]
    for kind, rows, kinds in (("instances", annotations, things), ("panoptic", panoptic, categories())):
        content = {"info": {"description": "shapes"}, "images": images, "annotations": rows, "categories": kinds}
        (root / f"annotations/{kind}_{split}.json").write_text(json.dumps(content), "utf-8")


def make(output: Path, train: int, val: int, seed: int, size: tuple[int, int], workers: int) -> bool:
    """Writes the data set to ``output``; returns False if it is already there with these very settings.

    Everything is written to a folder beside it that is renamed at the end, so ``output`` is whole or absent.

    Raises:
        FileExistsError: ``output`` holds something else.
    """
    settings = {"format": FORMAT, "train": train, "val": val, "seed": seed, "size": list(size)}
    marker = output / "shapes.json"
    if marker.is_file() and json.loads(marker.read_text("utf-8")) == settings:
        return False
    if output.exists():
        raise FileExistsError(f"{output} exists and was not made with {settings}: remove it or choose another --output")
    partial_root = output.with_name(output.name + ".partial")
    shutil.rmtree(partial_root, ignore_errors=True)
    with Pool(workers) as pool:
        for split, n in (("train", train), ("val", val)):
            _write_split(partial_root, split, n, seed, size, pool)
    (partial_root / "shapes.json").write_text(json.dumps(settings), "utf-8")
    os.replace(partial_root, output)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_root = Path(os.environ.get("DETECTRON2_DATASETS", Path(__file__).parent))
    parser.add_argument("--output", type=Path, default=default_root / "shapes", help="default: %(default)s")
    parser.add_argument("--train", type=int, default=400, help="number of training scenes (default: 400)")
    parser.add_argument("--val", type=int, default=100, help="number of validation scenes (default: 100)")
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=label_files.usable_cores(), help="processes (default: all cores)"
    )
    args = parser.parse_args()
    if min(args.train, args.val, args.workers) < 1 or min(args.height, args.width) < 32:
        parser.error("--train, --val and --workers must be positive, --height and --width at least 32")
    try:
        made = make(args.output, args.train, args.val, args.seed, (args.height, args.width), args.workers)
    except OSError as error:
        sys.exit(f"error: {error}")
    print(
        f"{args.output}: {args.train} training and {args.val} validation scenes" + ("" if made else " (already there)")
    )


if __name__ == "__main__":
    main()
