"""The command that scores result files, on instances and panoptic maps."""

import csv
import json

import numpy as np
import pytest

from pnm.formats.coco_panoptic import ids_to_rgb

from .label_maps import save


@pytest.fixture
def coco(tmp_path):
    """Ground truth of two images and results that find everything."""
    square = [[4, 4, 14, 4, 14, 14, 4, 14]]
    images = [{"id": k, "height": 20, "width": 30, "file_name": f"{k}.jpg"} for k in (1, 2)]
    truth = [{"id": k, "image_id": k, "category_id": 5, "segmentation": square, "iscrowd": 0} for k in (1, 2)]
    gt = {"images": images, "annotations": truth, "categories": [{"id": 5, "name": "dog"}]}
    results = [{"image_id": k, "category_id": 5, "segmentation": square, "score": 0.9} for k in (1, 2)]
    paths = tmp_path / "results.json", tmp_path / "gt.json"

    def write(**changes):
        paths[0].write_text(json.dumps(changes.get("results", results)))
        paths[1].write_text(json.dumps({**gt, **changes.get("gt", {})}))
        return paths

    return write, results


def test_instances(coco, evaluate, tmp_path):
    write, results = coco
    rows = tmp_path / "rows.csv"
    metrics = evaluate("instance", *write(), "--metrics", "segm", "boundary", "af", "bbox")["metrics"]
    assert {metrics[name] for name in ("AP", "AP90", "Boundary-AP", "Box-AP", "AF", "AP-dog")} == {1.0}
    assert metrics["APl"] is None
    assert evaluate("instance", *write(results=[]))["metrics"]["AP"] == 0
    assert evaluate("instance", *write(gt={"annotations": []}))["metrics"]["AP"] is None
    assert evaluate("instance", *write(results=results[:1]), "--per-image", rows)["metrics"]["AR100"] == 0.5
    assert [row["image"] for row in csv.DictReader(rows.open())] == ["2.jpg", "1.jpg"]


@pytest.mark.parametrize(
    "change, told",
    [
        ({"image_id": 7}, "unknown image ids: 7"),
        ({"category_id": 7}, "unknown category ids: 7"),
        ({"segmentation": {"size": [9, 9], "counts": "Q1"}}, "another size"),
        ({"score": float("nan")}, "expected a finite number"),
        ({"segmentation": {"size": [20, 30], "counts": "zz"}}, "entry 0"),
    ],
)
def test_instances_that_do_not_fit(coco, evaluate, change, told):
    write, results = coco
    assert told in evaluate("instance", *write(results=[{**results[0], **change}, results[1]]), fails=True)


def test_ids_that_come_twice(coco, evaluate):
    write, _ = coco
    twice = [{"id": 5, "name": "dog"}, {"id": 5, "name": "cat"}]
    assert "same id 5" in evaluate("instance", *write(gt={"categories": twice}), fails=True)


@pytest.fixture
def panoptic(tmp_path):
    """Two panoptic files of two images, alike."""
    ids = np.zeros((20, 30), np.int64)
    ids[2:12, 3:20], ids[12:] = 300, 7
    segments = [{"id": 300, "category_id": 1}, {"id": 7, "category_id": 2}]
    annotations = [{"image_id": k, "file_name": f"{k}.png", "segments_info": segments} for k in (1, 2)]
    kinds = [{"id": 1, "name": "dog", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
    for name in ("gt", "predictions"):
        for k in (1, 2):
            save(tmp_path / {"gt": "gt", "predictions": "panoptic"}[name] / f"{k}.png", ids_to_rgb(ids))
        (tmp_path / f"{name}.json").write_text(json.dumps({"annotations": annotations, "categories": kinds}))
    return tmp_path / "predictions.json", tmp_path / "gt.json"


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content["annotations"])
    path.write_text(json.dumps(content))


def test_panoptic(panoptic, evaluate):
    metrics = evaluate("panoptic", *panoptic)["metrics"]
    assert set(metrics.values()) == {1.0} and "Boundary-PQ-dog" in metrics
    found = evaluate("panoptic", *panoptic, "--compare", panoptic[0], "--bootstrap", 10, "--metrics", "PQ")
    assert found["comparison"]["PQ"]["difference"] == {"value": 0, "low": 0, "high": 0}
    assert not any(name.startswith("Boundary") for name in found["metrics"])


def test_panoptic_mismatches(panoptic, evaluate):
    change(panoptic[0], lambda entries: entries[1].update(image_id=3))
    told = evaluate("panoptic", *panoptic, fails=True)
    assert "image 2: in the ground truth" in told and "image 3: in " in told
    assert evaluate("panoptic", *panoptic, "--allow-missing")["images"] == 1


def test_panoptic_files_that_do_not_fit(panoptic, evaluate):
    folder = panoptic[0].parent / "panoptic"
    change(panoptic[0], lambda entries: entries[0]["segments_info"][0].update(category_id=9))
    (folder / "2.png").unlink()
    told = evaluate("panoptic", *panoptic, fails=True)
    assert "prediction has categories [9]" in told and "2.png is missing" in told
    save(folder / "2.png", np.zeros((4, 4, 3), np.uint8))
    assert "4 x 4 and 20 x 30" in evaluate("panoptic", *panoptic, fails=True)


def test_panoptic_ids_that_come_twice(panoptic, evaluate):
    change(panoptic[0], lambda entries: entries[0]["segments_info"][1].update(id=300))
    assert "lists segment id 300 twice" in evaluate("panoptic", *panoptic, fails=True)
    change(panoptic[0], lambda entries: entries[1].update(image_id=1))
    assert "twice" in evaluate("panoptic", *panoptic, fails=True)


def test_published_instance_scores(real_data, evaluate):
    folder = real_data / "predictions/coco_val2014_100"
    files = folder / "instances_val2014_fakesegm100_results.json", folder / "instances_val2014_100.json"
    metrics = evaluate("instance", *files, "--metrics", "segm")["metrics"]
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    published = [0.320, 0.562, 0.299, 0.387, 0.310, 0.327, 0.268, 0.415, 0.417, 0.469, 0.377, 0.381]
    assert [round(metrics[name], 3) for name in names] == published


def test_real_panoptic_files_against_themselves(real_data, evaluate):
    path, folder = real_data / "coco/annotations/panoptic_val2017.json", real_data / "coco/panoptic_val2017"
    metrics = evaluate("panoptic", path, path, "--pred-folder", folder, "--gt-folder", folder)["metrics"]
    assert {value for value in metrics.values() if value is not None} == {1.0}


def test_boxes_need_no_masks(tmp_path, evaluate):
    truth = {"images": [{"id": 1, "height": 9, "width": 9}], "categories": [{"id": 1, "name": "a"}]}
    truth["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16}]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    results = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "score": 0.5}]
    (tmp_path / "pred.json").write_text(json.dumps(results))
    result = evaluate("instance", tmp_path / "pred.json", tmp_path / "gt.json", "--metrics", "bbox")
    assert result["metrics"]["Box-AP"] == 1
