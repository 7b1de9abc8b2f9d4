"""Folders of label PNGs, against pixels written by PIL."""

import numpy as np
import pytest
from painted_scenes import HEIGHT, WIDTH, files_of, image_of, semantic_set, with_content
from PIL import Image

from pnm.annotations.annotation_format import Source
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.errors import UserError

FORMAT = format_named("label-pngs")


@pytest.fixture
def folder(tmp_path):
    """Two label PNGs, grey and palette, of the classes sky, road and tree."""
    root = tmp_path / "labels"
    (root / "a").mkdir(parents=True)
    Image.fromarray(np.array([[0, 1, 2], [255, 1, 0]], np.uint8)).save(root / "a/one.png")
    palette = Image.fromarray(np.array([[2, 2], [0, 255]], np.uint8))
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 200] + 759 * [0])
    palette.save(root / "twö.png")
    (root / "names.txt").write_text("sky\nroad\n\ntree\n", encoding="utf-8")
    return root


def test_values_are_the_places_of_the_names(folder):
    assert format_of(folder) is FORMAT
    annotations = read_annotations(Source(folder))
    assert [c.name for c in annotations.categories] == ["sky", "road", "tree"]
    assert [(i.name, i.size) for i in annotations.images] == [("a/one.png", (2, 3)), ("twö.png", (2, 2))]
    one, two = (annotations.read(image) for image in annotations.images)
    assert one.tolist() == [[0, 1, 2], [-1, 1, 0]] and one.dtype == np.int32
    assert two.tolist() == [[2, 2], [0, -1]]


def test_images_give_the_names_and_splits_are_folders(folder, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "images/one.jpg")
    annotations = read_annotations(Source(folder, tmp_path / "images", split="a"))
    assert [image.name for image in annotations.images] == ["one.jpg"]
    assert annotations.folder == tmp_path / "images"
    annotations = read_annotations(Source(folder / "a", classes=["x", "y", "z"]))
    assert [c.name for c in annotations.categories] == ["x", "y", "z"]


def test_labels_without_an_image_keep_their_names_with_a_remark(folder, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "images/twö.jpg")
    annotations = read_annotations(Source(folder, tmp_path / "images"))
    assert {image.name for image in annotations.images} == {"twö.jpg", "a/one.png"}
    assert "1 label PNGs have no image" in annotations.remarks[0] and "a/one.png" in annotations.remarks[0]


def test_what_is_read_is_written_byte_for_byte(folder, tmp_path):
    FORMAT.write({"": read_annotations(Source(folder))}, tmp_path / "out")
    before, after = files_of(folder), files_of(tmp_path / "out")
    assert after.pop("names.txt") == b"sky\nroad\ntree\n" and before.pop("names.txt")
    assert after == before


def test_changed_labels_keep_the_palette_and_other_pixels(folder, tmp_path):
    def change(image, labels):
        labels[0, 0] = 1
        return labels

    FORMAT.write({"": with_content(read_annotations(Source(folder)), change)}, tmp_path / "out")
    with Image.open(tmp_path / "out/twö.png") as picture:
        assert picture.mode == "P" and picture.getpalette()[:6] == [9, 9, 9, 200, 0, 0]
        assert np.array(picture).tolist() == [[1, 2], [0, 255]]


def test_a_palette_that_is_too_short_gives_way_to_grey(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [0, 0]], np.uint8))
    picture.putpalette([9, 9, 9, 200, 0, 0])
    picture.save(tmp_path / "a.png", bits=8)

    def change(image, labels):
        labels[1] = [2, -1]
        return labels

    annotations = with_content(read_annotations(Source(tmp_path, classes=["a", "b", "c"])), change)
    FORMAT.write({"": annotations}, tmp_path / "out")
    with Image.open(tmp_path / "out/a.png") as picture:
        assert picture.mode == "L" and np.array(picture).tolist() == [[0, 1], [2, 255]]


def test_two_label_pngs_of_one_image_are_told(folder, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "images/twö.jpg")
    (folder / "twö.PNG").write_bytes((folder / "twö.png").read_bytes())
    with pytest.raises(UserError, match="two images are called twö.jpg"):
        read_annotations(Source(folder, tmp_path / "images"))


@pytest.mark.parametrize("count", [1, 3, 255, 256, 300])
def test_a_round_trip_from_another_format(tmp_path, count):
    names = tuple(f"class {n}" for n in range(count))
    annotations = semantic_set(names)
    FORMAT.write({"train": annotations, "val": annotations}, tmp_path / "out")
    with Image.open(tmp_path / "out/val/street/0001.png") as picture:
        assert picture.mode == ("L" if count <= 255 else "I;16") and picture.size == (WIDTH, HEIGHT)
    again = read_annotations(Source(tmp_path / "out", split="val"))
    assert [c.name for c in again.categories] == list(names)
    for image in annotations.images:
        other = image_of(again, image.name[:-4] + ".png")
        np.testing.assert_array_equal(again.read(other), annotations.read(image))
    assert len(read_annotations(Source(tmp_path / "out")).images) == 6
    assert len(read_annotations(Source(tmp_path / "out/train")).images) == 3  # names.txt is one folder above


def _error(source: Source) -> str:
    with pytest.raises((UserError, FileNotFoundError)) as error:
        annotations = read_annotations(source, "label-pngs")
        for image in annotations.images:
            annotations.read(image)
    return str(error.value)


def test_errors_name_the_file_and_the_way_out(folder, tmp_path):
    text = _error(Source(folder, classes=["sky", "road"]))
    assert "one.png" in text and "2 (1 pixels)" in text and "0 to 1" in text and "name all classes" in text
    (folder / "names.txt").unlink()
    assert "names.txt" in _error(Source(folder)) and "--classes" in _error(Source(folder))
    (folder / "names.txt").write_text("sky\nsky")
    assert "sky twice" in _error(Source(folder))
    (folder / "names.txt").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in _error(Source(folder))
    (folder / "names.txt").write_text("\n")
    assert "no names" in _error(Source(folder))
    assert "nope is not a folder" in _error(Source(folder, split="nope"))
    (tmp_path / "images").mkdir()
    assert "none of the label PNGs" in _error(Source(folder, tmp_path / "images", ["a", "b", "c"]))
    (tmp_path / "empty").mkdir()
    assert "has no PNG" in _error(Source(tmp_path / "empty"))
    png = (folder / "twö.png").read_bytes()
    (folder / "twö.png").write_bytes(png[:-30])
    assert "twö.png is truncated" in _error(Source(folder, classes=["a", "b", "c"]))
    Image.new("RGB", (2, 2)).save(folder / "twö.png")
    assert "colour image" in _error(Source(folder, classes=["a", "b", "c"]))


def test_errors_of_writing(tmp_path):
    one, other = semantic_set(("a", "b")), semantic_set(("a", "c"))
    with pytest.raises(UserError, match="same classes"):
        FORMAT.write({"train": one, "val": other}, tmp_path)
    with pytest.raises(UserError, match=r"x.jpg and x.png .* rename one"):
        FORMAT.write({"": semantic_set(("a",), images=("x.jpg", "x.png"))}, tmp_path)
    with pytest.raises(UserError, match="leads out"):
        FORMAT.write({"": semantic_set(("a",), images=("../x.jpg",))}, tmp_path)
    with pytest.raises(UserError, match="can't stand in a list"):
        FORMAT.write({"": semantic_set(("a\nb",), images=("x.jpg",))}, tmp_path)


def test_a_folder_of_photographs_is_not_taken_for_labels(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    assert not FORMAT.recognises(tmp_path)
    assert not FORMAT.recognises(tmp_path / "a.png") and not FORMAT.recognises(tmp_path / "missing")
