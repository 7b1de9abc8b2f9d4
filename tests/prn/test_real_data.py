"""PRN on real photographs: COCO's panoptic images and Cityscapes frames, in one process and in two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.formats.semantic_maps import label_files, train_ids
from pnm.panoptic_grouping.encoding import instance_fields
from pnm.panoptic_grouping.grouping import GroupingSettings, group_pixels
from pnm.panoptic_grouping.panoptic_map import numbered
from pnm.predictions import open_predictions

ROOT = Path(__file__).resolve().parents[2]
SHORT = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 3 SOLVER.CHECKPOINT_PERIOD 100 MODEL.DEVICE cpu MODEL.PRN.NORM BN"
SMALL = "MODEL.PRN.PRETRAINED False MODEL.PRN.ENCODER resnet10 MODEL.PRN.ENCODER_WIDTH 8 MODEL.PRN.INPUT_WIDTH 8"
SMALL += " MODEL.PRN.DECODER_WIDTH 8 MODEL.PRN.HEAD_WIDTH 8"


def quoted(*values):
    return "'(" + "".join(f'"{value}",' for value in values) + ")'"


def moved(truth_json, folder, output, numbers_from):
    """A prediction: the truth, moved by some pixels, its segments numbered from 0 (as DETR does) or otherwise."""
    content = json.loads(Path(truth_json).read_text())
    output.mkdir()
    for annotation in content["annotations"]:
        ids = np.roll(read_panoptic_png(Path(folder) / annotation["file_name"]), (4, -6), (0, 1))
        rows = [s for s in annotation["segments_info"] if (ids == s["id"]).any()]
        labels = numbered(ids, [s["id"] for s in rows])
        if numbers_from == 0:  # which has no void
            labels = np.where(labels == 0, 1, labels)
        annotation["segments_info"] = [
            {"id": number, "category_id": s["category_id"]} for number, s in enumerate(rows, numbers_from)
        ]
        Image.fromarray(ids_to_rgb(np.where(labels > 0, labels - 1 + numbers_from, 0))).save(
            output / annotation["file_name"]
        )
    path = output.with_suffix(".json")
    path.write_text(json.dumps({"annotations": content["annotations"]}))
    return path


def cityscapes_panoptic(root, split, output):
    """Cityscapes' instance ids as COCO panoptic files; what isn't evaluated is void. A ``DATASETS.REGISTER`` entry."""
    from pnm.cityscapes_classes import CITYSCAPES_CLASSES, CITYSCAPES_INSTANCE_CLASSES

    folder, annotations, images = output / f"{split}_panoptic", [], []
    folder.mkdir(parents=True)
    categories = {k: (name, name in CITYSCAPES_INSTANCE_CLASSES.values()) for k, name in CITYSCAPES_CLASSES.items()}
    for number, (name, file) in enumerate(label_files(root / f"gtFine/{split}", label_ids=True).items(), 1):
        classes = train_ids(file, read_label_png(file), truth=True)
        instances = read_label_png(str(file).replace("labelIds", "instanceIds")).astype(np.int64)
        places = np.array([*categories], np.int64)
        ids = np.where(instances >= 1000, instances, places[np.minimum(classes, len(places) - 1)] + 1)
        ids[classes == 255] = 0
        rows = []
        for id_ in np.unique(ids[ids > 0]).tolist():
            k = int(classes[ids == id_][0])
            rows.append({"id": id_, "category_id": list(categories)[k], "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]})
        city = name.partition("_")[0]
        image = f"{city}/{name}_leftImg8bit.png"
        Image.fromarray(ids_to_rgb(ids)).save(folder / f"{name}.png")
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": rows})
        images.append({"id": number, "file_name": image, "height": ids.shape[0], "width": ids.shape[1]})
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": k, "name": n, "isthing": int(t)} for k, (n, t) in categories.items()]
    path = output / f"{split}_panoptic.json"
    path.write_text(json.dumps(content))
    prepare = [sys.executable, "datasets/prepare_panoptic_fpn.py", "--panoptic-json", path, "--panoptic-folder", folder]
    prepare += ["--output", f"{folder}_stuff", "--instances-json", f"{str(path)[:-5]}_instances.json"]
    done = subprocess.run([*map(str, prepare)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    images_folder = str(root / f"leftImg8bit/{split}")
    entry = {"name": f"city_{split}", "type": "panoptic", "images": images_folder}
    return {**entry, "annotations": str(path), "panoptic": str(folder)}


def refine(tmp_path, images, predictions, output, config, *more):
    command = [sys.executable, "tools/refine.py", "--config-file", config, "--images", images]
    command += ["--predictions", predictions, "--output", output, "MODEL.WEIGHTS", tmp_path / "run/model_final.pth"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, [*command, *more])], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_targets_as_outputs_give_coco_s_instances_back(real_data):
    """All but two whose rounded centres touch, which are one centre: that can't be."""
    content = json.loads((real_data / "coco/annotations/panoptic_val2017.json").read_text())
    things, total = {c["id"] for c in content["categories"] if c["isthing"]}, 0
    for annotation in content["annotations"]:
        ids = read_panoptic_png(real_data / "coco/panoptic_val2017" / annotation["file_name"])
        instances = [s["id"] for s in annotation["segments_info"] if s["category_id"] in things and not s["iscrowd"]]
        numbers, total = numbered(ids, instances), total + len(instances)
        fields = instance_fields(numbers, len(instances), 8.0)
        labels = group_pixels(fields, numbers > 0, GroupingSettings(duplicate_iou=1.0)).labels
        pairs = set(zip(numbers.ravel().tolist(), labels.ravel().tolist()))
        assert len(pairs) == len(instances) + 1
    assert total == 34


@pytest.mark.parametrize("numbers_from", [0, 1, 7001])
def test_coco(train_net, prepared_data, tmp_path, numbers_from):
    """Numbered as DETR, Panoptic FPN or Panoptic-DeepLab do; trained, evaluated, and refined as in evaluation."""
    truth, folder = prepared_data / "coco/annotations/panoptic_val2017.json", prepared_data / "coco/panoptic_val2017"
    predictions = moved(truth, folder, tmp_path / "coarse", numbers_from)
    images = prepared_data / "coco/panoptic_images"
    paths = {"images": str(images), "annotations": str(truth), "panoptic": str(folder)}
    entry = {"name": "photos", "type": "panoptic", **paths}
    size = "INPUT.MIN_SIZE_TRAIN (128,) INPUT.MAX_SIZE_TRAIN 256 INPUT.MIN_SIZE_TEST 128 INPUT.MAX_SIZE_TEST 256"
    settings = f'{SHORT} {SMALL} {size} DATASETS.REGISTER "[{entry}]" DATASETS.TRAIN {quoted("photos")} '
    settings += f"DATASETS.TEST {quoted('photos')} DATASETS.PREDICTIONS_TRAIN {quoted(predictions)} "
    config = "configs/COCO-PanopticSegmentation/prn_R_50.yaml"
    processes = "2" if numbers_from == 1 and (os.cpu_count() or 1) > 1 else "1"
    done = train_net(
        "--num-gpus", processes, f"{settings} DATASETS.PREDICTIONS_TEST {quoted(predictions)}", config=config
    )
    assert done.returncode == 0, done.stdout[-3000:]
    more = (*SMALL.split(), "MODEL.DEVICE", "cpu", *size.split()[4:])
    refine(tmp_path, images, predictions, tmp_path / "refined.json", config, *more)
    refined = open_predictions(tmp_path / "refined.json")
    evaluated = open_predictions(tmp_path / "run/inference/photos/predictions.json")
    for key in refined.keys:
        one, other = refined.read(key), evaluated.read(key)
        pairs = set(zip(one.labels.ravel().tolist(), other.labels.ravel().tolist()))
        assert len(pairs) == len(one.segments) == len(other.segments) and (one.labels > 0).all()


@pytest.mark.parametrize("config", ["prn_R_50", "prn_R_50_full_size"])
def test_cityscapes(train_net, prepared_data, tmp_path, config):
    """Frames of 1024 x 2048: at 400 x 800, and at full size in crops and whole."""
    root = prepared_data / "cityscapes"
    entries = [cityscapes_panoptic(root, split, tmp_path / "data") for split in ("train", "val")]
    files = [moved(e["annotations"], e["panoptic"], tmp_path / e["name"], 1) for e in entries]
    names = [f"DATASETS.{part} {quoted(entry['name'])}" for part, entry in zip(("TRAIN", "TEST"), entries)]
    named = [f"DATASETS.PREDICTIONS_{part} {quoted(file)}" for part, file in zip(("TRAIN", "TEST"), files)]
    crop = " INPUT.CROP.SIZE (128,256)" if config.endswith("size") else " INPUT.MIN_SIZE_TRAIN (128,)"
    settings = f'{SHORT} {SMALL} DATASETS.REGISTER "{entries}" {" ".join(names + named)}{crop}'
    done = train_net(settings, config=f"configs/Cityscapes-PanopticSegmentation/{config}.yaml")
    assert done.returncode == 0, done.stdout[-3000:]
    after = open_predictions(tmp_path / "run/inference/city_val/predictions.json")
    for key in after.keys:
        refined = after.read(key)
        assert refined.size == (1024, 2048) and (refined.labels > 0).all()
