"""Every value of a result file replaced in turn: the command scores what is left or says in one line what is wrong."""

import copy
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from pnm.formats.cityscapes import prediction_lines, write_cityscapes_predictions
from pnm.formats.coco_panoptic import ids_to_rgb

NOTHING = object()
VALUES = (NOTHING, None, "x", "", -1, 0, 1.5, True, [], {}, [[]], 10**30, float("nan"), float("inf"))
SQUARE = [[4, 4, 14, 4, 14, 14, 4, 14]]


def places(content, at=()):
    """Paths of all values in a JSON's content, the whole first."""
    yield at
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield from places(content[key], (*at, key))


def replaced(content, at, value):
    if not at:
        return None if value is NOTHING else value
    changed = copy.deepcopy(content)
    parent = changed
    for key in at[:-1]:
        parent = parent[key]
    if value is NOTHING:
        del parent[at[-1]]
    else:
        parent[at[-1]] = value
    return changed


@pytest.fixture
def outcome(evaluate_tool, monkeypatch, capsys, tmp_path):
    """``outcome(arguments)``: "scored" or "told"; all else fails the test."""

    def run(*arguments):
        output = tmp_path / "out.json"
        output.unlink(missing_ok=True)
        monkeypatch.setattr(
            sys, "argv", ["evaluate.py", *map(str, arguments), "--workers", "1", "--output", str(output)]
        )
        try:
            evaluate_tool.main()
        except SystemExit as ended:
            lines = capsys.readouterr().err.strip().splitlines()
            assert ended.code == 2 and lines[-1].startswith("error: ") and not output.exists()
            assert max(map(len, lines)) < 1000
            return "told"
        metrics = json.loads(output.read_text(), parse_constant=pytest.fail)["metrics"]
        assert all(value is None or 0 <= value <= 1 for value in metrics.values())
        return "scored"

    return run


def fuzz(path, outcome, *arguments):
    """Outcomes of all replacements in a JSON file, by the path of the value."""
    content, outcomes = json.loads(path.read_text()), {}
    for at in places(content):
        for value in VALUES:
            path.write_text(json.dumps(replaced(content, at, value)))
            try:
                result = outcome(*arguments)
            except BaseException as error:
                raise AssertionError(f"{path.name}: {at} replaced by {value!r}") from error
            outcomes.setdefault(at, []).append(result)
    path.write_text(json.dumps(content))
    assert outcome(*arguments) == "scored"
    return outcomes


@pytest.fixture
def coco(tmp_path):
    image = {"id": 1, "height": 20, "width": 30, "file_name": "1.jpg"}
    truth = {
        "id": 3,
        "image_id": 1,
        "category_id": 5,
        "segmentation": SQUARE,
        "iscrowd": 0,
        "area": 100,
        "bbox": [4] * 4,
    }
    crowd = {
        "id": 4,
        "image_id": 1,
        "category_id": 5,
        "iscrowd": 1,
        "segmentation": {"size": [20, 30], "counts": [600]},
    }
    gt = {"images": [image], "annotations": [truth, crowd], "categories": [{"id": 5, "name": "dog"}]}
    rle = {"size": [20, 30], "counts": [80, 100, 420]}
    results = [
        {"image_id": 1, "category_id": 5, "segmentation": SQUARE, "score": 0.9, "bbox": [4, 4, 10, 10]},
        {"image_id": 1, "category_id": 5, "segmentation": rle, "score": 0.5},
    ]
    for name, content in (("results", results), ("gt", gt)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path / "results.json", tmp_path / "gt.json"


@pytest.mark.parametrize("side", [0, 1])
def test_coco_files(side, coco, outcome):
    arguments = ("instance", "--pred", coco[0], "--gt", coco[1], "--metrics", "segm", "boundary", "af", "bbox")
    outcomes = fuzz(coco[side], outcome, *arguments)
    assert {"told", "scored"} == {result for results in outcomes.values() for result in results}


@pytest.fixture
def panoptic(tmp_path):
    ids = np.zeros((20, 30), np.int64)
    ids[2:12, 3:20], ids[12:] = 300, 7
    segments = [{"id": 300, "category_id": 1, "iscrowd": 0, "area": 170, "bbox": [3, 2, 17, 10]}]
    segments += [{"id": 7, "category_id": 2}]
    annotations = [{"image_id": 1, "file_name": "1.png", "segments_info": segments}]
    kinds = [{"id": 1, "name": "dog", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
    for name in ("gt", "predictions"):
        (tmp_path / name).mkdir()
        Image.fromarray(ids_to_rgb(ids)).save(tmp_path / name / "1.png")
        (tmp_path / f"{name}.json").write_text(json.dumps({"annotations": annotations, "categories": kinds}))
    return tmp_path / "predictions.json", tmp_path / "gt.json"


@pytest.mark.parametrize("side", [0, 1])
def test_panoptic_files(side, panoptic, outcome):
    outcomes = fuzz(panoptic[side], outcome, "panoptic", "--pred", panoptic[0], "--gt", panoptic[1])
    segment = ("annotations", 0, "segments_info", 0)
    for key in ("id", "category_id"):
        assert set(outcomes[(*segment, key)]) == {"told"}
    assert set(outcomes[(*segment, "area")]) == {"scored"}
    assert outcomes[("annotations",)].count("scored") == 0 and "told" in outcomes[(*segment, "iscrowd")]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            lambda c: c["annotations"][0]["segments_info"][0].update(iscrowd="x"),
            "300 has iscrowd 'x', expected 0",
        ),
        (lambda c: c["annotations"][0].update(segments_info={}), "segments_info a list in annotations[0]"),
        (lambda c: c.pop("annotations"), "it has no list of annotations, expected a COCO panoptic JSON"),
        (lambda c: c.update(categories=[]), "it has no list of categories"),
        (lambda c: c["categories"][1].update(id=1), "has category 1 twice: renumber one"),
        (
            lambda c: c["categories"][1].update(isthing="no"),
            "categories[1] has id 2 and isthing 'no', expected",
        ),
    ],
)
def test_panoptic_faults_are_named(edit, told, panoptic, evaluate):
    content = json.loads(panoptic[1].read_text())
    edit(content)
    panoptic[1].write_text(json.dumps(content))
    assert told in evaluate("panoptic", *panoptic, fails=True)


def test_semantic_json(tmp_path, outcome):
    entry = {"file_name": "1.jpg", "category_id": 0, "segmentation": {"size": [4, 5], "counts": [0, 12, 8]}}
    other = {**entry, "category_id": 1, "segmentation": {"size": [4, 5], "counts": [12, 8]}}
    (tmp_path / "pred.json").write_text(json.dumps([entry, other]))
    (tmp_path / "gt").mkdir()
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "gt/1.png")
    arguments = ("semantic", "--pred", tmp_path / "pred.json", "--gt", tmp_path / "gt", "--classes", 2)
    outcomes = fuzz(tmp_path / "pred.json", outcome, *arguments)
    assert set(outcomes[0, "category_id"]) == {"told", "scored"}


def test_cityscapes_text(tmp_path, outcome):
    ids = np.zeros((30, 40), np.uint16)
    ids[5:25, 5:25] = 26001
    (tmp_path / "gt").mkdir()
    Image.fromarray(ids).save(tmp_path / "gt/ulm_000000_000001_gtFine_instanceIds.png")
    text, txt = prediction_lines("ulm", [26, 24], [0.5, 0.25]), tmp_path / "pred/ulm_000000_000001_pred.txt"
    write_cityscapes_predictions(txt, text, [ids > 0, ids == 0])
    arguments = ("instance", "--cityscapes", "--pred", tmp_path / "pred", "--gt", tmp_path / "gt")
    values = [
        "",
        "x",
        "-1",
        "1.5",
        "1e99",
        "nan",
        "inf",
        "[]",
        "{}",
        "None",
        "../gt",
        "/",
        ".",
        "\0",
        "\ud800",
        "9" * 400,
    ]
    fields = list(re.finditer(r"[^ \n]+|[ \n]", text))
    scored = 0
    for field in fields:
        for value in values:
            spoilt = text[: field.start()] + value + text[field.end() :]
            txt.write_bytes(spoilt.encode(errors="surrogatepass"))
            scored += outcome(*arguments) == "scored"
    assert 0 < scored < len(fields) * len(values) / 2
    txt.write_text(text)
    assert outcome(*arguments) == "scored"
