"""Scores of annotations in other formats, of other sizes and class names, equal those of the plain files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.annotations.formats.coco import coco_json
from pnm.annotations.known_formats import FORMATS
from pnm.annotations.other_tasks import as_task

sys.path.insert(0, str(Path(__file__).parents[1] / "pnm/annotations/formats"))
from painted_scenes import HEIGHT, WIDTH, instance_set, semantic_set

IMAGES = ("street/a.png", "b.png", "c.png")
CLASSES = ("cat", "dog")


@pytest.fixture
def files(tmp_path):
    """COCO ground truth, results that miss some of it, images."""
    scene = instance_set(CLASSES, overlaps=False, images=IMAGES)
    (tmp_path / "truth.json").write_text(coco_json(scene))
    content = json.loads((tmp_path / "truth.json").read_text())
    results = [
        {
            "image_id": row["image_id"],
            "category_id": row["category_id"],
            "score": 1.0,
            "segmentation": row["segmentation"],
        }
        for row in content["annotations"][1:]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    for name in IMAGES:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "images" / name)
    return tmp_path


def write(name, folder, split="", **more):
    scene = instance_set(CLASSES, overlaps=False, images=IMAGES)
    scene = scene.__class__(**{**scene.__dict__, "folder": folder.parent / "images", **more})
    folder.mkdir()
    FORMATS[name].write({split: scene}, folder)
    return folder if FORMATS[name].is_folder else next(p for p in folder.iterdir() if "config" not in p.name)


@pytest.mark.parametrize("name", ["labelme", "cvat", "label-studio", "voc", "lvis"])
def test_a_ground_truth_of_any_format(name, files, evaluate):
    plain = evaluate("instance", files / "results.json", files / "truth.json")["metrics"]
    truth = write(name, files / "own")
    images = ("--images", files / "images")
    if name not in ("lvis", "label-studio"):
        told = evaluate("instance", files / "results.json", truth, *images, "--image-info", files / "truth.json")
        assert told["metrics"] == plain
    if name == "lvis":  # whose ids are kept
        assert evaluate("instance", files / "results.json", truth, *images)["metrics"] == plain
    own = evaluate("instance", truth, truth, *images)["metrics"]
    assert own["AP"] == 1 and plain["AP"] < 1


@pytest.mark.parametrize("name", ["labelme", "cvat", "label-studio", "voc"])
def test_annotations_as_predictions(name, files, evaluate):
    scene = instance_set(CLASSES, overlaps=False, images=IMAGES)
    few = write(name, files / "own", read=lambda image: scene.read(image)[1:] if image.id == 1 else scene.read(image))
    plain = evaluate("instance", files / "results.json", files / "truth.json")["metrics"]
    told = evaluate("instance", few, files / "truth.json", "--images", files / "images")
    assert told["metrics"] == plain and told["mismatches"] == []


def test_coco_annotations_as_predictions(files, evaluate):
    assert evaluate("instance", files / "truth.json", files / "truth.json")["metrics"]["AP"] == 1


def test_another_order_of_classes(files, evaluate, tmp_path):
    scene = semantic_set(("sky", "road", "car"), images=IMAGES)
    FORMATS["label-pngs"].write({"": scene}, _made(tmp_path / "truth"))
    for image in scene.images:
        path = (tmp_path / "pred" / image.name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = scene.read(image)
        Image.fromarray(np.where(labels < 0, 255, (labels + 1) % 3).astype(np.uint8)).save(path)
    (tmp_path / "names.csv").write_text("car,car\nsky,sky\nroad,road\n", encoding="utf-8")
    classes = ("--classes", tmp_path / "truth/names.txt")
    assert evaluate("semantic", tmp_path / "pred", tmp_path / "truth", *classes)["metrics"]["mIoU"] == 0
    mapped = evaluate("semantic", tmp_path / "pred", tmp_path / "truth", *classes, "--map", tmp_path / "names.csv")
    assert mapped["metrics"]["mIoU"] == 1


def test_another_size(files, evaluate, tmp_path):
    scene = semantic_set(("sky", "road"), images=IMAGES)
    FORMATS["label-pngs"].write({"": scene}, _made(tmp_path / "truth"))
    for image in scene.images:
        path = (tmp_path / "pred" / image.name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = scene.read(image).repeat(3, axis=0).repeat(3, axis=1)
        Image.fromarray(np.where(labels < 0, 255, labels).astype(np.uint8)).save(path)
    arguments = ("semantic", tmp_path / "pred", tmp_path / "truth", "--classes", tmp_path / "truth/names.txt")
    assert "prediction and ground truth are 60 x 72 and 20 x 24, expected one size" in evaluate(*arguments, fails=True)
    assert evaluate(*arguments, "--resize")["metrics"]["mIoU"] == 1


def test_results_of_another_size(files, evaluate, tmp_path):
    from pycocotools import mask as coco_mask

    rows = json.loads((files / "results.json").read_text())
    for row in rows:
        large = coco_mask.decode(row["segmentation"]).repeat(2, axis=0).repeat(2, axis=1)
        row["segmentation"] = coco_mask.encode(np.asfortranarray(large))
        row["segmentation"]["counts"] = row["segmentation"]["counts"].decode()
    (tmp_path / "large.json").write_text(json.dumps(rows))
    assert "masks of another size than the image" in evaluate(
        "instance", tmp_path / "large.json", files / "truth.json", fails=True
    )
    plain = evaluate("instance", files / "results.json", files / "truth.json")["metrics"]
    assert evaluate("instance", tmp_path / "large.json", files / "truth.json", "--resize")["metrics"] == plain


def test_predicted_classes_that_are_not_the_truths(files, evaluate):
    from pnm.annotations.annotation_set import Category

    own = write("labelme", files / "own", categories=(Category("kitten"), Category("dog")))
    arguments = ("instance", own, files / "truth.json", "--images", files / "images")
    assert "predicted class kitten isn't in the ground truth, whose classes are cat, dog" in evaluate(
        *arguments, fails=True
    )
    (files / "names.csv").write_text("kitten,cat\ndog,dog\n", encoding="utf-8")
    assert evaluate(*arguments, "--map", files / "names.csv")["metrics"]["AP"] == 1


def test_a_format_that_does_not_exist(files, evaluate):
    told = evaluate("instance", files / "results.json", files / "truth.json", "--gt-from", "vocc", fails=True)
    assert "there is no format 'vocc'; did you mean voc?" in told


def test_panoptic_annotations_of_another_format(files, evaluate, tmp_path):
    scene = as_task(instance_set(CLASSES, overlaps=False, images=("a.png", "b.png")), "panoptic", "ground")
    for name in ("coco-panoptic", "mapillary"):
        FORMATS[name].write({"train" if name == "mapillary" else "": scene}, _made(tmp_path / name))
    plain = evaluate("panoptic", tmp_path / "coco-panoptic/panoptic.json", tmp_path / "coco-panoptic/panoptic.json")
    other = evaluate("panoptic", tmp_path / "mapillary", tmp_path / "coco-panoptic/panoptic.json")
    assert plain["metrics"]["PQ"] == 1 and other["metrics"] == plain["metrics"]


def _made(folder):
    folder.mkdir()
    return folder


def test_numbers_in_results_need_names(files, evaluate):
    """labelme's images and classes have names alone; COCO results have numbers."""
    truth = write("labelme", files / "own")
    arguments = ("instance", files / "results.json", truth, "--images", files / "images")
    told = evaluate(*arguments, fails=True)
    assert "results.json has numbers of images and classes" in told and "say which is which by --image-info" in told
    (files / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    told = evaluate(*arguments, "--classes", files / "names.txt", fails=True)
    assert "has numbers of images, " in told and "--image-info" in told
    own = evaluate(*arguments, "--image-info", files / "truth.json")["metrics"]
    assert own == evaluate("instance", files / "results.json", files / "truth.json")["metrics"] and own["AP"] < 1


def test_image_info_of_another_data_set(files, evaluate):
    truth = write("labelme", files / "own")
    content = json.loads((files / "truth.json").read_text())
    arguments = ("instance", files / "results.json", truth, "--images", files / "images", "--image-info")
    for key, name, message in (("images", "file_name", "list image"), ("categories", "name", "list class")):
        rows = [{**row, name: f"other{n}.x"} for n, row in enumerate(content[key])]
        (files / "info.json").write_text(json.dumps(content | {key: rows}))
        assert f"info.json doesn't {message}" in evaluate(*arguments, files / "info.json", fails=True)
    (files / "info.json").write_text("[]")
    assert "info.json has no list of images" in evaluate(*arguments, files / "info.json", fails=True)
