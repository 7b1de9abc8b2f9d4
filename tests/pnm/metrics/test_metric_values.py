"""Means and classes stay apart, whatever the classes are called."""

import pickle

import numpy as np

from pnm.metrics.instance_ap import InstanceMetrics
from pnm.metrics.metric_values import MetricValues
from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.metrics.semantic_metrics import SemanticMetrics

NAMES = ["a", "b", "b-a", "IoU-b"]  # names that end as others begin


def test_a_dict_that_keeps_classes_apart():
    values = MetricValues({"mIoU": 1, "IoU": 2}, {"IoU": {"a": 3, "b-a": 4}})
    assert values == {"mIoU": 1, "IoU": 2, "IoU-a": 3, "IoU-b-a": 4}
    doubled = values.map(lambda value: 2 * value)
    assert doubled.means == {"mIoU": 2, "IoU": 4} and doubled.by_class == {"IoU": {"a": 6, "b-a": 8}}
    both = values.joined(doubled, "COCO-")
    assert both["COCO-IoU-b-a"] == 8 and both.by_class["COCO-IoU"] == {"a": 6, "b-a": 8} and both["mIoU"] == 1
    again = pickle.loads(pickle.dumps(both))
    assert again == both and again.by_class == both.by_class


def test_every_metric_gives_rows_of_all_classes():
    labels = np.arange(4).repeat(25).reshape(10, 10)
    semantic = SemanticMetrics(4, class_names=NAMES)
    semantic.update(labels, labels)
    panoptic = PanopticQuality({k: True for k in range(4)}, class_names=dict(enumerate(NAMES)), boundary_px=1)
    segments = [{"id": k + 1, "category_id": k} for k in range(4)]
    panoptic.update(labels + 1, segments, labels + 1, segments)
    instance = InstanceMetrics([0, 1, 2, 3], class_names=NAMES)
    rows = [{"category_id": k, "segmentation": labels == k, "score": 1.0} for k in range(4)]
    instance.update(1, 10, 10, rows, rows)
    for metric in (semantic, panoptic, instance):
        values = metric.compute()
        assert all(list(row) == NAMES for row in values.by_class.values())
        assert len(values) == len(values.means) + 4 * len(values.by_class)
    assert set(semantic.compute().by_class) == {
        "IoU", "ACC", "PNM-IoU", "Boundary-IoU", "Boundary-F-1px", "Boundary-F-2px", "Boundary-F-3px"
    }  # fmt: skip
    assert set(panoptic.compute().by_class) == {f"{b}{q}" for b in ("", "Boundary-") for q in ("PQ", "SQ", "RQ")}
    assert set(instance.compute().by_class) == {"AP", "Boundary-AP", "AF"}
