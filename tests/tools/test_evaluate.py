"""The command that scores result files: known scores, every mismatch listed, and hostile files told in one line."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.errors import UserError
from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.formats.semantic_maps import CITYSCAPES_CLASSES, image_name
from pnm.metrics.metric_values import MetricValues
from pnm.scoring.compare import compare, interval, resampled


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path)


@pytest.fixture
def maps(tmp_path):
    """Folders ``gt`` and ``pred`` of four images; the prediction is right but for image k's first k * 4 pixels."""
    rng = np.random.default_rng(0)
    for k in range(4):
        truth = rng.integers(0, 3, (24, 32)).astype(np.uint8)
        pred = truth.copy()
        pred.reshape(-1)[: 4 * k] = (pred.reshape(-1)[: 4 * k] + 1) % 3
        save(tmp_path / f"gt/city/{k}.png", truth)
        save(tmp_path / f"pred/{k}_pred.png", pred)
    return tmp_path / "pred", tmp_path / "gt"


SEMANTIC = ("--classes", 3)


def test_a_perfect_semantic_prediction_scores_one(maps, evaluate):
    result = evaluate("semantic", maps[1], maps[1], *SEMANTIC)
    assert result["images"] == 4 and result["mismatches"] == [] and result["settings"]["boundary_ratio"] == 0.02
    assert set(result["metrics"].values()) == {1.0} and "Boundary-F-1px-2" in result["metrics"]


def test_starts_without_torch():
    """Importing it takes longer than scoring hundreds of images."""
    code = "import sys; sys.path.insert(0, 'tools'); import evaluate; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_classes_without_truth_and_ignored_pixels_are_told(tmp_path, evaluate):
    """Labels 0 and 255 for two classes, as many programs draw them: what is found is not looked at."""
    labels = np.zeros((10, 10), np.uint8)
    labels[:4] = 255
    save(tmp_path / "gt/a.png", labels)
    save(tmp_path / "pred/a.png", np.zeros((10, 10), np.uint8))
    result = evaluate("semantic", tmp_path / "pred", tmp_path / "gt", "--classes", 2)
    remarks = ["1 of 2 classes never occur in the ground truth: 1", "the ground truth ignores 40.0 % of the pixels"]
    assert result["remarks"] == remarks
    labels[4:] = 1
    save(tmp_path / "gt/a.png", labels // 255)
    assert evaluate("semantic", tmp_path / "pred", tmp_path / "gt", "--classes", 2)["remarks"] == []


def test_semantic_scores_are_those_of_a_loop(maps, evaluate, tmp_path):
    result = evaluate("semantic", *maps, *SEMANTIC, "--metrics", "IoU", "--per-image", tmp_path / "rows.csv")
    pairs = [[np.array(Image.open(folder)) for folder in sorted(root.rglob("*.png"))] for root in maps]
    pred, truth = [np.stack(side) for side in pairs]
    iou = [((pred == c) & (truth == c)).sum() / ((pred == c) | (truth == c)).sum() for c in range(3)]
    assert result["metrics"]["mIoU"] == pytest.approx(np.mean(iou), abs=1e-12)
    assert result["metrics"]["pACC"] == pytest.approx((pred == truth).mean(), abs=1e-12)
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [row["image"] for row in rows] == ["3", "2", "1", "0"]
    assert float(rows[0]["pACC"]) == pytest.approx((pred[3] == truth[3]).mean(), abs=1e-6)


def test_detectron2_masks_score_like_their_label_maps(maps, evaluate, tmp_path):
    mask_tools = pytest.importorskip("pycocotools.mask")
    entries = []
    for file in sorted(maps[0].glob("*.png")):
        for c in range(3):
            rle = mask_tools.encode(np.asfortranarray(np.array(Image.open(file)) == c).astype(np.uint8))
            rle = {"size": list(map(int, rle["size"])), "counts": rle["counts"].decode()}
            entries.append({"file_name": f"x/{file.name[0]}.jpg", "category_id": 10 * c + 7, "segmentation": rle})
    path = tmp_path / "sem_seg_predictions.json"
    path.write_text(json.dumps(entries))
    ids = ("--category-ids", 7, 17, 27)
    assert (
        evaluate("semantic", path, maps[1], *SEMANTIC, *ids)["metrics"]
        == (evaluate("semantic", *maps, *SEMANTIC)["metrics"])
    )
    (tmp_path / "metrics.json").unlink()
    assert "categories [7, 17, 27]" in evaluate("semantic", path, maps[1], *SEMANTIC, fails=True)
    entries[0]["segmentation"]["counts"] = "\x7f0"
    path.write_text(json.dumps(entries))
    assert "entry 0" in evaluate("semantic", path, maps[1], *SEMANTIC, *ids, fails=True)
    entries[0] = entries[1]
    path.write_text(json.dumps(entries))
    assert "overlap" in evaluate("semantic", path, maps[1], *SEMANTIC, *ids, fails=True)


def test_cityscapes_label_ids_are_mapped(evaluate, tmp_path):
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    known = [label for label in labels if 0 <= label.trainId < 255]
    assert {label.id: label.name for label in sorted(known, key=lambda label: label.trainId)} == CITYSCAPES_CLASSES
    ids = np.arange(34, dtype=np.uint8).repeat(32).reshape(34, 32)
    save(tmp_path / "gt/a/a_000_gtFine_labelIds.png", ids)
    save(tmp_path / "gt/a/a_000_gtFine_instanceIds.png", ids)
    save(tmp_path / "pred/a_000_leftImg8bit_pred.png", ids)
    result = evaluate("semantic", tmp_path / "pred", tmp_path / "gt", "--cityscapes", "--metrics", "IoU")
    assert result["metrics"]["mIoU"] == 1 and result["metrics"]["IoU-bicycle"] == 1
    assert result["settings"]["boundary_ratio"] == 0.005


def test_semantic_mismatches_are_listed(maps, evaluate, capsys):
    (maps[0] / "0_pred.png").unlink()
    save(maps[0] / "9.png", np.zeros((24, 32), np.uint8))
    save(maps[0] / "1_pred.png", np.zeros((5, 6), np.uint8))
    told = evaluate("semantic", *maps, *SEMANTIC, fails=True)
    for part in ("image 0: in the ground truth", "image 9: in ", "5 x 6 and 24 x 32", "3 mismatch(es)"):
        assert part in told
    result = evaluate("semantic", *maps, *SEMANTIC, "--allow-missing")
    assert result["images"] == 2 and len(result["mismatches"]) == 3


def test_no_image_in_common(maps, evaluate, tmp_path):
    save(tmp_path / "other/x.png", np.zeros((24, 32), np.uint8))
    assert "nothing to score" in evaluate(
        "semantic", tmp_path / "other", maps[1], *SEMANTIC, "--allow-missing", fails=True
    )
    assert "not a folder" in evaluate("semantic", tmp_path / "nowhere", maps[1], *SEMANTIC, fails=True)
    (tmp_path / "empty").mkdir()
    assert "no label PNG" in evaluate("semantic", tmp_path / "empty", maps[1], *SEMANTIC, fails=True)
    assert "--classes is missing" in evaluate("semantic", *maps, fails=True)


def test_damaged_and_colour_pngs_are_all_listed(maps, evaluate):
    whole = (maps[0] / "1_pred.png").read_bytes()
    (maps[0] / "1_pred.png").write_bytes(whole[: len(whole) // 2])
    save(maps[0] / "2_pred.png", np.zeros((24, 32, 4), np.uint8))
    told = evaluate("semantic", *maps, *SEMANTIC, "--allow-missing", fails=True)
    assert "1_pred.png is truncated" in told and "2_pred.png is a colour image" in told and "2 images could" in told


def test_16_bit_and_palette_pngs_are_read_as_labels(maps, evaluate):
    before = evaluate("semantic", *maps, *SEMANTIC)["metrics"]
    pixels = np.array(Image.open(maps[0] / "1_pred.png"))
    save(maps[0] / "1_pred.png", pixels.astype(np.uint16))
    image = Image.fromarray(np.array(Image.open(maps[0] / "2_pred.png")), "P")
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(maps[0] / "2_pred.png")
    assert evaluate("semantic", *maps, *SEMANTIC)["metrics"] == before


def test_a_label_that_is_no_class(maps, evaluate):
    told = evaluate("semantic", *maps, "--classes", 2, fails=True)
    assert "has label 2, expected 0 to 1" in told and "4 images could not be scored" in told


def test_a_prediction_compared_with_itself_differs_by_nothing(maps, evaluate):
    more = ("--compare", maps[0], "--bootstrap", 60)
    found = evaluate("semantic", *maps, *SEMANTIC, *more)["comparison"]
    assert found["mIoU"]["difference"] == {"value": 0, "low": 0, "high": 0}
    assert found["mIoU"]["a"]["low"] < found["mIoU"]["a"]["value"] < found["mIoU"]["a"]["high"]
    better = evaluate("semantic", *maps, *SEMANTIC, "--compare", maps[1], "--bootstrap", 60)["comparison"]["mIoU"]
    assert better["b"]["value"] == 1 and better["difference"]["low"] >= 0 < better["difference"]["value"]


def test_differences_by_class_and_by_image(maps, evaluate, tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    compare_maps = ("--compare", maps[1], "--bootstrap", 20, "--metrics", "IoU")
    result = evaluate("semantic", *maps, *SEMANTIC, *compare_maps, "--per-class", "--per-image", rows)
    lines, found = [line.split() for line in capsys.readouterr().out.splitlines()], result["comparison"]["IoU-1"]
    start = next(n for n, line in enumerate(lines) if line[:3] == ["IoU", "of", "class"])
    assert [line[0] for line in lines[start + 2 : start + 5]] == ["0", "1", "2"]
    one = lines[start + 3]
    assert (one[1], one[4], one[7]) == tuple(f"{100 * found[side]['value']:.2f}" for side in ("a", "b", "difference"))
    table = list(csv.DictReader(rows.open()))
    assert [row["image"] for row in table] == ["0", "1", "2", "3"] and float(table[3]["mIoU B"]) == 1
    assert float(table[3]["pACC B - A"]) == pytest.approx(12 / (24 * 32), abs=1e-6)
    evaluate("semantic", *maps, *SEMANTIC, *compare_maps)
    assert "of class" not in capsys.readouterr().out
    (tmp_path / "metrics.json").unlink()
    assert "--per-class is for --compare" in evaluate("semantic", *maps, *SEMANTIC, "--per-class", fails=True)


@pytest.mark.parametrize("option", ["--output", "--per-image"])
def test_outputs_are_tried_before_anything_is_read(option, maps, evaluate, tmp_path):
    (tmp_path / "file").touch()
    paths = {"file/x.csv": "file/x.csv can't be written", "pred": "pred can't be written (it is a folder)"}
    for path, told in paths.items():
        assert told in evaluate("semantic", "nowhere", maps[1], *SEMANTIC, option, tmp_path / path, fails=True)
    told = evaluate("semantic", tmp_path / "file", maps[1], *SEMANTIC, option, tmp_path / "file", fails=True)
    assert "file is named twice, and would be overwritten" in told
    evaluate("semantic", *maps, *SEMANTIC, "--per-image", tmp_path / "new/folder/rows.csv")
    assert (tmp_path / "new/folder/rows.csv").is_file()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(maps, evaluate, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    told = evaluate("semantic", "nowhere", maps[1], *SEMANTIC, "--per-image", tmp_path / "locked/x.csv", fails=True)
    assert "can't be written (Permission denied)" in told


def test_bootstrap_is_seeded_and_matches_the_normal_interval_of_a_mean():
    values = np.random.default_rng(1).normal(0.5, 0.1, 200)

    def mean(draws):
        return MetricValues({"mean": draws @ values / draws.sum(axis=1)}, {})

    found = compare(mean, mean, 200, resamples=2000)["mean"].a
    half = 1.96 * values.std() / math.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)
    assert (resampled(5, 9, 3) == resampled(5, 9, 3)).all() and (resampled(5, 9, 3) != resampled(5, 9, 4)).any()
    assert (resampled(5, 9).sum(axis=1) == 5).all()
    assert np.isnan(interval(0.5, np.full(3, np.nan)).low)
    for wrong in ((0, 1, 0), (1, 0, 0), (1, 1, -1)):
        with pytest.raises(UserError, match="at least one image"):
            resampled(*wrong)
    with pytest.raises(UserError, match="level is 95"):
        interval(0.5, np.ones(3), 95)


def test_image_names():
    names = ["a/x_1_leftImg8bit.png", "x_1_gtFine_labelTrainIds.png", "x_1_leftImg8bit_pred.png", "x_1_pred_v2.png"]
    assert {image_name(name) for name in names} == {"x_1"} and image_name("b/000139.jpg") == "000139"


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


def test_real_semantic_predictions(real_data, evaluate, tmp_path):
    folder, colors = real_data / "predictions/voc_deeplabv3plus", {}
    void = (224, 224, 192)
    pooled = []
    for k in (1, 23, 114):
        pair = []
        for side in ("target", "pred"):
            rgb = np.array(Image.open(folder / f"{k}_{side}.png").convert("RGB"))
            unlike, inverse = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
            labels = [255 if tuple(c) == void else colors.setdefault(tuple(c), len(colors)) for c in unlike]
            pair.append(np.array(labels, np.uint8)[inverse.reshape(rgb.shape[:2])])
            save(tmp_path / side / f"{k}.png", pair[-1])
        pooled.append(np.stack(pair))
    metrics = evaluate("semantic", tmp_path / "pred", tmp_path / "target", "--classes", len(colors))["metrics"]
    truth, pred = [np.concatenate([pair[side].ravel() for pair in pooled]) for side in (0, 1)]
    truth, pred = truth[truth != 255], pred[truth != 255]
    iou = [((pred == c) & (truth == c)).sum() / ((pred == c) | (truth == c)).sum() for c in np.unique(truth)]
    assert metrics["mIoU"] == pytest.approx(np.mean(iou), abs=1e-12)
    assert 0 < metrics["Boundary-IoU"] < metrics["mIoU"]


def test_show_prints_some_metrics_and_writes_all(maps, evaluate, capsys):
    lines = evaluate("semantic", *maps, *SEMANTIC, "--show", "AP", fails=True)
    assert "there is no metric AP, expected some of mIoU" in lines
    result = evaluate("semantic", *maps, *SEMANTIC, "--show", "mIoU", "pACC", "--compare", maps[1], "--bootstrap", 10)
    rows = [line for line in capsys.readouterr().out.splitlines() if " [" in line]
    assert [row.split()[0] for row in rows] == ["metric", "mIoU", "pACC"]
    assert len(result["metrics"]) > 20 and len(result["comparison"]) > 20


def test_names_that_come_twice_are_told_apart_by_their_folders(tmp_path, evaluate):
    rng = np.random.default_rng(0)
    for folder in ("s1", "s2"):
        labels = rng.integers(0, 2, (8, 8)).astype(np.uint8)
        save(tmp_path / f"gt/{folder}/000.png", labels)
        save(tmp_path / f"pred/{folder}/000_pred.png", labels if folder == "s1" else 1 - labels)
    result = evaluate("semantic", tmp_path / "pred", tmp_path / "gt", "--classes", 2, "--metrics", "IoU")
    assert result["images"] == 2 and result["metrics"]["pACC"] == pytest.approx(0.5)


def test_two_predictions_of_one_image_are_refused(tmp_path, evaluate):
    for name in ("gt/a.png", "pred/a_pred.png", "pred/a_pred_flipped.png"):
        save(tmp_path / name, np.zeros((8, 8), np.uint8))
    line = evaluate("semantic", tmp_path / "pred", tmp_path / "gt", "--classes", 2, fails=True)
    assert "a_pred.png and" in line and "a_pred_flipped.png are both of image a: keep one of them" in line


def test_boxes_need_no_masks(tmp_path, evaluate):
    truth = {"images": [{"id": 1, "height": 9, "width": 9}], "categories": [{"id": 1, "name": "a"}]}
    truth["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16}]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    results = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "score": 0.5}]
    (tmp_path / "pred.json").write_text(json.dumps(results))
    result = evaluate("instance", tmp_path / "pred.json", tmp_path / "gt.json", "--metrics", "bbox")
    assert result["metrics"]["Box-AP"] == 1
