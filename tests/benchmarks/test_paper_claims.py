"""The drawings that the paper's claims are checked on."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks/paper_claims.py"


@pytest.fixture(scope="module")
def claims():
    spec = importlib.util.spec_from_file_location("paper_claims", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("number", [1, 2, 3])
def test_triangular_images_have_the_papers_areas(claims, number):
    """A quarter of each half belongs to the other side, which is why mIoU is 3/5 on every image (Eq. 7)."""
    labels = claims.triangular_image(number, 512)
    assert (labels[:, :256] == 1).mean() == pytest.approx(0.25, abs=0.01)
    assert (labels[:, 256:] == 0).mean() == pytest.approx(0.25, abs=0.01)
    changes_on_the_right = np.count_nonzero(np.diff(labels[:, 500].astype(int)))
    assert changes_on_the_right == 2**number


def test_figure_6(claims):
    rows = claims.figure_6()
    assert [row[1] for row in rows] == pytest.approx([60] * 5, abs=0.05)
    pnm_iou = [row[2] for row in rows]
    assert pnm_iou == sorted(pnm_iou, reverse=True) and pnm_iou[0] - pnm_iou[-1] > 3


def test_properties(claims):
    assert [row[3] for row in claims.properties()] == ["holds"] * 4
