#!/usr/bin/env python3
"""Makes Panoptic FPN's stuff labels from panoptic annotations in COCO's format.

In the written label images 0 is any thing, 1, 2, … are the stuff categories in the order of their ids, and 255 is
ignored (pixels without a segment).

COCO, without options. Read and written below $DETECTRON2_DATASETS/coco:

    annotations/panoptic_{train2017,val2017,val2017_100}.json    read (the last is downloaded where it is missing)
    panoptic_{train2017,val2017}/*.png                           read
    panoptic_stuff_{train2017,val2017}/*.png                     written
    panoptic_val2017_100/, panoptic_stuff_val2017_100/           written: links into the val2017 folders

Any other data in this format, with --panoptic-json, --panoptic-folder and --output; --instances-json also
derives COCO instance annotations (RLE masks) from the thing segments.

Files that are there already are kept, so an interrupted run continues where it stopped.
"""

import argparse
import os
import shutil
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import label_files
import numpy as np
from pycocotools import mask as mask_util

from pnm.formats.atomic_files import write_bytes
from pnm.formats.coco_panoptic import read_annotations, read_categories
from pnm.formats.label_png import read_panoptic_png

_IGNORE = 255
_VAL_100_URL = "https://dl.fbaipublicfiles.com/detectron2/annotations/coco/panoptic_val2017_100.json"


def stuff_labels(categories: list[dict]) -> dict[int, int]:
    """Category id → label: 0 for things, 1, 2, … for stuff by ascending id. ValueError for more than 254 kinds."""
    stuff = sorted(category["id"] for category in categories if not category["isthing"])
    if len(stuff) >= _IGNORE:
        raise ValueError(f"{len(stuff)} stuff categories do not fit into 8-bit label images (at most {_IGNORE - 1})")
    things = {category["id"]: 0 for category in categories if category["isthing"]}
    return things | {category_id: label for label, category_id in enumerate(stuff, 1)}


def convert(annotation: dict, folder: Path, output: Path, labels: dict, things: set | None, force: bool) -> list[dict]:
    """Writes one label image; returns instance annotations of the segments whose category is in ``things``."""
    target = output / annotation["file_name"]
    is_needed = force or not target.exists()
    if not is_needed and things is None:
        return []
    ids = read_panoptic_png(folder / annotation["file_name"])
    segments = annotation["segments_info"]
    unknown = [segment for segment in segments if segment["category_id"] not in labels]
    if unknown:
        raise ValueError(
            f"segment {unknown[0]['id']} of {annotation['file_name']} has category_id {unknown[0]['category_id']}, "
            "which is not in the file's 'categories': add the category, or correct it"
        )
    if is_needed:
        table = np.full(max([int(ids.max()), *(segment["id"] for segment in segments)]) + 1, _IGNORE, dtype=np.uint8)
        for segment in segments:
            table[segment["id"]] = labels[segment["category_id"]]
        label_files.save_png(table[ids], target)
    kept = [segment for segment in segments if segment["category_id"] in (things or ())]
    return [_instance(annotation["image_id"], segment, ids == segment["id"]) for segment in kept]


def _instance(image_id, segment: dict, mask: np.ndarray) -> dict:
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "image_id": image_id,
        "category_id": segment["category_id"],
        "iscrowd": segment.get("iscrowd", 0),
        "area": int(mask_util.area(rle)),
        "bbox": mask_util.toBbox(rle).tolist(),
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")},
    }


def prepare(panoptic_json: Path, folder: Path, output: Path, instances_json: Path | None, args) -> None:
    """Makes the label images, and the instance annotations if asked for, of one annotation file."""
    content, _ = read_annotations(panoptic_json)
    read_categories(content, panoptic_json)
    if "images" not in content:
        raise ValueError(f"{panoptic_json} has no images: it is not a panoptic file in COCO's format")
    labels = stuff_labels(content["categories"])
    wanted = {category_id for category_id, label in labels.items() if label == 0} if instances_json else None
    work = partial(convert, folder=folder, output=output, labels=labels, things=wanted, force=args.force)
    found = label_files.convert_all(work, content["annotations"], args.workers, panoptic_json.name)
    print(f"{len(content['annotations'])} label images are complete in {output}")
    if instances_json:
        instances = [instance for per_image in found for instance in per_image if instance["area"]]
        numbered = [{"id": number, **instance} for number, instance in enumerate(instances, 1)]
        things = [category for category in content["categories"] if category["isthing"]]
        label_files.save_json(
            {"images": content["images"], "annotations": numbered, "categories": things}, instances_json
        )
        print(f"{len(numbered)} instances of {len(things)} categories written to {instances_json}")


def prepare_coco(root: Path, args) -> None:
    """Makes the files of the built-in data sets coco_2017_{train,val,val_100}_panoptic_*."""
    present = [s for s in ("val2017", "train2017") if (root / f"annotations/panoptic_{s}.json").exists()]
    if not present:
        raise FileNotFoundError(
            f"no panoptic_train2017.json or panoptic_val2017.json in {root / 'annotations'}: unpack "
            "panoptic_annotations_trainval2017.zip, and set DETECTRON2_DATASETS to the folder above coco"
        )
    for split in present:
        output = root / f"panoptic_stuff_{split}"
        prepare(root / f"annotations/panoptic_{split}.json", root / f"panoptic_{split}", output, None, args)
    if "val2017" in present:
        link_val_100(root)


def link_val_100(root: Path) -> None:
    """Links the 100 images of Detectron2's small validation set."""
    annotations = root / "annotations/panoptic_val2017_100.json"
    if not annotations.exists():
        try:
            with urllib.request.urlopen(_VAL_100_URL, timeout=30) as response:
                write_bytes(annotations, response.read())
        except (urllib.error.URLError, TimeoutError) as error:
            print(f"val2017_100 is left out: {_VAL_100_URL} cannot be fetched ({error}); put it at {annotations}")
            return
    images = read_annotations(annotations)[0]["images"]
    names = [Path(image["file_name"]).with_suffix(".png").name for image in images]
    for kind in ("panoptic", "panoptic_stuff"):
        folder = root / f"{kind}_val2017_100"
        folder.mkdir(exist_ok=True)
        for name in names:
            if not os.path.lexists(folder / name):
                _link(folder / name, Path("..") / f"{kind}_val2017" / name)
    print(f"{len(names)} images of val2017_100 are linked in {root}")


def _link(path: Path, target: Path) -> None:
    """A link, or a copy where the system has no links for everybody, as Windows."""
    try:
        path.symlink_to(target)
    except (OSError, NotImplementedError):
        shutil.copyfile(path.parent / target, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = parser.add_argument_group("data other than COCO")
    own.add_argument("--panoptic-json", type=Path, metavar="FILE", help="panoptic annotations")
    own.add_argument("--panoptic-folder", type=Path, metavar="DIR", help="their PNGs")
    own.add_argument("--output", type=Path, metavar="DIR", help="where to write the label images")
    own.add_argument("--instances-json", type=Path, metavar="FILE", help="also write instance annotations here")
    label_files.add_work_options(parser)
    args = parser.parse_args()
    paths = (args.panoptic_json, args.panoptic_folder, args.output)
    if all(paths):
        prepare(*paths, args.instances_json, args)
    elif any(paths) or args.instances_json:
        parser.error("--panoptic-json, --panoptic-folder and --output go together (without them: COCO)")
    else:
        prepare_coco(label_files.datasets_root() / "coco", args)


if __name__ == "__main__":
    label_files.run(main)
