"""tools/refine.py with the weights that come along: adaptation, and files that are nobody's to lose."""

import json

import numpy as np
import pytest
from PIL import Image

from pnm.annotations.aligning import resized_mask

SHAPE = (96, 112)


def disc(radius=28):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (rows - 48) ** 2 + (columns - 56) ** 2 < radius**2


@pytest.fixture
def files(tmp_path):
    """A photo of a bright disc, and a mask that is a little small."""
    photo = np.where(disc()[..., None], np.uint8(220), np.uint8(60)).repeat(3, 2)
    photo = photo + np.random.default_rng(0).integers(0, 20, photo.shape).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(disc(25)).save(tmp_path / "mask.png")
    return tmp_path / "photo.png", tmp_path / "mask.png"


def test_the_weights_that_come_along_mend_a_mask(run_refine, files, tmp_path):
    run_refine(*files, "--strength", 1)
    refined = np.asarray(Image.open(tmp_path / "mask_refined.png")) > 0
    ious = [np.count_nonzero(m & disc()) / np.count_nonzero(m | disc()) for m in (disc(25), refined)]
    assert ious[1] > 0.97 > 0.85 > ious[0]


def test_adapts_once_and_says_when_masks_are_others(run_refine, files, tmp_path):
    adapt = (*files, "--output", tmp_path / "a.png", "--adapt", 0.02, "--strength", 1)
    run_refine(*adapt)
    weights = tmp_path / "a.png.adapted.pth"
    before = weights.read_bytes()
    (tmp_path / "a.png").unlink()
    assert "is there already and is used" in run_refine(*adapt) and weights.read_bytes() == before
    (tmp_path / "a.png").unlink()
    Image.fromarray(disc(22)).save(files[1])
    assert "has learned from other masks" in run_refine(*adapt, fails=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--adapt", 0), "expected minutes above 0"),
        (("--adapt", "nan"), "expected minutes above 0"),
        (("--adapt", 1, "--resize-mask"), "of their images' sizes"),
    ],
)
def test_adaptations_that_cannot_be(run_refine, files, tmp_path, words, message):
    assert message in run_refine(*files, "--output", tmp_path / "a.png", *words, fails=True)


def test_sizes_are_compared_before_learning(run_refine, files, tmp_path):
    Image.fromarray(resized_mask(disc(), (48, 56))).save(files[1])
    told = run_refine(*files, "--output", tmp_path / "a.png", "--adapt", 5, fails=True)
    assert "48 x 56" in told and not list(tmp_path.glob("*.pth"))


def test_details_replace_nobodys_files(run_refine, files, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/mask.json").write_text("{}", encoding="utf-8")
    assert "holds files already" in run_refine(*files, "--details", tmp_path / "labels", fails=True)
    assert (tmp_path / "labels/mask.json").read_text("utf-8") == "{}"
    for _ in range(2):  # its own are replaced
        run_refine(*files, "--details", tmp_path / "details", "--overwrite")
    assert json.loads((tmp_path / "details/mask.json").read_text("utf-8"))["image"] == "mask.png"


def test_the_photo_is_not_replaced(run_refine, files):
    before = files[0].read_bytes()
    told = run_refine(*files, "--output", files[0], "--overwrite", fails=True)
    assert "is the photo itself" in told and files[0].read_bytes() == before


def test_antialiased_masks_are_one_object(run_refine, files, tmp_path):
    rows, columns = np.mgrid[: 2 * SHAPE[0], : 2 * SHAPE[1]]
    fine = (rows - 95.5) ** 2 + (columns - 111.5) ** 2 < 2500
    soft = np.round(255 * fine.reshape(SHAPE[0], 2, SHAPE[1], 2).mean(axis=(1, 3))).astype(np.uint8)
    Image.fromarray(soft).save(files[1])
    assert len(np.unique(soft)) > 2
    assert "one object with soft edges" in run_refine(*files)
