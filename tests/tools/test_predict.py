"""The command that predicts pictures: what eval-only writes of the same images, refined, and as annotations."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import object_masks
from pnm.annotations.known_formats import read_annotations
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.predictions import open_predictions

from .conftest import ROOT
from .predict_runs import ALWAYS, CONFIGS, FEW, contents, read_json


def evaluated(kind, weights, shapes_root, folder):
    """The folder of result files that eval-only leaves."""
    command = [sys.executable, "train_net.py", "--config-file", CONFIGS[kind], "--eval-only", "MODEL.WEIGHTS"]
    few = FEW if kind in ("instance", "panoptic") else []
    command += [str(weights(kind)), *ALWAYS, *few, "OUTPUT_DIR", str(folder), "DATALOADER.NUM_WORKERS", "0"]
    environment = os.environ | {"DETECTRON2_DATASETS": str(shapes_root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (folder / "inference").iterdir()
    return results


def test_instances_are_those_of_eval_only(predicted, weights, shapes_root, tmp_path):
    told, out = predicted("instance"), tmp_path / "out"
    assert told.startswith(f"{out / 'coco_instances_results.json'}: 6 images predicted, 0 kept; ")
    rows = read_json(out / "coco_instances_results.json")
    results = evaluated("instance", weights, shapes_root, tmp_path / "evaluated")
    assert rows == read_json(results / "coco_instances_results.json") and len(rows) > 10
    listing, truth = read_json(out / "images.json"), read_json(shapes_root / "shapes/annotations/instances_val.json")
    keys = ("id", "file_name", "height", "width")
    assert listing["images"] == [{key: image[key] for key in keys} for image in truth["images"]]
    assert [(c["id"], c["name"]) for c in listing["categories"]] == [(c["id"], c["name"]) for c in truth["categories"]]
    assert sorted(path.name for path in out.iterdir()) == [
        "coco_instances_results.json", "images.json", "overlays", "run.json"
    ]  # fmt: skip


def test_segments_are_those_of_eval_only(predicted, weights, shapes_root, tmp_path):
    predicted("panoptic", "--no-overlays")
    results = evaluated("panoptic", weights, shapes_root, tmp_path / "evaluated")
    content, other = read_json(tmp_path / "out/predictions.json"), read_json(results / "predictions.json")
    assert content["annotations"] == other["annotations"] and any(a["segments_info"] for a in other["annotations"])
    assert content["categories"] == [{key: c[key] for key in ("id", "name", "isthing")} for c in other["categories"]]
    for annotation in content["annotations"]:
        one, two = (folder / "panoptic" / annotation["file_name"] for folder in (tmp_path / "out", results))
        np.testing.assert_array_equal(read_panoptic_png(one), read_panoptic_png(two))


def test_labels_are_those_of_eval_only(predicted, weights, shapes_root, tmp_path):
    predicted("semantic")
    results = evaluated("semantic", weights, shapes_root, tmp_path / "evaluated")
    other = open_predictions(results / "sem_seg_predictions.json")
    names = sorted(path.name for path in (tmp_path / "out/labels").iterdir())
    for name, key in zip(names, other.keys, strict=True):
        labels, partition = read_label_png(tmp_path / "out/labels" / name), other.read(key)
        table = dict(zip(partition.segments, partition.categories))
        np.testing.assert_array_equal(labels, np.vectorize(table.get)(partition.labels))
    assert len(np.unique(labels)) > 2
    classes = (tmp_path / "out/names.txt").read_text("utf-8").split()
    assert classes == ["blob", "ring", "pole", "urchin", "sky", "rock", "field", "water"]


@pytest.mark.parametrize(
    ("kind", "refiners"),
    [
        ("instance", ["bpr"]),
        ("semantic", ["bpr_semantic"]),
        ("panoptic", ["bpr_panoptic", "prn"]),
        ("panoptic", ["prn"]),
    ],
)
def test_refined_in_the_same_pass(predicted, run_refine, weights, shapes_root, tmp_path, kind, refiners):
    coarse, fine = tmp_path / "coarse", tmp_path / "fine"
    predicted(kind, output=coarse)
    predicted(kind, output=fine, then=refiners)
    is_json = kind != "semantic"
    name = {"instance": "coco_instances_results.json", "semantic": "labels", "panoptic": "predictions.json"}[kind]
    refined = tmp_path / ("refined.json" if is_json else "refined")
    first, *others = [
        ["--config-file", CONFIGS[one], "MODEL.WEIGHTS", weights(one), "MODEL.DEVICE", "cpu"] for one in refiners
    ]
    words = [*first[:2], "--images", shapes_root / "shapes/images/val", "--predictions", coarse / name]
    words += ["--output", refined, *first[2:]]
    for other in others:
        words += ["--then", *other[1:]]
    run_refine(*words)
    if is_json:
        assert read_json(fine / name) == read_json(refined)
        assert read_json(fine / name) != read_json(coarse / name)
    if kind == "panoptic":
        assert contents(fine / "panoptic").keys() == contents(tmp_path / "refined").keys()
        for png in contents(tmp_path / "refined"):
            one, two = (read_panoptic_png(folder / png) for folder in (fine / "panoptic", tmp_path / "refined"))
            np.testing.assert_array_equal(one, two)
    if kind == "semantic":
        for png in contents(refined):
            np.testing.assert_array_equal(read_label_png(fine / name / png), read_label_png(refined / png))


def test_annotations_to_correct(predicted, shapes_root, tmp_path):
    images = shapes_root / "shapes/images/val"
    predicted("instance", "--format", "labelme", "--min-score", "0.1", "--no-overlays")
    source = Source(tmp_path / "out/annotations", images, task="instance")
    annotations = read_annotations(source, "labelme")
    predictions = open_predictions(tmp_path / "out/coco_instances_results.json")
    names = {c["id"]: c["name"] for c in read_json(tmp_path / "out/images.json")["categories"]}
    total = 0
    for image, key in zip(annotations.images, predictions.keys, strict=True):
        objects, prediction = annotations.read(image), predictions.read(key)
        kept = [n for n, score in enumerate(prediction.scores) if score >= 0.1 and prediction.masks[n].pixels.any()]
        wanted = [names[prediction.categories[n]] for n in kept]
        assert [annotations.categories[thing.category].name for thing in objects] == wanted
        for mask, n in zip(object_masks(image, objects), kept, strict=True):
            assert np.count_nonzero(mask.pixels) == np.count_nonzero(prediction.masks[n].pixels)
        total += len(kept)
    assert total
    predicted("panoptic", "--format", "coco", output=tmp_path / "things")
    assert {row["category_id"] for row in read_json(tmp_path / "things/annotations/instances.json")["annotations"]} <= {
        1,
        2,
        3,
        4,
    }


def test_the_command():
    from pnm.programs import program
    from pnm.tools.commands import PROGRAMS

    assert PROGRAMS["predict"][0] == "predict" and program("predict") == ["python", "tools/predict.py"]
