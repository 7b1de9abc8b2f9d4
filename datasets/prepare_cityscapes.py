#!/usr/bin/env python3
"""Makes the label files of Cityscapes that are not in its download, as cityscapesscripts makes them.

    cityscapes/
      gtFine/{train,val,test}/<city>/*_gtFine_{labelIds,instanceIds}.png    read
      gtFine/{train,val,test}/<city>/*_gtFine_labelTrainIds.png             written: 19 classes, 255 = ignore
      gtFine/cityscapes_panoptic_{train,val,test}/*_gtFine_panoptic.png     written: id = R + 256 G + 65536 B
      gtFine/cityscapes_panoptic_{train,val,test}.json                      written

The label images serve cityscapes_fine_sem_seg_*, both together cityscapes_fine_panoptic_*. Splits that are not
there are skipped. Image files that are there already are kept, so an interrupted run continues where it stopped.
"""

import argparse
from functools import partial
from pathlib import Path

import label_files
import numpy as np

from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.formats.label_png import read_label_png

SPLITS = ("train", "val", "test")
_IGNORE = 255
# The 19 evaluated classes in the order of their train ids: id, colour, supercategory, name; things come last.
_TABLE = """
7 804080 flat road
8 f423e8 flat sidewalk
11 464646 construction building
12 66669c construction wall
13 be9999 construction fence
17 999999 object pole
19 faaa1e object traffic light
20 dcdc00 object traffic sign
21 6b8e23 nature vegetation
22 98fb98 nature terrain
23 4682b4 sky sky
24 dc143c human person
25 ff0000 human rider
26 00008e vehicle car
27 000046 vehicle truck
28 003c64 vehicle bus
31 005064 vehicle train
32 0000e6 vehicle motorcycle
33 770b20 vehicle bicycle
"""
_FIRST_THING = 24


def read_categories() -> list[dict]:
    """The evaluated classes as the panoptic JSON lists them: id, name, color, supercategory, isthing."""
    rows = [row.split(" ", 3) for row in _TABLE.strip().split("\n")]
    return [
        {
            "id": int(number),
            "name": name,
            "color": list(bytes.fromhex(color)),
            "supercategory": group,
            "isthing": int(int(number) >= _FIRST_THING),
        }
        for number, color, group, name in rows
    ]


def write_train_ids(names: tuple[Path, Path], categories: list[dict]) -> None:
    """Reads a labelIds image, writes the labelTrainIds image."""
    source, target = names
    table = np.full(256, _IGNORE, dtype=np.uint8)
    for train_id, category in enumerate(categories):
        table[category["id"]] = train_id
    labels = read_label_png(source)
    if labels.dtype != np.uint8:
        raise ValueError(f"{source} has {labels.dtype} pixels, expected 8 bits")
    label_files.save_png(table[labels], target)


def write_panoptic(names: tuple[Path, Path], categories: list[dict], force: bool) -> tuple[dict, dict]:
    """Reads an instanceIds image, writes the panoptic one; returns its image and annotation entries."""
    source, target = names
    ids = read_label_png(source).astype(np.int64)
    is_thing = {category["id"]: category["isthing"] for category in categories}
    table, segments = np.zeros(ids.max() + 1, dtype=np.int64), []
    for segment_id, area in enumerate(np.bincount(ids.ravel()).tolist()):
        category = segment_id if segment_id < 1000 else segment_id // 1000
        if not area or category not in is_thing:
            continue
        table[segment_id] = segment_id
        is_group = segment_id < 1000 and is_thing[category]
        box = _bounding_box(ids == segment_id)
        segments.append(dict(id=segment_id, category_id=category, area=area, bbox=box, iscrowd=int(is_group)))
    if force or not target.exists():
        label_files.save_png(ids_to_rgb(table[ids]), target)
    name = source.name.removesuffix("_gtFine_instanceIds.png")
    size = {"width": ids.shape[1], "height": ids.shape[0]}
    image = {"id": name, **size, "file_name": f"{name}_gtFine_leftImg8bit.png"}
    return image, {"image_id": name, "file_name": target.name, "segments_info": segments}


def _bounding_box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height]"""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]


def prepare_split(ground_truth: Path, output: Path, split: str, categories: list[dict], args) -> bool:
    """Makes all files of one split; False if it is not there."""
    labels = sorted(ground_truth.glob(f"{split}/*/*_gtFine_labelIds.png"))
    instances = sorted(ground_truth.glob(f"{split}/*/*_gtFine_instanceIds.png"))
    if not labels and not instances:
        return False

    targets = [output / source.relative_to(ground_truth) for source in labels]
    targets = [target.with_name(target.name.replace("labelIds", "labelTrainIds")) for target in targets]
    jobs = [job for job in zip(labels, targets, strict=True) if args.force or not job[1].exists()]
    label_files.convert_all(partial(write_train_ids, categories=categories), jobs, args.workers, f"{split} labels")

    name = f"cityscapes_panoptic_{split}"
    targets = [output / name / source.name.replace("instanceIds", "panoptic") for source in instances]
    # Without its JSON a split is unfinished, and the entries of images that are there must be computed again.
    if args.force or not (output / f"{name}.json").exists() or not all(target.exists() for target in targets):
        convert = partial(write_panoptic, categories=categories, force=args.force)
        entries = label_files.convert_all(
            convert, zip(instances, targets, strict=True), args.workers, f"{split} panoptic"
        )
        images, annotations = map(list, zip(*entries, strict=True)) if entries else ([], [])
        content = {"images": images, "annotations": annotations, "categories": categories}
        label_files.save_json(content, output / f"{name}.json", sort_keys=True, indent=4)
    print(f"{split}: {len(labels)} label and {len(instances)} panoptic images are complete in {output}")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root",
        type=Path,
        default=label_files.datasets_root() / "cityscapes",
        metavar="DIR",
        help="the data set's folder (default: $DETECTRON2_DATASETS/cityscapes, now %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write (default: gtFine in --root)")
    parser.add_argument(
        "--splits", nargs="+", choices=SPLITS, default=SPLITS, metavar="NAME", help="of train, val, test (default: all)"
    )
    label_files.add_work_options(parser)
    args = parser.parse_args()
    ground_truth = args.root / "gtFine"
    categories, output = read_categories(), args.output or ground_truth
    if not any([prepare_split(ground_truth, output, split, categories, args) for split in args.splits]):
        raise FileNotFoundError(
            f"no *_gtFine_labelIds.png below {ground_truth}: unpack gtFine_trainvaltest.zip, and pass the folder that "
            "holds gtFine as --root or set DETECTRON2_DATASETS to the folder above it"
        )


if __name__ == "__main__":
    label_files.run(main)
