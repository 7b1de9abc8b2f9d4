"""COCO and semantic scores against pycocotools, brute force and published numbers; one process against two."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import detectron2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    SemSegEvaluator,
    inference_on_dataset,
)
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BAD_INPUT = (ValueError, AssertionError, FileNotFoundError)
EMBEDDED = Path(detectron2.__file__).parents[1].name == "embedded"
embedded_only = pytest.mark.skipif(not EMBEDDED, reason="Detectron2 itself cannot run this with public packages")
COUNT, HEIGHT, WIDTH = 7, 96, 128
CLASSES = ["cat", "dog", "cow"]


def boxes_of(seed: int) -> list[tuple[int, int, int, int, int]]:
    """(x0, y0, x1, y1, class) of an image's objects; image 3 has none."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 60, (4 if seed != 3 else 0, 2)).tolist()
    return [(x, y % 50, x + 8 + 14 * i, y % 50 + 10 + 9 * i, (seed + i) % 3) for i, (x, y) in enumerate(corners)]


def mask_of(x0, y0, x1, y1) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def labels_of(seed: int) -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for x0, y0, x1, y1, category in boxes_of(seed):
        labels[y0:y1, x0:x1] = category
    labels[:5] = 255
    return labels


def register(folder: Path, name: str) -> None:
    """Seven images with instances (one a crowd) and labels; category ids 10, 20, 30."""
    images, annotations = [], []
    for i in range(COUNT):
        images.append({"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH})
        for k, (x0, y0, x1, y1, category) in enumerate(boxes_of(i)):
            rle = coco_mask.encode(np.asfortranarray(mask_of(x0, y0, x1, y1), dtype=np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": 10 * (category + 1),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": int(k == 3 and i == 0),
                    "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
                }
            )
        Image.fromarray(labels_of(i)).save(folder / f"{i}_labels.png")
    categories = [{"id": 10 * (i + 1), "name": c} for i, c in enumerate(CLASSES)]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    entries = [
        {"image_id": i, "file_name": f"{i}.png", "sem_seg_file_name": str(folder / f"{i}_labels.png")}
        for i in range(COUNT)
    ]
    DatasetCatalog.register(name, lambda: entries)
    MetadataCatalog.get(name).set(
        json_file=str(folder / "truth.json"),
        thing_classes=CLASSES,
        thing_dataset_id_to_contiguous_id={10: 0, 20: 1, 30: 2},
        stuff_classes=CLASSES,
        ignore_label=255,
    )


@pytest.fixture
def dataset(tmp_path):
    name = "evaluation_test"
    register(tmp_path, name)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def noisy_model(inputs: list[dict]) -> list[dict]:
    """Shifted boxes and masks, some wrong classes, some false positives; labels shifted by two columns."""
    outputs = []
    for entry in inputs:
        rng = np.random.default_rng(100 + entry["image_id"])
        found = [
            (*np.add(b[:4], np.repeat(rng.integers(-2, 3), 4)).clip(0).tolist(), b[4])
            for b in boxes_of(entry["image_id"])
        ]
        found += [(3, 3, 40, 30, int(rng.integers(3)))]
        classes = [(b[4] + (rng.random() < 0.2)) % 3 for b in found]
        result = Instances((HEIGHT, WIDTH))
        result.pred_boxes = Boxes(torch.tensor([b[:4] for b in found], dtype=torch.float32))
        result.pred_classes = torch.tensor(classes, dtype=torch.int64)
        result.scores = torch.tensor(rng.random(len(found)), dtype=torch.float32)
        result.pred_masks = torch.tensor(np.stack([mask_of(*b[:4]) for b in found]))
        labels = np.roll(labels_of(entry["image_id"]), 2, axis=1)
        labels[labels == 255] = 1
        outputs.append({"instances": result, "sem_seg": one_hot(labels, 3)})
    return outputs


def one_hot(labels: np.ndarray, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), classes).permute(2, 0, 1).float()


def perfect_model(inputs: list[dict]) -> list[dict]:
    outputs = []
    for entry in inputs:
        truth = boxes_of(entry["image_id"])
        result = Instances((HEIGHT, WIDTH))
        result.pred_boxes = Boxes(torch.tensor([b[:4] for b in truth], dtype=torch.float32).reshape(-1, 4))
        result.pred_classes = torch.tensor([b[4] for b in truth], dtype=torch.int64)
        result.scores = torch.ones(len(truth))
        result.pred_masks = torch.tensor(np.array([mask_of(*b[:4]) for b in truth]).reshape(-1, HEIGHT, WIDTH))
        labels = labels_of(entry["image_id"])
        outputs.append({"instances": result, "sem_seg": one_hot(np.where(labels == 255, 2, labels), 3)})
    return outputs


def run(evaluator: DatasetEvaluator, model, name: str) -> dict:
    evaluator.reset()
    for entry in DatasetCatalog.get(name):
        evaluator.process([entry], model([entry]))
    return evaluator.evaluate()


def coco_scores(json_file: str, results: list[dict], task: str) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(json_file)
        kept = [{k: v for k, v in r.items() if task == "bbox" or k != "bbox"} for r in results]
        evaluation = COCOeval(truth, truth.loadRes(kept), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * s if s >= 0 else float("nan") for s in evaluation.stats[:6]]


@pytest.mark.parametrize("fast", [True, False])
def test_coco_scores_are_pycocotools(dataset, tmp_path, fast):
    output = tmp_path / "out"
    results = run(COCOEvaluator(dataset, output_dir=str(output), use_fast_impl=fast), noisy_model, dataset)
    written = json.loads((output / "coco_instances_results.json").read_text())
    assert {r["category_id"] for r in written} <= {10, 20, 30} and len(written) == 4 * 6 + 7
    for task in ("bbox", "segm"):
        expected = coco_scores(str(tmp_path / "truth.json"), written, task)
        names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
        assert [results[task][n] for n in names] == pytest.approx(expected, nan_ok=True)
        assert list(results[task]) == [*names, "AP-cat", "AP-dog", "AP-cow"]
        assert 5 < results[task]["AP"] < 95
        assert results[task]["AP"] == pytest.approx(np.mean([results[task][f"AP-{c}"] for c in CLASSES]))
    saved = torch.load(output / "instances_predictions.pth", weights_only=False)
    assert [p["image_id"] for p in saved] == list(range(COUNT))


def test_perfect_empty_and_missing_predictions(dataset):
    perfect = run(COCOEvaluator(dataset), perfect_model, dataset)
    assert perfect["bbox"]["AP"] == pytest.approx(100) and perfect["segm"]["AP-dog"] == pytest.approx(100)

    def blind(inputs):
        return [
            {"instances": o["instances"][torch.zeros(len(o["instances"]), dtype=torch.bool)]}
            for o in perfect_model(inputs)
        ]

    empty = run(COCOEvaluator(dataset), blind, dataset)
    assert list(empty) == ["bbox"] and all(np.isnan(v) for v in empty["bbox"].values())
    never = COCOEvaluator(dataset)
    never.reset()
    assert never.evaluate() == {}
    boxes_only = run(COCOEvaluator(dataset, tasks=("bbox",)), perfect_model, dataset)
    assert list(boxes_only) == ["bbox"]


@embedded_only
def test_only_the_best_detections_count(dataset):
    few = run(COCOEvaluator(dataset, max_dets_per_image=1), perfect_model, dataset)
    assert few["bbox"]["AP"] < 99


def test_selected_images(dataset):
    evaluator = COCOEvaluator(dataset)
    evaluator.reset()
    for entry in DatasetCatalog.get(dataset):
        evaluator.process([entry], (perfect_model if entry["image_id"] < 2 else noisy_model)([entry]))
    assert evaluator.evaluate(img_ids=[0, 1])["segm"]["AP"] == pytest.approx(100)


def test_alien_classes_are_refused(dataset):
    def alien(inputs):
        outputs = perfect_model(inputs)
        outputs[0]["instances"].pred_classes += 5
        return outputs

    with pytest.raises(BAD_INPUT, match="3 classes"):
        run(COCOEvaluator(dataset), alien, dataset)


@embedded_only
def test_result_files_name_what_is_wrong(dataset, tmp_path):
    MetadataCatalog.get("no_coco_file").set(thing_classes=["a"])
    with pytest.raises(ValueError, match="output_dir"):
        COCOEvaluator("no_coco_file")
    evaluator = COCOEvaluator(dataset)
    evaluator.process([{"image_id": 77}], perfect_model([{"image_id": 1}]))
    with pytest.raises(ValueError, match="image 77 is not in"):
        evaluator.evaluate()
    (tmp_path / "truth.json").write_text("{")
    with pytest.raises(ValueError, match="truncated"):
        COCOEvaluator(dataset)


def test_instances_become_coco_results():
    (first, *others) = instances_to_coco_json(noisy_model([{"image_id": 1}])[0]["instances"], 42)
    assert len(others) == 4 and first["image_id"] == 42
    truth = noisy_model([{"image_id": 1}])[0]["instances"]
    xywh = BoxMode.convert(truth.pred_boxes.tensor[0].tolist(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert first["bbox"] == pytest.approx(xywh) and json.dumps(first)
    np.testing.assert_array_equal(coco_mask.decode(first["segmentation"]), truth.pred_masks[0])


def test_published_scores_of_coco_are_met(real_data):
    folder = real_data / "predictions" / "coco_val2014_100"
    results = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    name = "published_scores_test"
    MetadataCatalog.get(name).set(json_file=str(folder / "instances_val2014_100.json"))
    evaluator = COCOEvaluator(name, tasks=("segm",))
    evaluator.reset()
    evaluator._predictions = [{"image_id": r["image_id"], "instances": [r]} for r in results]
    found = evaluator.evaluate()["segm"]
    MetadataCatalog.remove(name)
    table = (folder / "val2014_fake_eval_res.txt").read_text()
    segm = table[table.index("segm") :] if "segm" in table else table
    published = [float(v) for v in re.findall(r"= (-?\d\.\d+)", segm)][:6]
    assert [found[n] / 100 for n in ("AP", "AP50", "AP75", "APs", "APm", "APl")] == pytest.approx(published, abs=6e-4)


def brute_force_iou(name: str, model) -> dict[str, float]:
    counts = {c: [0, 0, 0] for c in range(3)}
    for entry in DatasetCatalog.get(name):
        predicted = model([entry])[0]["sem_seg"].argmax(0).numpy()
        truth = labels_of(entry["image_id"])
        for c in counts:
            p, t = (predicted == c) & (truth != 255), truth == c
            counts[c] = np.add(counts[c], [(p & t).sum(), (p | t).sum(), t.sum()])
    return {f"IoU-{CLASSES[c]}": 100 * i / u for c, (i, u, _) in counts.items()} | {
        "pACC": 100 * sum(v[0] for v in counts.values()) / sum(v[2] for v in counts.values())
    }


def test_semantic_scores_are_brute_forces(dataset, tmp_path):
    output = tmp_path / "out"
    scores = run(SemSegEvaluator(dataset, output_dir=str(output)), noisy_model, dataset)["sem_seg"]
    expected = brute_force_iou(dataset, noisy_model)
    assert {k: scores[k] for k in expected} == pytest.approx(expected)
    assert scores["mIoU"] == pytest.approx(np.mean([scores[f"IoU-{c}"] for c in CLASSES]))
    assert scores["mACC"] == pytest.approx(np.mean([scores[f"ACC-{c}"] for c in CLASSES]))
    assert 30 < scores["mIoU"] < 99
    records = json.loads((output / "sem_seg_predictions.json").read_text())
    whole = sum(coco_mask.decode(r["segmentation"]).astype(int) for r in records if r["file_name"] == "2.png")
    assert (whole == 1).all(), "the masks of an image are a partition"
    rle = next(r for r in records if r["file_name"] == "2.png" and r["category_id"] == 1)["segmentation"]
    predicted = noisy_model([{"image_id": 2}])[0]["sem_seg"].argmax(0).numpy()
    np.testing.assert_array_equal(coco_mask.decode(rle), predicted == 1)


def test_perfect_labels_score_100_whatever_is_ignored(dataset):
    scores = run(SemSegEvaluator(dataset), perfect_model, dataset)["sem_seg"]
    assert [scores[k] for k in ("mIoU", "fwIoU", "mACC", "pACC")] == pytest.approx([100] * 4)


def test_absent_classes_are_left_out_of_the_mean(dataset):
    MetadataCatalog.get(dataset).__dict__["stuff_classes"] = [*CLASSES, "unicorn"]

    def model(inputs):
        return [{"sem_seg": torch.cat([o["sem_seg"], torch.zeros(1, HEIGHT, WIDTH)])} for o in perfect_model(inputs)]

    scores = run(SemSegEvaluator(dataset), model, dataset)["sem_seg"]
    assert scores["mIoU"] == pytest.approx(100) and np.isnan(scores["IoU-unicorn"])


@embedded_only
def test_semantic_evaluator_names_bad_labels(dataset, tmp_path):
    Image.fromarray(np.full((HEIGHT, WIDTH), 9, dtype=np.uint8)).save(tmp_path / "0_labels.png")
    with pytest.raises(ValueError, match="0_labels.png holds labels 9 to 9"):
        run(SemSegEvaluator(dataset), perfect_model, dataset)
    Image.fromarray(np.zeros((5, WIDTH), dtype=np.uint8)).save(tmp_path / "0_labels.png")
    with pytest.raises(ValueError, match="equally large"):
        run(SemSegEvaluator(dataset), perfect_model, dataset)
    assert not any("Boundary" in key for key in run_names(dataset, tmp_path))


def run_names(dataset: str, folder: Path) -> list[str]:
    Image.fromarray(labels_of(0)).save(folder / "0_labels.png")
    return list(run(SemSegEvaluator(dataset), perfect_model, dataset)["sem_seg"])


def evaluate_half(rank: int, folder: str) -> None:
    """Half of the images, in a process of its own; the main process saves the results."""
    from detectron2.utils import comm

    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for turn in range(2):
        if turn == rank:
            register(Path(folder), "evaluation_two")
        comm.synchronize()
    loader = build_detection_test_loader(DatasetCatalog.get("evaluation_two"), mapper=lambda x: x)
    output = os.path.join(folder, "two")
    evaluators = DatasetEvaluators(
        [COCOEvaluator("evaluation_two", output_dir=output), SemSegEvaluator("evaluation_two", output_dir=output)]
    )
    results = inference_on_dataset(noisy_model, loader, evaluators)
    assert bool(results) == (rank == 0)
    if rank == 0:
        torch.save(results, f"{folder}/two.pth")
    comm.synchronize()  # the rendezvous file goes with the first process that leaves
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_results_of_one(dataset, tmp_path):
    """Image 7 of 7 falls to the first process: an odd number, and no image is counted twice."""
    output = str(tmp_path / "one")
    evaluators = DatasetEvaluators(
        [COCOEvaluator(dataset, output_dir=output), SemSegEvaluator(dataset, output_dir=output)]
    )
    loader = build_detection_test_loader(DatasetCatalog.get(dataset), mapper=lambda x: x)
    one = inference_on_dataset(noisy_model, loader, evaluators)
    (tmp_path / "both").mkdir()
    path = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__]
    started = [subprocess.Popen([*command, str(rank), str(tmp_path / "both")], env=path) for rank in range(2)]
    assert [process.wait(120) for process in started] == [0, 0]
    two = torch.load(tmp_path / "both" / "two.pth", weights_only=False)
    for task, scores in one.items():
        assert two[task] == pytest.approx(scores, nan_ok=True, abs=1e-12)
    for file in ("coco_instances_results.json", "sem_seg_predictions.json"):
        assert (tmp_path / "both" / "two" / file).read_text() == (tmp_path / "one" / file).read_text()


if __name__ == "__main__":
    evaluate_half(int(sys.argv[1]), sys.argv[2])
