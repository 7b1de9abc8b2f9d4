"""Panoptic and Cityscapes scores against perfect predictions and closed forms."""

import json
from pathlib import Path

import detectron2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator, COCOPanopticEvaluator
from detectron2.structures import Instances
from PIL import Image

EMBEDDED = Path(detectron2.__file__).parents[1].name == "embedded"
embedded_only = pytest.mark.skipif(not EMBEDDED, reason="Detectron2 itself cannot run this with public packages")


class Panoptic:
    """Two images: sky (stuff 7) over grass (stuff 9), with two balls (thing 3)."""

    @staticmethod
    def ids(image: int) -> np.ndarray:
        ids = np.full((40, 60), 500, dtype=np.int64)
        ids[20:] = 70000
        ids[5:15, 5 + image : 15 + image] = 3
        ids[22:32, 30:45] = 4
        ids[:, 58:] = 0
        return ids

    CATEGORY = {500: 7, 70000: 9, 3: 3, 4: 3}

    @classmethod
    def register(cls, folder: Path, name: str) -> None:
        (folder / "png").mkdir()
        annotations, images = [], []
        for image in range(2):
            ids = cls.ids(image)
            rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
            Image.fromarray(rgb).save(folder / "png" / f"{image}.png")
            segments = [
                {"id": i, "category_id": c, "iscrowd": 0, "area": int((ids == i).sum()), "bbox": [0, 0, 1, 1]}
                for i, c in cls.CATEGORY.items()
            ]
            annotations.append({"image_id": image, "file_name": f"{image}.png", "segments_info": segments})
            images.append({"id": image, "file_name": f"{image}.jpg", "height": 40, "width": 60})
        categories = [
            {"id": i, "name": n, "isthing": t} for i, n, t in ((3, "ball", 1), (7, "sky", 0), (9, "grass", 0))
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "panoptic.json").write_text(json.dumps(content))
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).set(
            panoptic_json=str(folder / "panoptic.json"),
            panoptic_root=str(folder / "png"),
            thing_dataset_id_to_contiguous_id={3: 0},
            stuff_dataset_id_to_contiguous_id={7: 1, 9: 2},
            label_divisor=1000,
        )


@pytest.fixture
def panoptic(tmp_path):
    if not EMBEDDED:
        pytest.importorskip("panopticapi")
    name = "panoptic_evaluation_test"
    Panoptic.register(tmp_path, name)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def panoptic_output(image: int, missing: int | None = None) -> dict:
    ids, segments, out = Panoptic.ids(image), [], np.zeros((40, 60), dtype=np.int32)
    contiguous = {3: (0, True), 7: (1, False), 9: (2, False)}
    for new, (old, category) in enumerate(Panoptic.CATEGORY.items(), 1):
        if old != missing:
            out[ids == old] = new
            label, isthing = contiguous[category]
            segments.append({"id": new, "category_id": label, "isthing": isthing})
    return {"panoptic_seg": (torch.from_numpy(out), segments)}


def test_panoptic_quality(panoptic, tmp_path):
    evaluator = COCOPanopticEvaluator(panoptic, str(tmp_path / "out"))
    evaluator.reset()
    for image in range(2):
        evaluator.process([{"image_id": image, "file_name": f"x/{image}.jpg"}], [panoptic_output(image)])
    scores = evaluator.evaluate()["panoptic_seg"]
    assert list(scores) == [m + s for s in ("", "_th", "_st") for m in ("PQ", "SQ", "RQ")]
    assert list(scores.values()) == pytest.approx([100] * 9)
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [a["file_name"] for a in written["annotations"]] == ["0.png", "1.png"]
    assert {s["category_id"] for s in written["annotations"][0]["segments_info"]} == {3, 7, 9}


def test_a_missed_ball_costs_recognition(panoptic):
    evaluator = COCOPanopticEvaluator(panoptic)
    evaluator.reset()
    for image in range(2):
        output = panoptic_output(image, missing=4 if image else None)
        evaluator.process([{"image_id": image, "file_name": f"{image}.jpg"}], [output])
    scores = evaluator.evaluate()["panoptic_seg"]
    assert scores["PQ_th"] == pytest.approx(100 * 3 / 3.5) and scores["SQ_th"] == pytest.approx(100)
    assert scores["PQ_st"] == pytest.approx(100) and scores["PQ"] == pytest.approx((100 * 3 / 3.5 + 200) / 3)


def test_segments_from_label_divisors(panoptic):
    evaluator = COCOPanopticEvaluator(panoptic)
    evaluator.reset()
    for image in range(2):
        ids = Panoptic.ids(image)
        labels = np.full(ids.shape, -1)
        for old, label in {500: 1000, 70000: 2000, 3: 1, 4: 2}.items():
            labels[ids == old] = label
        evaluator.process(
            [{"image_id": image, "file_name": f"{image}.jpg"}], [{"panoptic_seg": (torch.tensor(labels), None)}]
        )
    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == pytest.approx(100)


@pytest.fixture
def cityscapes(tmp_path):
    pytest.importorskip("cityscapesscripts")
    ids = np.full((128, 256), 7, dtype=np.int32)
    ids[10:60, 20:100] = 26001
    ids[70:120, 120:220] = 24003
    ids[120:] = 3
    folder = tmp_path / "gtFine" / "val" / "town"
    folder.mkdir(parents=True)
    stem = folder / "town_000001_000019_gtFine_"
    Image.fromarray(ids.astype(np.uint16)).save(f"{stem}instanceIds.png")
    Image.fromarray(np.where(ids > 999, ids // 1000, ids).astype(np.uint8)).save(f"{stem}labelIds.png")
    things = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    MetadataCatalog.get("cityscapes_test").set(gt_dir=str(folder.parent), thing_classes=things)
    yield ids, {"file_name": "town_000001_000019_leftImg8bit.png"}
    MetadataCatalog.remove("cityscapes_test")


@embedded_only
def test_cityscapes_instances(cityscapes, capsys, monkeypatch, tmp_path):
    ids, entry = cityscapes
    monkeypatch.chdir(tmp_path)
    result = Instances(ids.shape)
    result.pred_masks = torch.tensor(np.stack([ids == 26001, ids == 24003]))
    result.pred_classes, result.scores = torch.tensor([2, 0]), torch.tensor([0.9, 0.8])
    evaluator = CityscapesInstanceEvaluator("cityscapes_test")
    for found, ap in ((result, 100), (result[:1], 50)):
        evaluator.reset()
        evaluator.process([entry], [{"instances": found}])
        scores = evaluator.evaluate()["segm"]
        assert scores["AP50"] == pytest.approx(ap) and scores["AP"] == pytest.approx(ap)
    assert not hasattr(np, "in1d") or np.lib.NumpyVersion(np.__version__) < "2.4.0"
    assert not (tmp_path / "matches.json").exists(), "nothing is left in the working directory"


@embedded_only
def test_cityscapes_labels(cityscapes):
    ids, entry = cityscapes
    train_ids = np.select([ids == 7, ids == 26001, ids == 24003], [0, 13, 11], 5)
    scores = torch.nn.functional.one_hot(torch.from_numpy(train_ids.astype(np.int64)), 19).permute(2, 0, 1).float()
    evaluator = CityscapesSemSegEvaluator("cityscapes_test")
    evaluator.reset()
    evaluator.process([entry], [{"sem_seg": scores}])
    assert evaluator.evaluate()["sem_seg"]["IoU"] == pytest.approx(100)
    evaluator.reset()
    with pytest.raises(ValueError, match="cityscapesscripts"):
        evaluator.evaluate()
