"""BPR on real photographs: predictions of a briefly trained model, and coarse Cityscapes masks of all three tasks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import detectron2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from pnm.cityscapes_classes import CITYSCAPES_INSTANCE_CLASSES
from pnm.formats.cityscapes import prediction_lines, read_cityscapes_predictions, write_cityscapes_predictions
from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.masks.crops import crop_array, crop_segments, paste
from pnm.masks.degraded_masks import degrade_partition, draw_low_resolution
from pnm.projects.bpr import build_network
from pnm.scoring.cityscapes_instance_files import instance_annotations

ROOT = Path(__file__).resolve().parents[2]
SHORT = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 3 SOLVER.CHECKPOINT_PERIOD 100 MODEL.BPR.PATCHES_PER_IMAGE 8"
SHORT += " MODEL.SEM_SEG_HEAD.NUM_CLASSES 19"
# The launcher's network has its BatchNorms apart, refine's has them folded: in bfloat16 that moves single pixels.
FLOAT32 = ("MODEL.BPR.PRECISION_TEST", "float32")


def quoted(*values):
    return "'(" + "".join(f'"{value}",' for value in values) + ")'"


def data_sets(names, predictions):
    return " ".join(
        f"DATASETS.{part} {quoted(name)} DATASETS.PREDICTIONS_{part} {quoted(path)}"
        for part, name, path in zip(("TRAIN", "TEST"), names, predictions)
    )


def moved_share(masks, others):
    """Of the pixels of masks: those that are in only one of the two."""
    return sum(np.count_nonzero(a != b) for a, b in zip(masks, others, strict=True)) / sum(a.sum() for a in masks)


def refine(tmp_path, images, predictions, output, *more):
    command = [sys.executable, "tools/refine.py", "--config-file", "configs/quickstart/bpr_instance.yaml"]
    command += ["--images", images, "--predictions", predictions, "--output", output]
    command += ["MODEL.WEIGHTS", tmp_path / "run/model_final.pth", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_mask_rcnn_on_coco(train_net, prepared_data, tmp_path):
    """Trained for a moment, on what it then predicts; training images are those it is tested on, for shortness."""
    environment = {"DETECTRON2_DATASETS": str(prepared_data)}
    coarse = tmp_path / "mask_rcnn"
    size = "INPUT.MIN_SIZE_TRAIN (128,) INPUT.MAX_SIZE_TRAIN 256 INPUT.MIN_SIZE_TEST 128 INPUT.MAX_SIZE_TEST 256"
    settings = f"SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 40 {size} MODEL.ROI_HEADS.NUM_CLASSES 80"
    settings += f" MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0 TEST.DETECTIONS_PER_IMAGE 20 OUTPUT_DIR {coarse}"
    settings += f" DATASETS.TRAIN {quoted('coco_2017_val')} DATASETS.TEST {quoted('coco_2017_val')}"
    done = train_net(settings, **environment)
    assert done.returncode == 0, done.stdout[-3000:]
    results = coarse / "inference/coco_2017_val/coco_instances_results.json"
    before = json.loads(results.read_text())
    assert before
    # So weak a model has no IoU of one half with anything.
    settings = f"{SHORT} MODEL.BPR.MATCH_IOU 0.0 MODEL.BPR.NMS_THRESHOLD_TEST 0.15 {' '.join(FLOAT32)} " + data_sets(
        ("coco_2017_val",) * 2, (results, results)
    )
    done = train_net("--num-gpus", "2", settings, config="bpr_instance", **environment)
    assert done.returncode == 0, done.stdout[-3000:]
    after = json.loads((tmp_path / "run/inference/coco_2017_val/coco_instances_results.json").read_text())
    output = tmp_path / "refined.json"
    more = ("MODEL.BPR.NMS_THRESHOLD_TEST", "0.15", *FLOAT32)
    refine(tmp_path, prepared_data / "coco/val2017", results, output, *more)
    ids, masks = [], []
    for rows in (before, after, json.loads(output.read_text())):
        rows = sorted(rows, key=lambda r: r["image_id"])  # two processes write the images in another order
        ids.append([(r["image_id"], r["category_id"], r["score"]) for r in rows])
        masks.append([coco_mask.decode(r["segmentation"]).astype(bool) for r in rows])
    assert ids[0] == ids[1] == ids[2]
    assert moved_share(masks[0], masks[1]) > 0.01 and moved_share(masks[1], masks[2]) < 1e-4


def coarse_instances(files, folder):
    """Cityscapes results: 28 x 28 renderings of the true instances."""
    rng = np.random.default_rng(0)
    for file in files:
        ids = read_label_png(file)
        image = file.name.replace("_gtFine_instanceIds.png", "_leftImg8bit")
        numbers = [n for n in np.unique(ids).tolist() if n >= 24000]
        masks = [paste(draw_low_resolution(crop_array(ids == n), 2.0, rng), *ids.shape) for n in numbers]
        text = prediction_lines(image, [n // 1000 for n in numbers], [0.5] * len(numbers))
        write_cityscapes_predictions(folder / f"{image}_pred.txt", text, masks)
    return folder


def coarse_labels(files, folder):
    folder.mkdir()
    for file in files:
        labels = read_label_png(file)
        classes = [k for k in np.unique(labels).tolist() if k != 255]
        crops = dict(zip(classes, crop_segments(labels, classes)))
        coarse = degrade_partition(labels, crops, np.random.default_rng(0))
        Image.fromarray(coarse).save(folder / file.name)
    return folder


def label_files(root, split, kind):
    return sorted((root / f"cityscapes/gtFine/{split}").rglob(f"*_{kind}.png"))


def as_coco(root, split, path):
    """The split as a COCO data set: what ``DATASETS.REGISTER`` takes. Its polygons are not in the sample."""
    content = {"images": [], "annotations": []}
    content["categories"] = [{"id": k, "name": name} for k, name in CITYSCAPES_INSTANCE_CLASSES.items()]
    for file in label_files(root, split, "instanceIds"):
        ids = read_label_png(file)
        name = f"aachen/{file.name.replace('_gtFine_instanceIds', '_leftImg8bit')}"
        image = {"id": len(content["images"]) + 1, "file_name": name, "height": ids.shape[0], "width": ids.shape[1]}
        content["images"].append(image)
        for row in instance_annotations(ids):
            row["segmentation"]["counts"] = row["segmentation"]["counts"].decode()
            box = [float(v) for v in coco_mask.toBbox(row["segmentation"])]
            more = {"id": len(content["annotations"]) + 1, "image_id": image["id"], "bbox": box}
            content["annotations"].append({**row, **more, "area": float(coco_mask.area(row["segmentation"]))})
    path.write_text(json.dumps(content))
    images = root / f"cityscapes/leftImg8bit/{split}"
    return {"name": f"city_{split}", "type": "coco", "annotations": str(path), "images": str(images)}


def test_cityscapes_instances(train_net, prepared_data, tmp_path):
    coarse = [coarse_instances(label_files(prepared_data, s, "instanceIds"), tmp_path / s) for s in ("train", "val")]
    entries = [as_coco(prepared_data, split, tmp_path / f"{split}.json") for split in ("train", "val")]
    settings = f'{SHORT} DATASETS.REGISTER "{entries}" MODEL.BPR.PATCH_SIZE 64 MODEL.BPR.INPUT_SIZE 64 '
    settings += f"{' '.join(FLOAT32)} "
    done = train_net(settings + data_sets(("city_train", "city_val"), coarse), config="bpr_instance")
    assert done.returncode == 0, done.stdout[-3000:]
    evaluated = json.loads((tmp_path / "run/inference/city_val/coco_instances_results.json").read_text())
    more = ("MODEL.BPR.PATCH_SIZE", 64, "MODEL.BPR.INPUT_SIZE", 64, *FLOAT32)
    refine(tmp_path, prepared_data / "cityscapes/leftImg8bit/val", coarse[1], tmp_path / "refined", *more)
    texts = sorted(coarse[1].glob("*_pred.txt"))
    assert texts
    for number, text in enumerate(texts, 1):
        assert (tmp_path / "refined" / text.name).read_bytes() == text.read_bytes()
        rows = [row for row in evaluated if row["image_id"] == number]
        refined = read_cityscapes_predictions(tmp_path / "refined" / text.name)
        assert [(p.label_id, p.score) for p in refined] == [(r["category_id"], r["score"]) for r in rows]
        masks = [read_label_png(prediction.mask_path) != 0 for prediction in refined]
        assert moved_share(masks, [coco_mask.decode(row["segmentation"]).astype(bool) for row in rows]) < 1e-4


@pytest.mark.skipif("embedded" not in detectron2.__version__, reason="Detectron2's loader needs an unpublished package")
def test_cityscapes_results_stay_on_disk_and_are_scored(train_net, prepared_data, tmp_path):
    coarse = coarse_instances(label_files(prepared_data, "val", "instanceIds"), tmp_path / "val")
    network = build_network("patch_unet", False)
    torch.save({"model": {f"network.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "random.pth")
    name = "cityscapes_fine_instance_seg_val"
    settings = f"MODEL.WEIGHTS {tmp_path / 'random.pth'} DATASETS.TEST {quoted(name)}"
    done = train_net(
        "--eval-only", f"{settings} DATASETS.PREDICTIONS_TEST {quoted(coarse)}", config="bpr_instance",
        DETECTRON2_DATASETS=str(prepared_data),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "COCO_Boundary_AP" in done.stdout and "COCO_AF" in done.stdout
    folder = tmp_path / "run/inference" / name
    for text in coarse.glob("*_pred.txt"):
        before, after = (read_cityscapes_predictions(place / text.name) for place in (coarse, folder))
        assert [(p.label_id, p.score) for p in after] == [(p.label_id, p.score) for p in before]


def test_cityscapes_semantic(train_net, prepared_data, tmp_path):
    coarse = [coarse_labels(label_files(prepared_data, s, "labelTrainIds"), tmp_path / s) for s in ("train", "val")]
    names = [f"cityscapes_fine_sem_seg_{split}" for split in ("train", "val")]
    settings = f"{SHORT} MODEL.BPR.TASK semantic MODEL.BPR.PATCH_SIZE 64 MODEL.BPR.INPUT_SIZE 64"
    done = train_net(
        f"{settings} {data_sets(names, coarse)} DATASETS.TEST () DATASETS.PREDICTIONS_TEST ()",
        config="bpr_instance", DETECTRON2_DATASETS=str(prepared_data),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    more = ("MODEL.BPR.PATCH_SIZE", 64, "MODEL.BPR.INPUT_SIZE", 64, "MODEL.BPR.TASK", "semantic")
    refine(tmp_path, prepared_data / "cityscapes/leftImg8bit/val", coarse[1], tmp_path / "refined", *more)
    for file in coarse[1].glob("*.png"):
        before, after = read_label_png(file), read_label_png(tmp_path / "refined" / file.name)
        assert before.shape == after.shape and set(np.unique(after)) <= set(np.unique(before))


def test_coco_panoptic(train_net, prepared_data, tmp_path):
    truth = prepared_data / "coco/annotations/panoptic_val2017.json"
    content = json.loads(truth.read_text())
    folder = tmp_path / "coarse"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for annotation in content["annotations"]:
        ids = read_panoptic_png(prepared_data / "coco/panoptic_val2017" / annotation["file_name"])
        segments = [s["id"] for s in annotation["segments_info"]]
        coarse = degrade_partition(ids, dict(zip(segments, crop_segments(ids, segments))), rng)
        annotation["segments_info"] = [s for s in annotation["segments_info"] if (coarse == s["id"]).any()]
        Image.fromarray(ids_to_rgb(coarse)).save(folder / annotation["file_name"])
    predictions = tmp_path / "coarse.json"
    predictions.write_text(json.dumps({"annotations": content["annotations"]}))
    entry = {
        "name": "photos",
        "type": "panoptic",
        "images": str(prepared_data / "coco/panoptic_images"),
        "annotations": str(truth),
        "panoptic": str(prepared_data / "coco/panoptic_val2017"),
    }
    settings = f'{SHORT} MODEL.BPR.TASK panoptic DATASETS.REGISTER "[{entry}]" '
    done = train_net(settings + data_sets(("photos",) * 2, (predictions,) * 2), config="bpr_instance")
    assert done.returncode == 0, done.stdout[-3000:]
    after = json.loads((tmp_path / "run/inference/photos/predictions.json").read_text())["annotations"]
    assert {a["image_id"] for a in after} == {a["image_id"] for a in content["annotations"]}
    assert "Boundary_PQ" in (tmp_path / "run/metrics.json").read_text()
