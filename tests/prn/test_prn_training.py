"""Training, evaluation, refinement through the programs: predictions, degraded truth, processes, chains, resuming."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.formats.label_png import read_panoptic_png
from pnm.predictions import open_predictions

ROOT = Path(__file__).resolve().parents[2]
SHORT = "SOLVER.MAX_ITER 4 SOLVER.IMS_PER_BATCH 4 SOLVER.CHECKPOINT_PERIOD 2 MODEL.PRN.SIGMA 2.0"
SHORT += " MODEL.PRN.ENCODER_WIDTH 8 MODEL.PRN.INPUT_WIDTH 8 MODEL.PRN.DECODER_WIDTH 8 MODEL.PRN.HEAD_WIDTH 8"
SHORT += " INPUT.MIN_SIZE_TRAIN (96,) INPUT.MIN_SIZE_TEST 96"
VAL = "shapes_val_panoptic"


def quoted(*values):
    return "'(" + "".join(f'"{value}",' for value in values) + ")'"


@pytest.fixture(scope="module")
def predictions(shapes_root, tmp_path_factory):
    """{split: result file}: the truth, its segments moved by some pixels."""
    folder, files = tmp_path_factory.mktemp("predictions"), {}
    for split in ("train", "val"):
        content = json.loads((shapes_root / f"shapes/annotations/panoptic_{split}.json").read_text())
        (folder / split).mkdir()
        for annotation in content["annotations"]:
            ids = read_panoptic_png(shapes_root / f"shapes/panoptic_{split}" / annotation["file_name"])
            moved = np.pad(ids, ((0, 0), (3, 0)), mode="edge")[:, :-3]
            present = set(np.unique(moved).tolist())
            annotation["segments_info"] = [
                {"id": s["id"], "category_id": s["category_id"], "score": 0.5, "mine": s["id"] * 2}
                for s in annotation["segments_info"]
                if s["id"] in present
            ]
            Image.fromarray(ids_to_rgb(moved)).save(folder / split / annotation["file_name"])
        files[split] = folder / f"{split}.json"
        files[split].write_text(json.dumps({**content, "annotations": content["annotations"]}))
    return files


def settings(predictions, *, train=True):
    files = f"DATASETS.PREDICTIONS_TEST {quoted(predictions['val'])}"
    return f"{SHORT} {files} DATASETS.PREDICTIONS_TRAIN {quoted(predictions['train']) if train else '()'}"


def run_refine(*words):
    command = [sys.executable, "tools/refine.py", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


@pytest.fixture(scope="module")
def trained(shapes_root, predictions, tmp_path_factory):
    """Folder of a run that trained and evaluated."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, "train_net.py", "--config-file", "configs/quickstart/prn.yaml", "OUTPUT_DIR", folder]
    words = settings(predictions).replace("'", "").split()
    environment = os.environ | {"DETECTRON2_DATASETS": str(shapes_root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*map(str, command), "DATALOADER.NUM_WORKERS", "0", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def refine_words(trained, *more):
    pairs = zip(SHORT.split()[::2], SHORT.split()[1::2])
    small = [word for pair in pairs if not pair[0].startswith("SOLVER") for word in pair]
    return ["--config-file", "configs/quickstart/prn.yaml", *more, "MODEL.WEIGHTS", trained / "model_final.pth", *small]


def test_it_trains_evaluates_and_writes_results(trained, shapes_root):
    logged = (trained / "metrics.json").read_text()
    assert all(f"loss_prn_{name}" in logged for name in ("semantic", "center", "offset", "box", "foreground"))
    results = trained / "inference" / VAL
    content = json.loads((results / "predictions.json").read_text())
    assert len(content["annotations"]) == 6
    for annotation in content["annotations"]:
        ids = read_panoptic_png(results / "panoptic" / annotation["file_name"])
        assert {s["id"] for s in annotation["segments_info"]} == set(np.unique(ids).tolist()) - {0}
    assert "NUM_THINGS: 4" in (trained / "config.yaml").read_text()


def test_files_are_refined_as_in_evaluation_and_keep_what_they_had(trained, predictions, shapes_root, tmp_path):
    """Ids, scores and further keys of segments that are the same; sizes of all follow."""
    images, output = shapes_root / "shapes/images/val", tmp_path / "refined.json"
    words = refine_words(trained, "--images", images, "--predictions", predictions["val"], "--output", output)
    run_refine(*words)
    refined, base = open_predictions(output), open_predictions(predictions["val"])
    evaluated = open_predictions(trained / "inference" / VAL / "predictions.json")
    for key in base.keys:
        assert np.array_equal(refined.read(key).labels, evaluated.read(key).labels)
    before = {a["image_id"]: a for a in json.loads(predictions["val"].read_text())["annotations"]}
    for annotation in json.loads(output.read_text())["annotations"]:
        old = {s["id"]: s for s in before[annotation["image_id"]]["segments_info"]}
        for segment in annotation["segments_info"]:
            if segment["id"] in old:
                assert segment == old[segment["id"]]
            else:
                assert segment["id"] > max(old) and segment["area"] > 0 and "score" not in segment


def test_a_chain_with_segfix_and_a_second_prn(trained, predictions, shapes_root, train_net, tmp_path):
    done = train_net("SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2 DATASETS.TEST ()", config="segfix")
    assert done.returncode == 0, done.stdout[-2000:]
    images = shapes_root / "shapes/images/val"
    prn = refine_words(trained)[1:]
    segfix = ["configs/quickstart/segfix.yaml", "MODEL.WEIGHTS", tmp_path / "run/model_final.pth"]
    for name, first, second in (("a", prn, segfix), ("b", segfix, prn), ("c", prn, prn)):
        output = tmp_path / f"{name}.json"
        files = ["--images", images, "--predictions", predictions["val"], "--output", output]
        run_refine("--config-file", first[0], *files, *first[1:], "--then", *second)
        refined, base = open_predictions(output), open_predictions(predictions["val"])
        for key in base.keys:
            after, largest = refined.read(key), max(base.read(key).segments)
            assert all(n in base.read(key).segments or n > largest for n in after.segments)
            assert (after.labels > 0).all()


def test_numbers_from_0_on_as_detr_writes_them(trained, predictions, shapes_root, tmp_path):
    """The same maps, ids from 0: the same result, ids from 0."""
    content, folder = json.loads(predictions["val"].read_text()), tmp_path / "detr"
    folder.mkdir()
    number_of = {}
    for annotation in content["annotations"]:
        name, rows = annotation["file_name"], annotation["segments_info"]
        number_of[annotation["image_id"]] = {row["id"]: number for number, row in enumerate(rows)}
        ids = read_panoptic_png(predictions["val"].with_suffix("") / name)
        moved = np.zeros_like(ids)
        for number, row in enumerate(rows):
            moved[ids == row["id"]] = number
            row["id"] = number
        assert (ids > 0).all()
        Image.fromarray(ids_to_rgb(moved)).save(folder / name)
    (tmp_path / "detr.json").write_text(json.dumps(content))
    outputs = []
    for source in (predictions["val"], tmp_path / "detr.json"):
        outputs.append(tmp_path / f"{source.stem}_refined.json")
        images = shapes_root / "shapes/images/val"
        run_refine(*refine_words(trained, "--images", images, "--predictions", source, "--output", outputs[-1]))
    one, other = map(open_predictions, outputs)
    for key in one.keys:
        a, b = one.read(key), other.read(key)
        pairs = set(zip(a.labels.ravel().tolist(), b.labels.ravel().tolist()))
        assert len(pairs) == len(a.segments) == len(b.segments)
    ids = [
        {a["image_id"]: {s["id"] for s in a["segments_info"]} for a in json.loads(path.read_text())["annotations"]}
        for path in outputs
    ]
    for image, numbers in number_of.items():
        kept = {number for id_, number in numbers.items() if id_ in ids[0][image]}
        assert kept == ids[1][image] & set(numbers.values())


def test_one_mask_is_refused_before_a_network_is_loaded(trained, tmp_path, shapes_root):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "mask.png")
    words = refine_words(trained, "--image", tmp_path / "mask.png", "--mask", tmp_path / "mask.png")
    command = [sys.executable, "tools/refine.py", *words[:6], "--output", tmp_path / "o.png", "MODEL.WEIGHTS", "no.pth"]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "it takes panoptic result files, a JSON and its PNGs" in done.stderr


def test_an_unknown_category_is_told_before_the_work(trained, predictions, shapes_root, tmp_path):
    content = json.loads(predictions["val"].read_text())
    content["annotations"][-1]["segments_info"][-1]["category_id"] = 99
    (tmp_path / "other.json").write_text(json.dumps(content))
    (tmp_path / "other").symlink_to(predictions["val"].with_suffix(""))
    files = ["--images", shapes_root / "shapes/images/val", "--predictions", tmp_path / "other.json"]
    words = refine_words(trained, *files, "--output", tmp_path / "o.json")
    done = subprocess.run(
        [sys.executable, "tools/refine.py", *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "error: the prediction has categories [99]" in done.stderr
    assert not (tmp_path / "o.json.partial").exists() or not list((tmp_path / "o.json.partial").iterdir())


def test_pictures_of_the_way_through_the_model(trained, predictions, shapes_root, tmp_path):
    words = refine_words(trained, "--images", shapes_root / "shapes/images/val", "--predictions", predictions["val"])
    command = [sys.executable, "tools/visualize_prn.py", *words[:6], "--num", "2", "--output", tmp_path / "page.png"]
    done = subprocess.run([*map(str, [*command, *words[6:]])], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with Image.open(tmp_path / "page.png") as page:
        assert page.size == (10 * 206 - 6, 16 + 2 * 156 - 6)


@pytest.mark.parametrize("more", ["", " MODEL.PNM.ENABLED True", " MODEL.PRN.LOSS_STRIDE 4 MODEL.PRN.HEAD_CONV full"])
def test_it_trains_on_degraded_truth_alone(train_net, predictions, tmp_path, more):
    done = train_net(f"{settings(predictions, train=False)} DATASETS.TEST (){more}", config="prn")
    assert done.returncode == 0, done.stdout[-3000:]
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    assert all(np.isfinite(row["total_loss"]) for row in rows)


def test_pixel_weights_and_predictions_together(train_net, predictions):
    done = train_net(f"{settings(predictions)} DATASETS.TEST () MODEL.PNM.ENABLED True", config="prn")
    assert done.returncode == 0 and "predictions for 12 of 12 images" in done.stdout, done.stdout[-3000:]


def test_two_processes_refine_as_one(trained, train_net, predictions, tmp_path):
    words = f"{settings(predictions)} MODEL.WEIGHTS {trained / 'model_final.pth'}"
    done = train_net("--eval-only", "--num-gpus", "2", words, config="prn")
    assert done.returncode == 0, done.stdout[-3000:]
    one, other = (
        open_predictions(folder / "inference" / VAL / "predictions.json") for folder in (trained, tmp_path / "run")
    )
    assert set(one.keys) == set(other.keys)
    for key in one.keys:
        assert np.array_equal(one.read(key).labels, other.read(key).labels)


def test_two_processes_train(train_net, predictions, tmp_path):
    done = train_net("--num-gpus", "2", f"{settings(predictions)} DATASETS.TEST ()", config="prn")
    assert done.returncode == 0, done.stdout[-3000:]
    assert np.isfinite(json.loads((tmp_path / "run/metrics.json").read_text().splitlines()[-1])["total_loss"])


def test_a_run_goes_on_as_if_undisturbed(train_net, predictions, tmp_path):
    words = f"{settings(predictions)} DATASETS.TEST ()"
    for folder in ("whole", "parts"):
        done = train_net(f"{words} OUTPUT_DIR {tmp_path / folder}", config="prn")
        assert done.returncode == 0, done.stdout[-3000:]
    for name in ("model_final.pth", "model_0000003.pth"):
        (tmp_path / "parts" / name).unlink()
    (tmp_path / "parts/last_checkpoint").write_text("model_0000001.pth")
    done = train_net("--resume", f"{words} OUTPUT_DIR {tmp_path / 'parts'}", config="prn")
    assert done.returncode == 0, done.stdout[-3000:]
    one, other = (
        torch.load(tmp_path / folder / "model_final.pth", weights_only=True)["model"] for folder in ("whole", "parts")
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DATASETS.PREDICTIONS_TEST ()", "nothing to refine: name the result files of DATASETS.TEST in"),
        ("MODEL.PRN.ENCODER resnet20", "MODEL.PRN.ENCODER is 'resnet20', expected one of resnet10"),
        ("MODEL.PRN.CENTER_BOX mean", "the box of a centre is 'mean', expected one of votes, center"),
        ("MODEL.PRN.NUM_THINGS -1", "MODEL.PRN.NUM_THINGS is -1, expected 0 to 254"),
        ("MODEL.PRN.DEGRADED_STRENGTH 1e9", "MODEL.PRN.DEGRADED_STRENGTH is 1000000000.0, expected 0 to 10"),
        ("MODEL.PRN.CENTER_LOSS_WEIGHT -5.0", "MODEL.PRN.CENTER_LOSS_WEIGHT is -5.0, expected 0 to 1000000.0"),
        ("INPUT.MIN_SIZE_TEST -1", "INPUT.MIN_SIZE_TEST is -1"),
        ("MODEL.PRN.NUM_THINGS 5", "MODEL.PRN.NUM_THINGS is 5, but data set shapes_train_panoptic has 4"),
        ("MODEL.PRN.LOSS_STRIDE 3", "MODEL.PRN.LOSS_STRIDE is 3, expected 1 or 4"),
        ("DATASETS.TRAIN \"('shapes_train',)\"", "data set shapes_train has no panoptic annotations"),
        ("MODEL.PNM.ENABLED True MODEL.PNM.SOURCE offline", "weights of its own labels: leave both keys away"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(train_net, predictions, change, message):
    done = train_net(f"{settings(predictions)} {change}", config="prn")
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 2 and last.startswith("error: ") and message in last, done.stdout[-2000:]
