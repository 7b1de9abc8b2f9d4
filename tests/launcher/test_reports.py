"""``TEST.REPORT``: a page beside the result files, with the numbers that the evaluation gives."""

import json
import re

import pytest

SMALL = "SOLVER.IMS_PER_BATCH 4 INPUT.MIN_SIZE_TRAIN (96,) INPUT.MIN_SIZE_TEST 96 INPUT.RANDOM_FLIP none"
DATA_SETS = {
    "mask_rcnn_R_18_FPN": ("shapes_val", "instance", "segm_metrics/AF", "AF"),
    "semantic_fpn_R_18": ("shapes_val_sem_seg", "semantic", "semantic_metrics/Boundary_IoU", "Boundary-IoU"),
    "panoptic_fpn_R_18": ("shapes_val_panoptic", "panoptic", "panoptic_seg/Boundary_PQ", "Boundary-PQ"),
}


def numbers_of(page):
    return json.loads(re.search(r'id="numbers">(.*?)</script>', page.read_text("utf-8"))[1])


@pytest.mark.parametrize("config", DATA_SETS)
def test_a_run_leaves_a_report(train_net, tmp_path, config):
    done = train_net(f"{SMALL} SOLVER.MAX_ITER 2 TEST.REPORT True", config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    name, task, logged, metric = DATA_SETS[config]
    numbers = numbers_of(tmp_path / "run/inference" / name / "report.html")
    assert numbers["task"] == task and numbers["images"] == 6 and numbers["mismatches"] == []
    last = json.loads((tmp_path / "run/metrics.json").read_text().splitlines()[-1])
    key = next(key for key in last if key.endswith(logged.partition("/")[2]) and logged.partition("/")[0] in key)
    assert 100 * numbers["metrics"][metric]["value"] == pytest.approx(last[key], abs=1e-3)
