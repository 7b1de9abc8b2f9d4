"""The command that scores result files, on label maps: known scores, every mismatch listed, hostile files told."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.formats.semantic_maps import CITYSCAPES_CLASSES, image_name

from .label_maps import SEMANTIC, save


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


def test_image_names():
    names = ["a/x_1_leftImg8bit.png", "x_1_gtFine_labelTrainIds.png", "x_1_leftImg8bit_pred.png", "x_1_pred_v2.png"]
    assert {image_name(name) for name in names} == {"x_1"} and image_name("b/000139.jpg") == "000139"


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
