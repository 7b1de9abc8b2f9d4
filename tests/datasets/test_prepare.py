"""The prepare scripts, run as people run them, against definitions and cityscapesscripts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

SCRIPTS = Path(__file__).resolve().parents[2] / "datasets"


def run(script: str, *arguments: object, **environment: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPTS / f"prepare_{script}.py"), *map(str, arguments)]
    variables = os.environ | {key: str(value) for key, value in environment.items()}
    return subprocess.run(command, capture_output=True, text=True, env=variables)


def check(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def save(path: Path, pixels: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def load(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("script", ["ade20k", "cityscapes", "panoptic_fpn"])
def test_help_explains_input_and_output(script):
    text = check(run(script, "--help"))
    assert "written" in text and "--workers" in text and len(text) > 800


@pytest.fixture
def ade20k(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for split in ("training", "validation"):
        for name in ("a", "b"):
            save(tmp_path / "ADEChallengeData2016" / "annotations" / split / f"{name}.png", labels)
    return tmp_path / "ADEChallengeData2016", labels


def test_ade20k_shifts_labels(ade20k):
    root, labels = ade20k
    output = check(run("ade20k", "--workers", 2, DETECTRON2_DATASETS=root.parent))
    assert "4 label images" in output
    made = root / "annotations_detectron2" / "training" / "a.png"
    expected = np.where(labels == 0, 255, labels.astype(int) - 1)
    np.testing.assert_array_equal(load(made), expected)
    assert not list(root.rglob("*.tmp"))


def test_finished_files_are_kept_and_missing_ones_made(ade20k, tmp_path):
    root, _ = ade20k
    check(run("ade20k", "--root", root, "--output", tmp_path / "out"))
    kept, lost = tmp_path / "out" / "training" / "a.png", tmp_path / "out" / "training" / "b.png"
    kept.write_bytes(b"mine")
    lost.unlink()
    assert "1 label images" in check(run("ade20k", "--root", root, "--output", tmp_path / "out"))
    assert kept.read_bytes() == b"mine" and lost.exists()
    check(run("ade20k", "--root", root, "--output", tmp_path / "out", "--force", "--workers", 1))
    assert load(kept)[0, 0] == 255


def fails(done: subprocess.CompletedProcess, message: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 1 and len(lines) == 1 and message in lines[0], done.stderr
    assert "Traceback" not in done.stderr


def test_ade20k_errors_are_one_line(ade20k, tmp_path):
    root, _ = ade20k
    fails(run("ade20k", "--root", tmp_path / "absent"), "DETECTRON2_DATASETS")
    fails(run("ade20k", "--root", root, "--workers", 0), "--workers")
    source = root / "annotations" / "validation" / "b.png"
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    fails(run("ade20k", "--root", root), "b.png is truncated")
    assert (root / "annotations_detectron2" / "training" / "a.png").exists(), "what was finished stays"
    assert not (root / "annotations_detectron2" / "validation" / "b.png").exists()
    save(source, np.zeros((4, 4, 3), dtype=np.uint8))
    fails(run("ade20k", "--root", root), "b.png is a")


@pytest.fixture
def cityscapes(tmp_path):
    ids = np.full((32, 64), 7, dtype=np.int32)
    ids[2:12, 3:40] = 26001
    ids[5:9, 30:50] = 26002
    ids[15:25, 10:30] = 24  # a group of persons
    ids[26:, :20] = 29001  # a caravan: void
    ids[30:, 40:] = 3
    ids[0, 63] = 33999
    stem = tmp_path / "cityscapes" / "gtFine" / "val" / "town" / "town_000001_000019_gtFine_"
    save(Path(f"{stem}instanceIds.png"), ids.astype(np.uint16))
    save(Path(f"{stem}labelIds.png"), np.where(ids > 999, ids // 1000, ids).astype(np.uint8))
    return tmp_path / "cityscapes", ids, stem


def test_cityscapes_classes_are_those_of_the_engine(monkeypatch):
    from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

    monkeypatch.syspath_prepend(str(SCRIPTS))
    import prepare_cityscapes

    expected = [(c["trainId"], c["id"], c["name"], list(c["color"]), c["isthing"]) for c in CITYSCAPES_CATEGORIES]
    listed = enumerate(prepare_cityscapes.read_categories())
    assert [(i, c["id"], c["name"], c["color"], c["isthing"]) for i, c in listed] == expected


def test_cityscapes_train_ids(cityscapes):
    root, ids, stem = cityscapes
    assert "val: 1 label and 1 panoptic" in check(run("cityscapes", "--root", root))
    labels = np.where(ids > 999, ids // 1000, ids)
    expected = np.select([labels == 7, labels == 26, labels == 24, labels == 33], [0, 13, 11, 18], 255)
    np.testing.assert_array_equal(load(Path(f"{stem}labelTrainIds.png")), expected)


def test_cityscapes_panoptic_is_that_of_cityscapesscripts(cityscapes, tmp_path):
    conversion = pytest.importorskip("cityscapesscripts.preparation.createPanopticImgs")
    root, ids, _ = cityscapes
    (tmp_path / "theirs").mkdir()
    conversion.convert2panoptic(str(root / "gtFine"), str(tmp_path / "theirs"), False, ["val"])
    check(run("cityscapes", "--root", root, "--output", tmp_path / "ours", "--splits", "val"))
    for name in ("cityscapes_panoptic_val.json", "cityscapes_panoptic_val/town_000001_000019_gtFine_panoptic.png"):
        ours, theirs = tmp_path / "ours" / name, tmp_path / "theirs" / name
        if name.endswith("json"):
            assert ours.read_text() == theirs.read_text()
        else:
            np.testing.assert_array_equal(load(ours), load(theirs))
            np.testing.assert_array_equal(
                load(ours).astype(int) @ [1, 256, 65536], np.where(np.isin(ids, [3, 29001]), 0, ids)
            )


def test_cityscapes_train_ids_are_those_of_cityscapesscripts(tmp_path):
    """Polygons drawn by cityscapesscripts with both encodings; ours maps one to the other."""
    drawing = pytest.importorskip("cityscapesscripts.preparation.json2labelImg")
    names = ["road", "sky", "cargroup", "license plate", "caravan", "pole", "polegroup", "rider", "bicyclegroup"]
    objects = [
        {"label": name, "polygon": [[4 * i, 2], [4 * i + 9, 2], [4 * i + 9, 30], [4 * i, 28]]}
        for i, name in enumerate(names)
    ]
    polygons = tmp_path / "polygons.json"
    polygons.write_text(json.dumps({"imgHeight": 32, "imgWidth": 64, "objects": objects}))
    stem = tmp_path / "gtFine" / "train" / "town" / "town_000001_000019_gtFine_"
    stem.parent.mkdir(parents=True)
    drawing.json2labelImg(str(polygons), f"{stem}labelIds.png", "ids")
    drawing.json2labelImg(str(polygons), str(tmp_path / "theirs.png"), "trainIds")
    check(run("cityscapes", "--root", tmp_path))
    np.testing.assert_array_equal(load(Path(f"{stem}labelTrainIds.png")), load(tmp_path / "theirs.png"))
    assert len(np.unique(load(tmp_path / "theirs.png"))) >= 6


def test_cityscapes_resumes(cityscapes):
    root, _, stem = cityscapes
    check(run("cityscapes", "--root", root))
    panoptic = root / "gtFine" / "cityscapes_panoptic_val"
    text = Path(f"{panoptic}.json").read_text()
    (png,) = panoptic.iterdir()
    before = png.stat().st_mtime_ns
    Path(f"{panoptic}.json").unlink()
    check(run("cityscapes", "--root", root))
    assert Path(f"{panoptic}.json").read_text() == text and png.stat().st_mtime_ns == before
    fails(run("cityscapes", "--root", root / "absent"), "gtFine_trainvaltest.zip")


@pytest.fixture
def panoptic(tmp_path):
    ids = np.zeros((20, 30), dtype=np.int64)
    ids[:10], ids[10:, :20], ids[12:16, 5:9], ids[12:16, 15:19] = 70000, 300, 5, 6
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    save(tmp_path / "coco" / "panoptic_val2017" / "1.png", rgb)
    segments = [
        dict(id=i, category_id=c, iscrowd=k) for i, c, k in ((70000, 92, 0), (300, 40, 0), (5, 1, 0), (6, 2, 1))
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 20, "width": 30}],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
        "categories": [{"id": i, "name": str(i), "isthing": t} for i, t in ((92, 0), (40, 0), (1, 1), (2, 1))],
    }
    path = tmp_path / "coco" / "annotations" / "panoptic_val2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return tmp_path, path, content, ids


def test_stuff_labels_and_instances(panoptic):
    root, path, content, ids = panoptic
    options = ["--panoptic-json", path, "--panoptic-folder", root / "coco" / "panoptic_val2017"]
    options += ["--output", root / "stuff", "--instances-json", root / "instances.json"]
    assert "2 instances of 2 categories" in check(run("panoptic_fpn", *options))
    expected = np.select([ids == 300, ids == 70000, np.isin(ids, [5, 6])], [1, 2, 0], 255)
    np.testing.assert_array_equal(load(root / "stuff" / "1.png"), expected)
    found = json.loads((root / "instances.json").read_text())
    assert [c["id"] for c in found["categories"]] == [1, 2] and found["images"] == content["images"]
    for annotation, segment in zip(found["annotations"], (5, 6), strict=True):
        np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]), ids == segment)
        assert annotation["area"] == 16 and annotation["bbox"] == [5 + 10 * (segment - 5), 12, 4, 4]
        assert annotation["iscrowd"] == segment - 5


def test_coco_without_options(panoptic):
    root, path, content, _ = panoptic
    hundred = path.with_name("panoptic_val2017_100.json")
    hundred.write_text(json.dumps(content))
    for _ in range(2):
        check(run("panoptic_fpn", DETECTRON2_DATASETS=root))
    assert load(root / "coco" / "panoptic_stuff_val2017" / "1.png").shape == (20, 30)
    for kind in ("panoptic", "panoptic_stuff"):
        link = root / "coco" / f"{kind}_val2017_100" / "1.png"
        assert link.is_symlink() and link.resolve() == (root / "coco" / f"{kind}_val2017" / "1.png").resolve()


def test_panoptic_errors_are_one_line(panoptic):
    root, path, content, _ = panoptic
    folder = root / "coco" / "panoptic_val2017"
    options = ["--panoptic-folder", folder, "--output", root / "stuff", "--panoptic-json"]
    fails(run("panoptic_fpn", *options, root / "absent.json"), "absent.json is missing")
    content["annotations"][0]["segments_info"][0]["category_id"] = 77
    path.write_text(json.dumps(content))
    fails(run("panoptic_fpn", *options, path), "category_id 77")
    path.write_text(path.read_text()[:50])
    fails(run("panoptic_fpn", *options, path), "is not JSON")
    save(folder / "1.png", np.zeros((4, 4), dtype=np.uint8))
    content["annotations"][0]["segments_info"] = []
    path.write_text(json.dumps(content))
    fails(run("panoptic_fpn", *options, path), "expected a panoptic PNG")
    fails(run("panoptic_fpn", DETECTRON2_DATASETS=root / "absent"), "panoptic_annotations_trainval2017.zip")
    assert run("panoptic_fpn", "--output", root).returncode == 2


def test_an_interrupted_run_leaves_no_partial_file(ade20k, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import label_files

    monkeypatch.setattr(label_files.os, "replace", lambda *names: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        label_files.save_png(np.zeros((4, 4), dtype=np.uint8), tmp_path / "out" / "a.png")
    assert list((tmp_path / "out").iterdir()) == []
