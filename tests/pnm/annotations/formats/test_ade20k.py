"""ADE20K's label PNGs, against pixels written by hand and real files."""

import numpy as np
import pytest
from painted_scenes import files_of, image_of, semantic_set, with_content
from PIL import Image

from pnm.annotations.annotation_format import Source
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.errors import UserError

FORMAT = format_named("ade20k")
VALUES = np.array([[0, 1, 150], [3, 3, 0]], np.uint8)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "ADEChallengeData2016"
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        (folder / "annotations" / split).mkdir(parents=True)
        (folder / "images" / split).mkdir(parents=True)
        Image.fromarray(VALUES).save(folder / f"annotations/{split}/{name}.png")
        Image.new("RGB", (3, 2)).save(folder / f"images/{split}/{name}.jpg")
    return folder


def test_classes_are_numbered_from_one(root):
    assert format_of(root) is FORMAT
    annotations = read_annotations(Source(root, split="val"))
    assert len(annotations.categories) == 150
    assert [annotations.categories[n].name for n in (0, 2, 8, 149)] == ["wall", "sky", "window", "flag"]
    (image,) = annotations.images
    assert (image.name, image.size) == ("ADE_val_00000001.jpg", (2, 3))
    assert annotations.folder == root / "images/validation"
    assert annotations.read(image).tolist() == [[-1, 0, 149], [2, 2, -1]]
    every = read_annotations(Source(root))
    assert [i.name for i in every.images] == ["training/ADE_train_00000001.jpg", "validation/ADE_val_00000001.jpg"]


def _table(root, *names):
    rows = [f"{n}\t0.1\t10\t1\t0\t{name}\n" for n, name in enumerate(names, 1)]
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "".join(rows))


def test_names_of_the_table(root):
    _table(root, *(f"thing {n}, a" for n in range(150)))
    assert read_annotations(Source(root)).categories[149].name == "thing 149, a"
    assert read_annotations(Source(root, classes=[str(n) for n in range(150)])).categories[149].name == "149"


def test_what_is_read_is_written_byte_for_byte(root, tmp_path):
    _table(root, *(f"thing {n}" for n in range(150)))
    parts = {split: read_annotations(Source(root, split=split)) for split in ("train", "val")}
    FORMAT.write(parts, tmp_path / "out")
    expected = {name: content for name, content in files_of(root).items() if not name.startswith("images")}
    assert files_of(tmp_path / "out") == expected


def test_changed_labels(root, tmp_path):
    def change(image, labels):
        labels[0] = [1, 0, -1]
        return labels

    FORMAT.write({"val": with_content(read_annotations(Source(root, split="val")), change)}, tmp_path / "out")
    written = np.array(Image.open(tmp_path / "out/annotations/validation/ADE_val_00000001.png"))
    assert written.tolist() == [[2, 1, 0], [3, 3, 0]]
    assert not (tmp_path / "out/objectInfo150.txt").exists()  # the classes are ADE20K's


def test_a_round_trip_from_another_format(tmp_path):
    annotations = semantic_set(("sky", "Straße", "tree"))
    FORMAT.write({"train": annotations}, tmp_path)
    assert format_of(tmp_path) is FORMAT
    again = read_annotations(Source(tmp_path, split="training"))
    assert [c.name for c in again.categories] == ["sky", "Straße", "tree"]
    for image in annotations.images:
        np.testing.assert_array_equal(again.read(image_of(again, image.name)), annotations.read(image))


def test_real_files(real_data, tmp_path):
    root = real_data / "ADEChallengeData2016"
    annotations = read_annotations(Source(root, split="validation"))
    assert len(annotations.images) == 3 and all(
        (annotations.folder / image.name).is_file() for image in annotations.images
    )
    for image in annotations.images:
        path = root / "annotations/validation" / f"{image.name[:-4]}.png"
        np.testing.assert_array_equal(annotations.read(image), np.array(Image.open(path)).astype(int) - 1)


def _error(root, **source) -> str:
    with pytest.raises((UserError, FileNotFoundError)) as error:
        annotations = read_annotations(Source(root, **source), "ade20k")
        for image in annotations.images:
            annotations.read(image)
    return str(error.value)


def test_errors_name_the_file_and_the_way_out(root, tmp_path):
    assert "annotations/training in it" in _error(root / "images")
    (root / "annotations/test").mkdir()
    assert "has no PNG" in _error(root, split="test")
    text = _error(root, classes=["a", "b", "c"])
    assert "ADE_train_00000001.png has values" in text and "150 (1 pixels)" in text and "--classes" in text
    for content, word in (
        (b"Idx\tWord\n1\ta", '"Name"'),
        (b"Idx\tName\n2\ta", "row 1"),
        (b"Idx\tName\n1\ta\n2\ta", "name a twice"),
        (b"\xff", "cannot be read"),
    ):
        (root / "objectInfo150.txt").write_bytes(content)
        assert "objectInfo150.txt" in _error(root) and word in _error(root)
    with pytest.raises(UserError, match="256 classes"):
        FORMAT.write({"": semantic_set(tuple(map(str, range(256))))}, tmp_path)


def test_other_folders_of_annotations_are_not_taken(tmp_path):
    (tmp_path / "annotations/training").mkdir(parents=True)
    Image.fromarray(VALUES).save(tmp_path / "annotations/training/21_manual1.png")
    assert format_of(tmp_path).name == "label-pngs"
