"""The measure by which refiners are compared, on drawn objects: refiners whose result is known before."""

import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pnm.errors import UserError
from pnm.masks.runs import decode_masks
from pnm.metrics.boundary_mask_iou import boundary_iou

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("coarsening", "real_masks", "refining_groups", "classical_refiners", "universal")


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(FOLDER))
    try:
        return {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def measuring(modules):
    return modules["refining_groups"]


def drawn_mask(height: int = 160, width: int = 200) -> np.ndarray:
    """A ring with an arm."""
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (95, 80), 40, 1, -1)
    cv2.circle(mask, (95, 80), 14, 0, -1)
    cv2.rectangle(mask, (120, 70), (160, 85), 1, -1)
    return mask > 0


def two_colors(mask: np.ndarray) -> np.ndarray:
    image = np.where(mask[..., None], (200, 60, 40), (40, 90, 180)).astype(np.int16)
    return np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def cases(modules, measuring):
    """Two kinds of coarse mask of one object, and a perfect one."""
    mask = drawn_mask()
    nothing = np.zeros_like(mask)
    one = modules["real_masks"].RealMask(two_colors(mask), mask, nothing, 2, "ring")
    return {kind: [measuring.coarse_case(one, kind)] for kind in ("perfect", "shifted_edge", "polygon")}


def test_doing_nothing_gains_nothing(measuring, cases):
    rows = measuring.measure(lambda image, mask: mask, cases)
    assert [row.group for row in rows] == list(cases)
    for row in rows:
        assert row.boundary_iou_gain == row.iou_gain == row.lenient_gain == 0
        assert row.loses_iou == row.loses_boundary_iou == row.gains_boundary_iou == 0
    assert rows[0].iou == rows[0].boundary_iou == 100 and rows[1].boundary_iou < 95


def test_the_truth_scores_100(measuring, cases):
    for row in measuring.measure(lambda image, mask: drawn_mask(), cases):
        assert row.boundary_iou_refined == row.iou + row.iou_gain == 100
        assert row.gains_boundary_iou == (0 if row.group == "perfect" else 100)


def test_shares_of_a_refiner_that_destroys_one_of_four(measuring, cases):
    case = cases["polygon"][0]
    rounds = iter(range(4))
    rows = measuring.measure(lambda image, mask: mask & (next(rounds) != 2), {"four": [case] * 4})
    assert (rows[0].loses_iou, rows[0].loses_boundary_iou, rows[0].gains_boundary_iou) == (25, 25, 0)
    assert rows[0].boundary_iou_gain == pytest.approx(-rows[0].boundary_iou / 4)


def test_ignored_pixels_change_nothing(measuring, cases):
    case = cases["shifted_edge"][0]
    ignored = np.zeros_like(case.truth)
    ignored[:, :90] = True
    case = case._replace(ignored=ignored)
    other = case.coarse.copy()
    other[:, : 90 - 2 * case.boundary_px] ^= True
    assert measuring.scores(case, other) == measuring.scores(case, case.coarse)
    assert measuring.scores(case, case.truth).lenient == 1
    free = np.where(ignored, case.coarse, case.truth)  # right wherever it is known
    assert measuring.scores(case, free).iou == measuring.scores(case, free).lenient == 1


@pytest.mark.parametrize("px", [1, 3])
def test_boundary_iou_is_that_of_the_metrics(measuring, cases, px):
    case = cases["shifted_edge"][0]._replace(boundary_px=px)
    runs = decode_masks([case.coarse, case.truth], *case.truth.shape)
    assert measuring.scores(case, case.coarse).boundary_iou == pytest.approx(boundary_iou(runs, 0, runs, 1, px))


def test_what_is_no_mask_is_refused(measuring, cases):
    with pytest.raises(UserError, match=r"blur returned \(160, 200\) float64, expected \(160, 200\) bool"):
        measuring.measure(lambda image, mask: mask * 0.5, cases, "blur")


@pytest.mark.parametrize("frame", [False, True])
def test_coarse_masks_resemble_the_truth(modules, frame):
    mask = drawn_mask()[38:, 53:] if frame else drawn_mask()
    for name, kind in modules["coarsening"].KINDS.items():
        before = mask.copy()
        coarse = kind(mask, np.random.default_rng(5))
        iou = np.count_nonzero(coarse & mask) / np.count_nonzero(coarse | mask)
        assert coarse.dtype == np.bool_ and coarse.shape == mask.shape and (mask == before).all(), name
        assert iou == 1 if name == "perfect" else 0.7 < iou < 1, name


@pytest.mark.parametrize(
    "name", ["GrabCut", "guided filter", "guided filter, 4 px", "dense CRF", "dense CRF of DeepLab"]
)
def test_classical_refiners_mend_a_scene_of_two_colors(modules, measuring, cases, name):
    universal = modules["universal"]
    if not universal.IS_INSTALLED.get(name, lambda: True)():
        pytest.skip(f"{name} is not installed")
    row = measuring.measure(universal.REFINERS[name], {"shifted_edge": cases["shifted_edge"]})[0]
    assert row.boundary_iou_gain > 5 and row.iou_gain > 1


def test_masks_without_a_certain_pixel_stay(modules, measuring):
    image = np.zeros((9, 9, 3), np.uint8)
    for mask in (np.zeros((9, 9), np.bool_), np.ones((9, 9), np.bool_), np.eye(9, dtype=np.bool_)):
        assert (modules["classical_refiners"].grabcut(image, mask) == mask).all()


def camvid_folder(folder: Path) -> Path:
    """One image of three regions, the smallest too small, and void."""
    labels = np.full((120, 160), 4, np.uint8)
    labels[20:80, 30:90], labels[90:100, 100:140], labels[110:] = 8, 2, 11
    for name, pixels in (("trainannot", labels), ("train", two_colors(labels == 8)[:, :, ::-1])):
        (folder / "camvid" / name).mkdir(parents=True)
        cv2.imwrite(str(folder / "camvid" / name / "one.png"), pixels)
    return folder


def test_regions_of_a_folder(measuring, tmp_path):
    groups = measuring.groups(camvid_folder(tmp_path))
    assert set(groups) == {f"camvid/{kind}" for kind in measuring.KINDS}
    background, ring = groups["camvid/perfect"]
    assert np.count_nonzero(ring.truth) == 60 * 60 and np.count_nonzero(background.truth) == 110 * 160 - 4000
    assert np.count_nonzero(background.ignored) == 10 * 160 and background.boundary_px == 1
    assert ring.image.shape == (120, 154, 3)  # 64 px beyond its box, inside the image
    assert measuring.groups(tmp_path) is groups


def test_prints_tables_and_writes_numbers(modules, monkeypatch, capsys, tmp_path):
    words = ["--data", str(camvid_folder(tmp_path)), "--groups", "shifted", "--refiners", "guided filter"]
    monkeypatch.setattr(sys, "argv", ["universal.py", *words, "--output", str(tmp_path / "out.json")])
    modules["universal"].main()
    assert "camvid/shifted_edge" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["refiners"]["guided filter"]
    assert [(row["group"], row["objects"]) for row in rows] == [("camvid/shifted_edge", 2)]


def test_words_that_are_wrong(modules, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("PNM_REAL_DATA", raising=False)
    for words, answer in (([], "give the folder"), (["--data", str(tmp_path)], "has none of predictions/")):
        monkeypatch.setattr(sys, "argv", ["universal.py", *words])
        with pytest.raises(SystemExit):
            modules["universal"].main()
        assert answer in capsys.readouterr().err
