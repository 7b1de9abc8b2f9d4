"""Pictures of the validation set in the event file, which change nothing of the training."""

import json

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SMALL = "SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 SOLVER.MAX_ITER 4 TEST.EVAL_PERIOD 2"


def pictures(folder):
    """``{tag: {iteration: (H, W, 3) uint8}}`` of the event file."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    images = {tag: events.Images(tag) for tag in events.Tags()["images"]}
    decoded = {}
    for tag, list_of_events in images.items():
        decoded[tag] = {}
        for event in list_of_events:
            (folder / "picture.png").write_bytes(event.encoded_image_string)
            with Image.open(folder / "picture.png") as image:
                decoded[tag][event.step] = np.asarray(image.convert("RGB"))
    return decoded


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text("utf-8").splitlines()]
    return [row["total_loss"] for row in rows if "total_loss" in row]


@pytest.mark.parametrize("config", ["mask_rcnn_R_18_FPN", "semantic_fpn_R_18", "panoptic_fpn_R_18"])
def test_truth_and_prediction_after_each_evaluation(train_net, shapes_root, tmp_path, config):
    done = train_net(f"{SMALL} TEST.VIS_IMAGES 2", config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    drawn = pictures(tmp_path / "run")
    assert sorted(drawn) == ["validation/000000.png", "validation/000005.png"]
    for tag, by_iteration in drawn.items():
        assert sorted(by_iteration) == [1, 3]
        with Image.open(shapes_root / "shapes/images/val" / tag.removeprefix("validation/")) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        height, width = pixels.shape[:2]
        for picture in by_iteration.values():
            assert picture.shape == (height, 2 * width + 6, 3)
            assert (np.abs(picture[:, :width] - pixels).max(axis=2) > 20).any()  # the truth is drawn
        np.testing.assert_array_equal(by_iteration[1][:, :width], by_iteration[3][:, :width])
    if config != "semantic_fpn_R_18":
        return
    plain = train_net(f"{SMALL} OUTPUT_DIR {tmp_path / 'plain'}", config=config)
    assert plain.returncode == 0 and losses(tmp_path / "plain") == losses(tmp_path / "run")


def test_a_refiner_shows_what_it_makes(train_net, shapes_root, tmp_path):
    files = {}
    for split in ("train", "val"):
        truth = json.loads((shapes_root / f"shapes/annotations/instances_{split}.json").read_text("utf-8"))
        keys = ("image_id", "category_id", "segmentation", "bbox")
        rows = [{**{key: row[key] for key in keys}, "score": 0.9} for row in truth["annotations"]]
        files[split] = tmp_path / f"{split}.json"
        files[split].write_text(json.dumps(rows), "utf-8")
    words = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 2 TEST.VIS_IMAGES 1 MODEL.BPR.MATCH_IOU 0.5"
    data = f"DATASETS.PREDICTIONS_TRAIN ('{files['train']}',) DATASETS.PREDICTIONS_TEST ('{files['val']}',)"
    done = train_net(f"{words} {data.replace(chr(39), chr(92) + chr(39))}", config="bpr_instance")
    assert done.returncode == 0, done.stdout[-3000:]
    assert [list(steps) for steps in pictures(tmp_path / "run").values()] == [[1]]
