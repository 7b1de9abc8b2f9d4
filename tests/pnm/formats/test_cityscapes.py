"""Cityscapes' instance results: every fault of a file is told, and files are written as they were read."""

import numpy as np
import pytest
from PIL import Image

from pnm.cityscapes_classes import CITYSCAPES_INSTANCE_CLASSES
from pnm.errors import UserError
from pnm.formats.cityscapes import (
    files_by_frame,
    frame_name,
    mask_size,
    prediction_lines,
    read_cityscapes_predictions,
    read_mask,
    result_files,
    write_cityscapes_predictions,
)

IMAGE = "ulm_000001_000019_leftImg8bit"


@pytest.fixture
def results(tmp_path):
    """``results/x_pred.txt`` with two masks in ``results/masks``; the masks."""
    masks = np.random.default_rng(0).random((2, 5, 7)) < 0.5
    txt = tmp_path / f"results/{IMAGE}_pred.txt"
    write_cityscapes_predictions(txt, prediction_lines(IMAGE, [26, 24], [1 / 3, 1e-9]), masks)
    return txt, masks


def test_what_was_written_is_read(results):
    txt, masks = results
    found = read_cityscapes_predictions(txt)
    assert [(p.label_id, p.score, p.name) for p in found] == [
        (26, 1 / 3, f"masks/{IMAGE}_0.png"),
        (24, 1e-9, f"masks/{IMAGE}_1.png"),
    ]
    for prediction, mask in zip(found, masks):
        np.testing.assert_array_equal(read_mask(prediction.mask_path, (5, 7)), mask)
        pixels = np.array(Image.open(prediction.mask_path))
        assert pixels.dtype == np.uint8 and set(pixels.ravel()) == {0, 255}
    assert not list(txt.parent.rglob("*.partial"))


def test_text_of_anybody_is_kept_byte_for_byte(tmp_path):
    text = "b.png 26.0 .50\r\nm/../a.png 33 1e0\n./c.png 24 -2"
    masks = [np.eye(4), np.zeros((4, 4), bool), np.full((4, 4), 7, np.uint16)]
    txt = tmp_path / "in/x_000000_000001_pred.txt"
    write_cityscapes_predictions(txt, text, masks)
    assert txt.read_bytes() == text.encode()
    found = read_cityscapes_predictions(txt)
    assert [(p.name, p.label_id, p.score) for p in found] == [
        ("b.png", 26, 0.5),
        ("m/../a.png", 33, 1.0),
        ("./c.png", 24, -2.0),
    ]
    copy = tmp_path / "out/x_000000_000001_pred.txt"
    write_cityscapes_predictions(copy, txt.read_bytes().decode(), [~read_mask(p.mask_path) for p in found])
    assert copy.read_bytes() == txt.read_bytes()
    for prediction, mask in zip(read_cityscapes_predictions(copy), masks):
        np.testing.assert_array_equal(read_mask(prediction.mask_path), np.asarray(mask) == 0)


def test_no_predictions(tmp_path):
    txt = tmp_path / "x_000000_000001_pred.txt"
    write_cityscapes_predictions(txt, prediction_lines("x", [], []), [])
    assert txt.read_bytes() == b"" and read_cityscapes_predictions(txt) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a.png 26", "line 2 is 'a.png 26': expected"),
        ("a.png 26 0.5 9", "line 2 is 'a.png 26 0.5 9': expected"),
        ("a.png  26 0.5", "line 2 is"),
        ("a.png\t26\t0.5", "line 2 is"),
        (" 26 0.5", "line 2 is"),
        ("", "line 2 is ''"),
        ("c.png 26 0.5", "c.png is missing"),
        (". 26 0.5", "is missing"),
        ("\0.png 26 0.5", "is missing"),
        ("a.png 99 0.5", "label id is 99, which Cityscapes doesn't have; expected one of 24 person"),
        ("a.png -1 0.5", "which Cityscapes doesn't have"),
        ("a.png 7 0.5", "label id is 7, which has no instances"),
        ("a.png 29 0.5", "label id is 29, which has no instances"),
        ("a.png 26.5 0.5", "label id is 26.5"),
        ("a.png car 0.5", "label id is car"),
        ("a.png inf 0.5", "label id is inf"),
        ("a.png 26 nan", "score is nan, expected a finite"),
        ("a.png 26 inf", "score is inf"),
        ("a.png 26 1e999", "score is 1e999"),
        ("a.png 26 high", "score is high"),
        ("../out.png 26 0.5", "names a mask ../out.png outside of .*results: expected one in it"),
        ("x/../../out.png 26 0.5", "outside of"),
        ("b.png 26 0.5", "line 2: mask b.png is that of line 1"),
        ("./b.png 26 0.5", "line 2: mask ./b.png is that of line 1"),
    ],
)
def test_wrong_lines(tmp_path, line, told):
    txt = tmp_path / "results/x_000000_000001_pred.txt"
    write_cityscapes_predictions(txt, "b.png 24 1\na.png 24 1\n", np.ones((2, 3, 3)))
    Image.new("L", (3, 3)).save(tmp_path / "out.png")
    txt.write_text(f"b.png 24 1\n{line}\n")
    with pytest.raises(UserError, match=told) as error:
        read_cityscapes_predictions(txt)
    assert str(txt) in str(error.value)


def test_masks_of_a_folder_above_the_text(tmp_path):
    write_cityscapes_predictions(tmp_path / "m_pred.txt", "a.png 24 1\n", np.ones((1, 3, 3)))
    txt = tmp_path / "texts/x_000000_000001_pred.txt"
    txt.parent.mkdir()
    txt.write_text("../a.png 24 1\n")
    assert read_cityscapes_predictions(txt, tmp_path)[0].mask_path.samefile(tmp_path / "a.png")
    with pytest.raises(UserError, match="outside of .*texts"):
        read_cityscapes_predictions(txt)
    txt.write_text(f"{tmp_path}/a.png 24 1\n")
    with pytest.raises(UserError, match="has an absolute path"):
        read_cityscapes_predictions(txt, tmp_path)


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(FileNotFoundError, match="x_pred.txt is missing: expected Cityscapes' instance results"):
        read_cityscapes_predictions(tmp_path / "x_pred.txt")
    (tmp_path / "x_pred.txt").write_bytes(b"\xff\xfe")
    for wrong in (tmp_path / "x_pred.txt", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_cityscapes_predictions(wrong)


def test_masks_that_do_not_fit(results):
    txt, _ = results
    mask = read_cityscapes_predictions(txt)[0].mask_path
    assert mask_size(mask) == (5, 7)
    with pytest.raises(UserError, match="_0.png is 5 x 7, the image 7 x 5: expected one size"):
        read_mask(mask, (7, 5))
    whole = mask.read_bytes()
    mask.write_bytes(whole[:-20])
    with pytest.raises(UserError, match="_0.png is truncated"):
        read_mask(mask)
    Image.new("RGB", (7, 5)).save(mask)
    with pytest.raises(UserError, match="_0.png is a colour image"):
        read_mask(mask)
    mask.write_bytes(b"no")
    with pytest.raises(UserError, match="_0.png is not a PNG"):
        mask_size(mask)


def test_what_cannot_be_written(tmp_path):
    txt = tmp_path / "x_pred.txt"
    for text, masks, told in (
        ("a.png 24 1\n", [], "0 masks came for 1 lines"),
        ("a.png 24 1\n", [np.ones(3)], r"a mask is \(3,\), expected \(height, width\)"),
        ("a.png 24 1\n", [np.ones((0, 3))], r"a mask is \(0, 3\)"),
        ("../a.png 24 1\n", [np.ones((2, 2))], "outside of"),
        ("a.png 24\n", [np.ones((2, 2))], "line 1 is 'a.png 24'"),
    ):
        with pytest.raises(UserError, match=told):
            write_cityscapes_predictions(txt, text, masks)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="1 label ids and 2 scores came for x"):
        prediction_lines("x", [24], [1, 2])


def test_names_of_images():
    for name in ("a_1_000000_000019_gtFine_instanceIds.png", "x/a_1_000000_000019_pred.txt", "a_1_000000_000019.png"):
        assert frame_name(name) == "a_1_000000_000019"
    assert frame_name("a_000000_0000199_pred.txt") is frame_name("7_pred.txt") is None


def test_folders(results, tmp_path):
    txt, _ = results
    assert result_files(txt.parent) == {"ulm_000001_000019": txt}
    (txt.parent / "more").mkdir()
    (txt.parent / "more/ulm_000001_000019_pred.txt").touch()
    with pytest.raises(UserError, match="are both of image ulm_000001_000019: keep one"):
        result_files(txt.parent)
    (txt.parent / "more/ulm_000001_000019_pred.txt").rename(txt.parent / "more/ulm_pred.txt")
    with pytest.raises(UserError, match="ulm_pred.txt is not named after an image"):
        result_files(txt.parent)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        result_files(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no \*.csv in it"):
        files_by_frame(tmp_path, ".csv")


def test_classes_are_the_benchmarks():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    known = {label.id: label.name for label in labels if label.hasInstances and not label.ignoreInEval}
    assert known == CITYSCAPES_INSTANCE_CLASSES
