"""Which image belongs to a prediction."""

import json
import logging
import os

import pytest

from pnm.predictions import ImageFiles, missing_images, open_predictions


@pytest.fixture
def images(tmp_path):
    """``images("a.jpg", "b/c.png", info=[...])``: empty files in a folder, and an ImageFiles of it."""

    def made(*names, info=None):
        folder = tmp_path / "images"
        folder.mkdir()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        if info is not None:
            (tmp_path / "info.json").write_text(info if isinstance(info, str) else json.dumps({"images": info}))
        return ImageFiles(folder, None if info is None else tmp_path / "info.json")

    return made


def below(files, key):
    path = files.find(key)
    return path and path.relative_to(files.folder).as_posix()


def test_by_number(images):
    files = images("000000000042.jpg", "7.PNG", "COCO_val2014_000000000009.jpg", "x8.jpg", "notes/12.txt", ".5.jpg")
    assert [below(files, key) for key in (42, 7, 9)] == ["000000000042.jpg", "7.PNG", "COCO_val2014_000000000009.jpg"]
    assert [files.find(key) for key in (8, 12, 5, -1)] == [None] * 4
    assert below(files, "000000000042") == "000000000042.jpg" and files.find("42") is None


def test_by_the_list_of_images(images):
    info = [
        {"id": 42, "file_name": "b/x.jpg", "height": 3, "width": 4},
        {"id": "n", "file_name": "y.jpg"},
        {"id": 3, "file_name": "gone.jpg"},
    ]
    files = images("a/x.jpg", "b/x.jpg", "y.jpg", "y.png", "000000000042.jpg", "77.jpg", info=info)
    assert [below(files, key) for key in (42, "n", 77)] == ["b/x.jpg", "y.jpg", "77.jpg"]
    assert files.sizes == {42: (3, 4)}
    with pytest.raises(ValueError, match="image 3, gone.jpg is not in .*images: check the folder and the image names"):
        files.path(3)


def test_by_name(images):
    files = images("a/0001.jpg", "b/0001.jpg", "c/d/z.v2.jpg", "w.jpg", "my_pred_1.jpg", "my_pred_2.jpg")
    wanted = {
        "a/0001.png": "a/0001.jpg",
        "/elsewhere/val/b/0001.jpg": "b/0001.jpg",
        "b\\0001.jpg": "b/0001.jpg",
        "z.v2": "c/d/z.v2.jpg",
        "z.v2.png": "c/d/z.v2.jpg",
        "deep/w.png": "w.jpg",
        "w_pred.png": "w.jpg",
        "my_pred_2.png": "my_pred_2.jpg",
        "q.png": None,
    }
    assert {key: below(files, key) for key in wanted} == wanted


def test_cityscapes(images):
    frames = ["aachen_000000_000019", "aachen_000001_000019"]
    files = images(*(f"val/aachen/{frame}_leftImg8bit.png" for frame in frames))
    for ending in ("", "_leftImg8bit.png", "_gtFine_labelIds.png", "_leftImg8bit_pred.txt", "_pred.png"):
        for frame in frames:
            assert below(files, f"x/{frame}{ending}") == f"val/aachen/{frame}_leftImg8bit.png"
    assert files.find("aachen_000002_000019_leftImg8bit_pred.txt") is None


def test_stored_paths(images, tmp_path, monkeypatch):
    files = images("a.jpg")
    (tmp_path / "stored").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "stored" / name).touch()
    monkeypatch.chdir(tmp_path)
    assert files.find(str(tmp_path / "stored/a.jpg")) == tmp_path / "stored/a.jpg"
    assert os.fspath(files.find("stored/b.jpg")) == "stored/b.jpg"
    assert below(files, "stored/a.jpg") == "a.jpg"
    assert files.find("stored/c.jpg") is None


def test_two_that_fit(images):
    files = images("a/1.jpg", "b/01.jpg", "x.jpg", "x.png", "c/n.jpg", "d/n.jpg")
    both = {1: "a/1.jpg and .*b/01.jpg", "x.png": "x.jpg and .*x.png", "n.jpg": "c/n.jpg and .*d/n.jpg"}
    for key, names in both.items():
        with pytest.raises(ValueError, match=f"{names} both fit image {key}: keep one of them in"):
            files.path(key)
    assert below(files, "x.jpg") == "x.jpg"


def test_missing(images, caplog, make):
    files = images("3.jpg", "a.jpg")
    path, options = make("coco")
    assert missing_images(open_predictions(path, **options), files) == [7, 12]
    assert "2 predictions have no image in" in caplog.text and ": 7, 12" in caplog.text
    assert missing_images(list(range(100, 120)), files) == list(range(100, 120))
    assert ": 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, ..." in caplog.text
    caplog.clear()
    caplog.set_level(logging.INFO)
    assert missing_images([3, "a"], files) == [] and not caplog.text


@pytest.mark.parametrize(
    "info, message",
    [
        ("[", "info.json is not JSON"),
        ("[]", "info.json has no list of images: expected"),
        ('{"images": [{"id": 1}]}', r"info.json: images\[0\] is .*expected"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}', "info.json lists image 1 twice"),
    ],
)
def test_list_of_images_that_is_none(info, message, images):
    with pytest.raises(ValueError, match=message):
        images(info=info)


def test_missing_folder_or_list(tmp_path):
    with pytest.raises(FileNotFoundError, match="none is not a folder: expected one with images"):
        ImageFiles(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="none.json is missing"):
        ImageFiles(tmp_path, tmp_path / "none.json")


def test_real_images(real_data):
    files = ImageFiles(real_data / "cityscapes/leftImg8bit")
    predictions = open_predictions(real_data / "cityscapes/gtFine/val", "semantic")
    assert missing_images(predictions, files) == []
    images = {files.path(key).name for key in predictions.keys}
    assert images == {path.name for path in (real_data / "cityscapes/leftImg8bit/val").rglob("*.png")}
    panoptic = open_predictions(
        real_data / "coco/annotations/panoptic_val2017.json", png_folder=real_data / "coco/panoptic_val2017"
    )
    assert missing_images(panoptic, ImageFiles(real_data / "coco/panoptic_images")) == []
    with_info = ImageFiles(real_data / "coco/panoptic_images", real_data / "coco/annotations/panoptic_val2017.json")
    assert with_info.path(139).name == "000000000139.jpg" and with_info.sizes[139] == (426, 640)
