"""What would end or spoil a run later is told before it starts; what the data say need not be said again."""

import json
import logging

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pnm.errors import UserError
from pnm.masks.runs import MOST_PIXELS
from pnm.projects.dataset_mappers.reading import read_image, read_labels
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.checks import check_data, take_from_data
from pnm.projects.launcher.data.overview import overview
from pnm.projects.launcher.data.register_data import _pair_by_name
from pnm.projects.launcher.data.shapes import register_shapes
from pnm.projects.launcher.data.user_data import register_user_data
from pnm.projects.launcher.run_setup import check_new_run

pytestmark = pytest.mark.usefixtures("forget_data_sets")
MASK_RCNN, SEMANTIC_FPN = "quickstart/mask_rcnn_R_18_FPN.yaml", "quickstart/semantic_fpn_R_18.yaml"
UNSET = ["MODEL.ROI_HEADS.NUM_CLASSES", "80", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "54"]  # Detectron2's


def coco():
    box = {"bbox": [5, 5, 20, 10], "segmentation": [[5, 5, 25, 5, 25, 15, 5, 15]], "area": 200, "iscrowd": 0}
    return {
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 60} for k in (1, 2)],
        "annotations": [{"id": k, "image_id": k, "category_id": 7, **box} for k in (1, 2)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
    }


@pytest.fixture
def instances(tmp_path):
    """``instances(annotations, *overrides)``: the config of a run on them, registered as "toy"."""

    def config(content, *overrides, crowds=None, bom=b""):
        (tmp_path / "images").mkdir(exist_ok=True)
        for k in (1, 2):
            Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / f"images/{k}.jpg")
        (tmp_path / "toy.json").write_bytes(bom + json.dumps(content).encode())
        entry = {"name": "toy", "type": "coco", "annotations": f"{tmp_path}/toy.json", "images": f"{tmp_path}/images"}
        entry |= {} if crowds is None else {"crowds": crowds}
        names = ["DATASETS.REGISTER", str([entry]), "DATASETS.TRAIN", "('toy',)", "DATASETS.TEST", "('toy',)"]
        cfg = load_config(MASK_RCNN, [*names, *UNSET, *overrides])
        register_user_data(cfg)
        return cfg

    return config


@pytest.fixture
def semantic(tmp_path):
    """``semantic(*overrides, ignore_label=255)``: the config of a run on one image of three classes."""

    def config(*overrides, **options):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "images/a.jpg")
        Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "labels/a.png")
        entry = {"name": "toy", "type": "semantic", "images": f"{tmp_path}/images", "labels": f"{tmp_path}/labels"}
        entry |= {"classes": ["a", "b", "c"], **options}
        names = ["DATASETS.REGISTER", str([entry]), "DATASETS.TRAIN", "('toy',)", "DATASETS.TEST", "('toy',)"]
        cfg = load_config(SEMANTIC_FPN, [*names, *UNSET, *overrides])
        register_user_data(cfg)
        return cfg

    return config


def test_numbers_of_classes_come_from_the_data(instances):
    cfg = instances(coco())
    take_from_data(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2 and cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 54


def test_classes_of_other_order_are_told(instances, tmp_path):
    other = coco()
    other["categories"][0]["name"], other["categories"][1]["name"] = "dog", "cat"
    (tmp_path / "other.json").write_text(json.dumps(other))
    cfg = instances(coco())
    cfg.DATASETS.REGISTER = [{**cfg.DATASETS.REGISTER[0], "name": "other", "annotations": f"{tmp_path}/other.json"}]
    register_user_data(cfg)
    cfg.DATASETS.TEST = ("other",)
    with pytest.raises(
        UserError, match="toy and other number other classes alike: 0 is cat in one and dog in the other"
    ):
        take_from_data(cfg)


def test_the_ignored_label_comes_from_the_data(semantic):
    cfg = semantic(ignore_label=9)
    take_from_data(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 3 and cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE == 9
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80


def test_a_config_that_says_another_number(instances):
    with pytest.raises(
        UserError,
        match="ROI_HEADS.NUM_CLASSES is 4, but data set toy has a number of classes of 2: set the key to that",
    ):
        take_from_data(instances(coco(), "MODEL.ROI_HEADS.NUM_CLASSES", "4"))


def test_a_config_that_says_another_ignored_label(semantic):
    with pytest.raises(
        UserError, match="IGNORE_VALUE is 7, but data set toy has the ignore_label 255: set the key to that"
    ):
        take_from_data(semantic("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", "7"))


@pytest.mark.parametrize("part", ["TRAIN", "TEST"])
def test_names_that_nobody_registered(instances, part):
    cfg = instances(coco())
    cfg.DATASETS[part] = ("toj",)
    with pytest.raises(UserError, match="data set 'toj' is not registered; did you mean toy"):
        check_data(cfg)


def test_sound_data_pass(instances, caplog):
    caplog.set_level(logging.WARNING)
    check_data(instances(coco()))
    assert not caplog.records


def changed(**where):
    content = coco()
    for place, change in where.items():
        content[place][0].update(change)
    return content


RLE = {
    "size": [40, 60],
    "counts": coco_mask.encode(np.asfortranarray(np.eye(40, 60, dtype=np.uint8)))["counts"].decode(),
}


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        (changed(images={"file_name": "2.jpg"}), (), "images 1 and 2 in .*toy.json are one file, .*2.jpg"),
        (changed(images={"file_name": "./2.jpg"}), (), "images 1 and 2 in .*toy.json are one file, .*2.jpg"),
        (changed(images={"id": 2}), (), "images 0 and 1 have the same id 2"),
        (changed(images={"file_name": "3.jpg"}), (), "3.jpg does not exist; check the image folder, and file_name"),
        (changed(images={"file_name": "images/1.jpg"}), (), "does not exist; 1.jpg in that folder does: change"),
        (changed(images={"file_name": ".\\1.jpg"}), (), r"does not exist; with / in the place of \\ it does"),
        (changed(images={"file_name": ""}), (), "image 1 in .*toy.json has no file_name: add it"),
        (changed(images={"height": "40"}), (), r"images\[0\] is .*, expected 'height' in it, a whole number"),
        (changed(annotations={"category_id": 8}), (), r"annotations\[0\] is of category 8, which the file"),
        (changed(annotations={"image_id": "1"}), (), r"annotations\[0\] has image_id '1', but the ids .* are numbers"),
        (changed(annotations={"segmentation": [[1, 1, 2, 2]]}), (), r"annotations\[0\]: polygon .* three points"),
        (changed(annotations={"segmentation": RLE}), ("INPUT.MASK_FORMAT", "polygon"), "1 annotations have RLE masks"),
        ({**coco(), "annotations": None}, (), "toy.json doesn't have the three lists"),
    ],
)  # fmt: skip
def test_what_would_end_the_run_later(instances, content, overrides, message):
    with pytest.raises(UserError, match=message):
        check_data(instances(content, *overrides))


def test_a_byte_order_mark(instances):
    with pytest.raises(UserError, match="toy.json begins with a byte order mark"):
        check_data(instances(coco(), bom=b"\xef\xbb\xbf"))


def test_crowds_are_counted_and_may_be_trained_on(instances, caplog):
    content = changed(annotations={"iscrowd": 1})
    check_data(instances(content))
    assert "toy: 1 of 2 annotations are crowds (iscrowd: 1), which are not trained on" in caplog.text


def test_crowds_as_objects(instances, caplog):
    from detectron2.data import DatasetCatalog

    check_data(instances(changed(annotations={"iscrowd": 1}), crowds="objects"))
    assert "crowds" not in caplog.text
    assert [r["annotations"][0].get("iscrowd", 0) for r in DatasetCatalog.get("toy")] == [0, 0]


def test_leftovers_are_told(instances, caplog):
    content = coco()
    content["annotations"].append({**content["annotations"][0], "id": 3, "image_id": 5})
    check_data(instances(content))
    assert "1 annotations left out, of images that it doesn't list" in caplog.text


def test_a_refiner_without_predictions(shapes_root, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))
    register_shapes()
    cfg = load_config("quickstart/bpr_instance.yaml", ["DATASETS.PREDICTIONS_TEST", "()"])
    with pytest.raises(UserError, match="nothing to refine: name the result files of DATASETS.TEST in DATASETS.PRED"):
        check_data(cfg)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ignore_label": None}, "ignore_label is 'None', expected a label from 0"),
        ({"ignore_label": "none"}, "ignore_label is 'none', expected a label from 0"),
        ({"ignore_label": -1}, "ignore_label is '-1', expected a label from 0"),
        ({"images": None}, "images is 'None', expected text"),
        ({"labels": ["x"]}, "labels is .*, expected text"),
        ({"classes": 3}, "classes must be a list of names"),
        ({"name": 5}, "is not a mapping with a name and a type"),
        ({"type": []}, "is not a mapping with a name and a type"),
    ],
)
def test_registered_nonsense(semantic, change, message):
    with pytest.raises(UserError, match=message):
        semantic(**change)


def test_images_and_labels_in_one_folder(tmp_path):
    grey = Image.fromarray(np.zeros((4, 4), np.uint8))
    for name in ("a.jpg", "a.png", "b/c.JPG", "b/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        grey.save(tmp_path / name)
    pairs = [tuple(pair.values()) for pair in _pair_by_name("toy", tmp_path, tmp_path)]
    assert pairs == [(f"{tmp_path}/a.jpg", f"{tmp_path}/a.png"), (f"{tmp_path}/b/c.JPG", f"{tmp_path}/b/c.png")]
    grey.save(tmp_path / "a.bmp")
    with pytest.raises(UserError, match="a.bmp and .*a.jpg are of one name: remove or rename one"):
        _pair_by_name("toy", tmp_path, tmp_path)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_images_of_sixteen_bits(tmp_path, image_format):
    values = np.linspace(0, 65535, 2400).reshape(40, 60).astype(np.uint16)
    for ending in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"a.{ending}")
        read = read_image(str(tmp_path / f"a.{ending}"), image_format)
        assert read.dtype == np.uint8 and read.shape == (40, 60, 3)
        np.testing.assert_array_equal(read[..., 1], np.round(values / 257).astype(np.uint8))


@pytest.mark.parametrize(("kind", "words"), [(np.float32, "floating-point numbers"), (np.int32, "32-bit numbers")])
def test_images_of_unknown_range(tmp_path, kind, words):
    Image.fromarray((np.arange(12).reshape(3, 4) - 5).astype(kind)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=f"a.tif is of {words}, whose range is not known: save it with 8 or 16 bits"):
        read_image(str(tmp_path / "a.tif"), "RGB")


def test_images_that_are_too_large_say_so(tmp_path, monkeypatch):
    assert Image.MAX_IMAGE_PIXELS == MOST_PIXELS > 500_000_000  # Pillow's own limit is 90 million
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(UserError, match="cannot read .*a.png: it has more than .* pixels; cut it into smaller ones"):
        read_image(str(tmp_path / "a.png"), "RGB")


def test_labels_out_of_range_are_named(tmp_path):
    labels = np.array([[0, 1, 2], [255, 7, 9]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a.png has labels 7, 9, expected 0 to 2, or 255 for pixels to ignore"):
        read_labels(str(tmp_path / "a.png"), 3, 255)
    assert (read_labels(str(tmp_path / "a.png"), 10, 255) == labels).all()
    Image.fromarray(labels.astype(np.uint16) * 100).save(tmp_path / "b.png")
    assert (read_labels(str(tmp_path / "b.png"), 901, 25500) == labels.astype(int) * 100).all()


def test_labels_of_a_palette_are_its_indices(tmp_path):
    labels = np.array([[0, 1], [2, 1]], np.uint8)
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    image.save(tmp_path / "a.png")
    assert (read_labels(str(tmp_path / "a.png"), 3, 255) == labels).all()


def test_a_run_that_is_there_is_not_overwritten(tmp_path):
    check_new_run(str(tmp_path))
    (tmp_path / "log.txt").touch()
    check_new_run(str(tmp_path))
    (tmp_path / "model_0000004.pth").touch()
    with pytest.raises(UserError, match="holds a run already .model_0000004.pth.; add --resume to go on with it"):
        check_new_run(str(tmp_path))


def test_labels_are_read_before_the_run(semantic, tmp_path, caplog):
    cfg = semantic()
    labels = np.full((40, 60), 255, np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels/a.png")
    check_data(cfg)
    assert "toy: all pixels of 1 of 1 label files are ignored (255)" in caplog.text
    labels[3, 4] = 3
    Image.fromarray(labels).save(tmp_path / "labels/a.png")
    with pytest.raises(UserError, match="a.png has labels 3, expected 0 to 2, or 255 for pixels to ignore"):
        check_data(cfg)
    cfg.DATASETS.CHECK_LABELS = False
    check_data(cfg)


def test_the_overview_counts(instances):
    content = changed(annotations={"iscrowd": 1})
    lines = overview(instances(content)).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["cat"] == ["2", "1", "0", "0", "1"] and rows["dog"] == ["0"] * 5
    assert "classes without objects: dog" in lines and "2 images of 40 x 60 (2)" in lines


def test_the_overview_of_labels(semantic, tmp_path):
    cfg = semantic()
    labels = np.zeros((40, 60), np.uint8)
    labels[:10], labels[10:20] = 2, 255
    Image.fromarray(labels).save(tmp_path / "labels/a.png")
    rows = {line.split()[0]: line.split()[1:] for line in overview(cfg).splitlines() if line}
    assert rows["a"] == ["1", "50.00"] and rows["b"] == ["0", "0.00"] and rows["c"] == ["1", "25.00"]
    assert rows["ignored"] == ["(255)", "1", "25.00"]
    labels[0] = 7
    Image.fromarray(labels).save(tmp_path / "labels/a.png")
    with pytest.raises(UserError, match="labels 7 are no class of 3, and not the ignored 255; 7 is in .*a.png"):
        overview(cfg)
    Image.fromarray(labels[1:]).save(tmp_path / "labels/a.png")
    with pytest.raises(UserError, match="a.jpg is 40 x 60, its labels 39 x 60"):
        overview(cfg)


def test_check_reads_prints_and_ends(train_net, tmp_path):
    done = train_net("--check")
    assert done.returncode == 0 and "== shapes_train" in done.stdout and "urchin" in done.stdout, done.stdout[-2000:]
    assert not list((tmp_path / "run").glob("model*"))
