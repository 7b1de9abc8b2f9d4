"""Cityscapes' instance results on real maps, against the benchmark's program."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from pnm.cityscapes_classes import CITYSCAPES_INSTANCE_CLASSES
from pnm.formats.cityscapes import prediction_lines, read_cityscapes_predictions, write_cityscapes_predictions
from pnm.scoring.cityscapes_instance_files import instance_annotations


def perturbed(ids, rng):
    """(masks, label ids, scores): instances moved, grown, shrunk, cut, missed or found twice; parts of other things."""
    masks, labels, scores = [], [], []
    chosen = [k for k in np.unique(ids) if k >= 24000 or k in CITYSCAPES_INSTANCE_CLASSES or rng.random() < 0.2]
    for k in chosen + [k for k in chosen if rng.random() < 0.3]:
        mask = ids == k
        step = int(rng.integers(-3, 4))
        if step:
            mask = (ndimage.binary_dilation if step > 0 else ndimage.binary_erosion)(mask, iterations=abs(step))
        mask = np.roll(mask, rng.integers(-2, 3, 2), (0, 1))
        if rng.random() < 0.1:
            mask[: int(np.argwhere(mask).mean(axis=0)[0]) if mask.any() else 0] = False
        masks.append(mask)
        labels.append(int(k // 1000) if k >= 24000 and rng.random() < 0.9 else int(rng.choice([24, 26, 33])))
        scores.append(round(float(rng.random()), 2))
    return masks, labels, scores


@pytest.fixture(scope="module")
def files(real_data, tmp_path_factory):
    """Folders of predictions and ground truth: the four real maps, one without any prediction."""
    root, rng = tmp_path_factory.mktemp("cityscapes"), np.random.default_rng(7)
    shutil.copytree(real_data / "cityscapes/gtFine", root / "gt")
    for n, file in enumerate(sorted((root / "gt").rglob("*_instanceIds.png"))):
        image = file.name.replace("_gtFine_instanceIds.png", "_leftImg8bit")
        masks, labels, scores = perturbed(np.array(Image.open(file)), rng) if n != 2 else ([], [], [])
        txt = root / "pred" / f"{image}_pred.txt"
        write_cityscapes_predictions(txt, prediction_lines(image, labels, scores), masks)
    return root / "pred", root / "gt"


@pytest.fixture
def copied(files, tmp_path):
    """A folder of predictions that may be spoilt, and the ground truth."""
    shutil.copytree(files[0], tmp_path / "pred")
    return tmp_path / "pred", files[1]


def benchmark_scores(pred, gt, folder, monkeypatch):
    """What the benchmark's program says; it finds the predictions itself. It needs a NumPy that still had in1d."""
    program = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    monkeypatch.chdir(folder)
    settings = {"quiet": True, "JSONOutput": False, "predictionPath": str(pred), "predictionWalk": None}
    for name, value in {**settings, "gtInstancesFile": str(folder / "instances.json")}.items():
        monkeypatch.setattr(program.args, name, value)
    truths = sorted(map(str, gt.rglob("*_instanceIds.png")))
    predictions = [program.getPrediction(truth, program.args) for truth in truths]
    program.setInstanceLabels(program.args)
    instances = program.getGtInstances(truths, program.args)
    matches = program.matchGtWithPreds(predictions, truths, instances, program.args)
    return program.computeAverages(program.evaluateMatches(matches, program.args), program.args)


def test_scores_equal_the_benchmark(files, evaluate, tmp_path, monkeypatch, capsys):
    rows = tmp_path / "rows.csv"
    result = evaluate("instance", *files, "--cityscapes", "--per-image", rows)
    metrics = result["metrics"]
    told = capsys.readouterr().out
    assert result["images"] == 4 and result["mismatches"] == [] and result["settings"]["boundary_ratio"] == 0.005
    expected = benchmark_scores(*files, tmp_path, monkeypatch)
    assert metrics["AP"] == pytest.approx(expected["allAp"], abs=1e-12)
    assert metrics["AP50"] == pytest.approx(expected["allAp50%"], abs=1e-12)
    for name, values in expected["classes"].items():
        for ours, theirs in (("AP", "ap"), ("AP50", "ap50%")):
            value = np.nan if metrics[f"{ours}-{name}"] is None else metrics[f"{ours}-{name}"]
            assert value == pytest.approx(values[theirs], abs=1e-12, nan_ok=True), name
    assert 0.1 < metrics["AP"] < 0.9
    head, *lines = [line.split() for line in told.splitlines()]
    car = dict(zip(head, next(line for line in lines if line[:1] == ["car"])))
    assert [car[name] for name in ("AP", "AP50", "COCO-AF")] == [
        f"{100 * metrics[f'{name}-car']:.2f}" for name in ("AP", "AP50", "COCO-AF")
    ]
    table = {row["image"]: row for row in csv.DictReader(rows.open())}
    assert len(table) == 4 and float(table["aachen_000002_000019"]["AP"]) == 0


def test_coco_rules_equal_pycocotools(files, evaluate):
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    mask_tools = pytest.importorskip("pycocotools.mask")
    truth = {"images": [], "annotations": [], "categories": [{"id": k} for k in CITYSCAPES_INSTANCE_CLASSES]}
    found = []
    for image, file in enumerate(sorted(files[1].rglob("*_instanceIds.png"))):
        ids = np.array(Image.open(file))
        truth["images"].append({"id": image, "height": ids.shape[0], "width": ids.shape[1]})
        for k in np.unique(ids):
            label = int(k) // 1000 if k >= 1000 else int(k)
            if label in CITYSCAPES_INSTANCE_CLASSES:
                rle = mask_tools.encode(np.asfortranarray(ids == k).astype(np.uint8))
                number, area = len(truth["annotations"]) + 1, int((ids == k).sum())
                entry = {"id": number, "image_id": image, "category_id": label, "segmentation": rle, "area": area}
                truth["annotations"].append({**entry, "iscrowd": int(k < 1000), "bbox": [0, 0, 1, 1]})
        txt = files[0] / file.name.replace("_gtFine_instanceIds.png", "_leftImg8bit_pred.txt")
        for p in read_cityscapes_predictions(txt):
            rle = mask_tools.encode(np.asfortranarray(np.array(Image.open(p.mask_path)) > 0).astype(np.uint8))
            found.append({"image_id": image, "category_id": p.label_id, "segmentation": rle, "score": p.score})
    oracle = coco.COCO()
    oracle.dataset = truth
    oracle.createIndex()
    evaluation = cocoeval.COCOeval(oracle, oracle.loadRes(found), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = evaluate("instance", *files, "--cityscapes")["metrics"]
    for name, value in zip(("COCO-AP", "COCO-AP50", "COCO-AP75", "COCO-APs"), evaluation.stats):
        assert metrics[name] == pytest.approx(value, abs=1e-12), name
    assert 0 < metrics["COCO-Boundary-AP"] < metrics["COCO-AP"] and 0 < metrics["COCO-AF"] < 1


def test_a_perfect_prediction(real_data, evaluate, tmp_path):
    for file in (real_data / "cityscapes/gtFine/val").rglob("*_instanceIds.png"):
        ids = np.array(Image.open(file))
        single = [k for k in np.unique(ids) if k >= 24000]
        image, labels = file.name[: -len("_gtFine_instanceIds.png")], [k // 1000 for k in single]
        lines = prediction_lines(image, labels, [1] * len(single))
        write_cityscapes_predictions(tmp_path / f"pred/{image}_pred.txt", lines, [ids == k for k in single])
    metrics = evaluate("instance", tmp_path / "pred", real_data / "cityscapes/gtFine/val", "--cityscapes")["metrics"]
    for name in ("AP", "AP50", "COCO-AP", "COCO-AP90", "COCO-Boundary-AP", "COCO-AF", "AP-car", "COCO-AF-car"):
        assert metrics[name] == 1, name


def test_annotations_of_a_map():
    ids = np.zeros((4, 6), np.uint16)
    ids[0, :2], ids[1, :3], ids[2], ids[3, :1] = 26001, 26, 7001, 33999
    found = instance_annotations(ids)
    assert [(a["category_id"], a["iscrowd"]) for a in found] == [(26, 1), (26, 0), (33, 0)]
    assert found[0]["segmentation"]["size"] == [4, 6]


def test_two_predictions(files, copied, evaluate, tmp_path, capsys):
    txt = next(copied[0].glob("*_000000_000019_*.txt"))
    txt.write_text("")
    rows = tmp_path / "rows.csv"
    more = ("--compare", copied[0], "--bootstrap", 20, "--per-class", "--per-image", rows, "--metrics", "segm")
    found = evaluate("instance", *files, "--cityscapes", *more)["comparison"]
    told = capsys.readouterr().out
    assert found["AP"]["difference"]["value"] < 0 and found["AP50-car"]["difference"]["value"] < 0
    assert "AP of class" in told and "COCO-AP of class" in told
    first = next(csv.DictReader(rows.open()))
    assert first["image"] == "aachen_000000_000019" and float(first["AP B"]) == 0
    assert float(first["AP B - A"]) == pytest.approx(-float(first["AP A"]))


def test_what_does_not_fit(copied, evaluate, tmp_path):
    pred, gt = copied
    txts = sorted(pred.glob("*.txt"))
    txts[0].rename(pred / "bonn_000000_000019_pred.txt")
    (pred / "small.png").write_bytes(b"")
    Image.new("L", (20, 10)).save(pred / "small.png")
    txts[1].write_text("small.png 26 0.5\n")
    told = evaluate("instance", pred, gt, "--cityscapes", fails=True)
    for part in (
        "image aachen_000000_000019: in the ground truth, but not in",
        "image bonn_000000_000019: in ",
        "small.png is 10 x 20, the ground truth 1024 x 2048",
        "no instances in 1 of 4 text files",
        "3 mismatch(es)",
    ):
        assert part in told
    assert evaluate("instance", pred, gt, "--cityscapes", "--allow-missing")["images"] == 2


def test_damaged_files_are_all_listed(copied, evaluate):
    pred, gt = copied
    txts = sorted(pred.glob("*.txt"))
    for txt, text in ((txts[0], "nowhere.png 26 0.5\n"), (txts[1], "nowhere.png 99 0.5\n")):
        txt.write_text(text)
    told = evaluate("instance", pred, gt, "--cityscapes", "--allow-missing", fails=True)
    assert "nowhere.png is missing" in told and "label id is 99" in told and "2 images could not be scored" in told
    for txt in txts[:2]:
        masks = read_cityscapes_predictions(txts[3])
        content = masks[0].mask_path.read_bytes()
        (pred / f"{txt.stem}.png").write_bytes(content[:-30])
        txt.write_text(f"{txt.stem}.png 26 0.5\n")
    told = evaluate("instance", pred, gt, "--cityscapes", "--allow-missing", fails=True)
    assert told.count("is truncated") == 2
    assert "is not a folder: expected one with *_pred.txt" in evaluate("instance", "no", gt, "--cityscapes", fails=True)
    assert "has no *_gtFine_instanceIds.png" in evaluate("instance", pred, pred, "--cityscapes", fails=True)
