"""The launcher's own metrics: perfect predictions score 100, several processes score as one."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image

from pnm.errors import UserError
from pnm.metrics.metric_values import MetricValues
from pnm.metrics.semantic_metrics import SemanticMetrics
from pnm.projects.launcher.evaluation.metric_evaluators import (
    InstanceMetricsEvaluator,
    SemanticMetricsEvaluator,
    reported,
)

NAME = "metric_evaluators_test"


@pytest.fixture
def labels(tmp_path):
    """A registered semantic data set of three label maps; yields the maps by image file."""
    generator, maps, records = np.random.default_rng(0), {}, []
    for k in range(3):
        maps[f"{k}.jpg"] = generator.integers(0, 4, (4, 6), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        Image.fromarray(maps[f"{k}.jpg"]).save(tmp_path / f"{k}.png")
        records.append({"file_name": f"{k}.jpg", "sem_seg_file_name": str(tmp_path / f"{k}.png")})
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(stuff_classes=["a", "b", "c", "b-c"], ignore_label=255, evaluator_type="sem_seg")
    yield maps
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def logits_of(labels):
    return torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), 4).permute(2, 0, 1).float()


def run(evaluator, predictions):
    evaluator.reset()
    for file, labels in predictions.items():
        evaluator.process([{"file_name": file}], [{"sem_seg": logits_of(labels)}])
    return evaluator.evaluate()


def test_perfect_maps_score_100(labels):
    result = run(SemanticMetricsEvaluator(NAME), labels)["semantic_metrics"]
    assert {"mIoU", "PNM_IoU", "PNM_IoU-a", "IoU-b-c"} <= result.keys()
    assert all(value == pytest.approx(100) for value in result.values())


def test_wrong_maps_score_as_the_metric_does(labels):
    wrong = {file: np.roll(map_, 3, axis=1) for file, map_ in labels.items()}
    result = run(SemanticMetricsEvaluator(NAME), wrong)["semantic_metrics"]
    metric = SemanticMetrics(4)
    for file, map_ in wrong.items():
        metric.update(map_, labels[file])
    expected = metric.compute()
    for ours, theirs in (("mIoU", "mIoU"), ("Boundary_IoU", "Boundary-IoU"), ("Boundary_F_1px", "Boundary-F-1px")):
        assert result[ours] == pytest.approx(100 * expected[theirs])
    assert 0 < result["Boundary_IoU"] < result["mIoU"] < 100


def test_a_damaged_label_file_is_told(labels, tmp_path):
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="1.png"):
        run(SemanticMetricsEvaluator(NAME), labels)


def test_names_of_classes_keep_their_hyphens():
    values = MetricValues({"Boundary-IoU": 0.5}, {"Boundary-IoU": {"t-shirt": 0.25, "shirt": 0.75}})
    result = reported(values)
    assert result == {"Boundary_IoU": 50, "Boundary_IoU-t-shirt": 25, "Boundary_IoU-shirt": 75}
    assert result.means == {"Boundary_IoU": 50}


@pytest.fixture
def instances(tmp_path):
    """A registered COCO data set of two images, the second one empty; yields the ground truth as Instances."""
    mask = np.zeros((40, 50), bool)
    mask[5:30, 10:40] = True
    polygon = [[10.0, 5, 40, 5, 40, 30, 10, 30]]
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": polygon, "area": 750, "iscrowd": 0}
    content = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 50} for k in (7, 8)],
        "annotations": [{**annotation, "bbox": [10, 5, 30, 25]}],
        "categories": [{"id": 3, "name": "thing"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    settings = {"json_file": str(tmp_path / "coco.json"), "thing_dataset_id_to_contiguous_id": {3: 0}}
    MetadataCatalog.get(NAME).set(evaluator_type="coco", **settings)
    yield mask
    MetadataCatalog.remove(NAME)


def detections(mask):
    masks = torch.from_numpy(mask)[None]
    boxes, scores = Boxes(torch.tensor([[10.0, 5, 40, 30]])), torch.tensor([0.9])
    return Instances(mask.shape, pred_masks=masks, pred_boxes=boxes, scores=scores, pred_classes=torch.tensor([0]))


def test_instances(instances):
    def score(mask):
        evaluator = InstanceMetricsEvaluator(NAME)
        evaluator.process([{"image_id": 7}], [{"instances": detections(mask)}])
        evaluator.process([{"image_id": 8}], [{"instances": detections(mask)[:0]}])
        return evaluator.evaluate()["segm_metrics"]

    perfect = score(instances)
    assert all(perfect[name] == pytest.approx(100) for name in ("AP", "AP90", "Boundary_AP", "AF", "AP-thing"))
    shifted = score(np.roll(instances, 3, axis=1))
    assert 0 < shifted["AP"] < 100 and shifted["AP90"] == 0 and shifted["Boundary_AP"] < shifted["AP"]
