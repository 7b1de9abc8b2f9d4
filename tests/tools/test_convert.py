"""The command that converts annotations: each format gives the pixels again that were there, by files alone."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import object_masks
from pnm.annotations.formats.coco import coco_json
from pnm.annotations.known_formats import FORMATS, format_of, read_annotations
from pnm.annotations.other_tasks import as_task
from pnm.masks.crops import paste

from .conftest import load_tool

sys.path.insert(0, str(Path(__file__).parents[1] / "pnm/annotations/formats"))
from painted_scenes import HEIGHT, WIDTH, instance_set

IMAGES = ("street/a_000000_000001.png", "b_000000_000002.png", "c_000000_000003.png", "d_000000_000004.png")
CLASSES = ("car", "person")
OBJECTS = [name for name, form in FORMATS.items() if "instance" in form.writes and name != "coco"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """COCO annotations and their images."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "instances.json").write_text(coco_json(instance_set(CLASSES, overlaps=False, images=IMAGES)))
    for n, name in enumerate(IMAGES):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 40 * n, np.uint8)).save(folder / "images" / name)
    return folder


@pytest.fixture
def convert(monkeypatch, capsys):
    """``convert(arguments...)``: what the tool prints; with ``fails`` the last line on stderr before exit 2."""
    tool = load_tool("convert")

    def run(*arguments, fails=False):
        monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, arguments)])
        if not fails:
            tool.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            tool.main()
        assert ended.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


def pixels(annotations):
    """{stem of the image: [(class, mask)]}; frames of Cityscapes go by their names."""
    found = {}
    for image in annotations.images:
        objects = annotations.read(image)
        names = [annotations.categories[thing.category].name for thing in objects]
        masks = [paste(mask, *image.size).tobytes() for mask in object_masks(image, objects)]
        found[Path(image.name).stem.removesuffix("_leftImg8bit")] = sorted(zip(names, masks))
    return found


def expected():
    return pixels(instance_set(CLASSES, overlaps=False, images=IMAGES))


@pytest.mark.parametrize("name", OBJECTS)
def test_there_and_back(name, source, convert, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    images = ("--images", source / "images")
    told = convert(source / "instances.json", "--to", name, "--output", there, *images, "--copy-images", "--val", "0.5")
    assert f"{name}, instance" in told and "train 2, val 2" in told
    form, parts = FORMATS[name], {}
    for split in ("train", "val"):
        path = there if form.is_folder else next(p for p in sorted(there.iterdir()) if p.stem.endswith(f"_{split}"))
        assert format_of(path).name == name
        own = () if form.is_folder else ("--images", there / "images" / split)
        splits = ("--split", split) if form.is_folder else ()
        convert(path, "--to", "coco", "--output", back / split, *own, *splits)
        (made,) = (back / split).glob("instances*.json")
        parts |= pixels(read_annotations(Source(made)))
    assert parts == expected()


@pytest.mark.parametrize(
    "name", ["yolo", "voc", "labelme", "bdd100k", "cityscapes", "label-pngs", "ade20k", "mapillary"]
)
def test_splits_of_a_folder_stay(name, source, convert, tmp_path):
    convert(
        source / "instances.json", "--to", name, "--output", tmp_path / "there", "--images", source / "images",
        "--copy-images", "--val", "0.25", "--seed", 1,
    )  # fmt: skip
    told = convert(tmp_path / "there", "--from", name, "--to", "coco", "--output", tmp_path / "back")
    assert "train 3, val 1" in told
    files = sorted(path.name for path in (tmp_path / "back").glob("[!.]*"))
    assert files == ["instances_train.json", "instances_val.json"]


def test_objects_become_a_map(source, convert, tmp_path):
    (tmp_path / "names.csv").write_text("car,vehicle\nperson,\n", encoding="utf-8")
    told = convert(
        source / "instances.json", "--to", "label-pngs", "--output", tmp_path / "maps", "--unlabelled", "ground",
        "--map", tmp_path / "names.csv",
        fails=True,
    )  # fmt: skip
    assert "doesn't say what becomes of ground" in told
    (tmp_path / "names.csv").write_text("ground,ground\ncar,vehicle\nperson,\n", encoding="utf-8")
    convert(
        source / "instances.json", "--to", "label-pngs", "--output", tmp_path / "maps", "--unlabelled", "ground",
        "--map", tmp_path / "names.csv",
    )  # fmt: skip
    assert (tmp_path / "maps/names.txt").read_text(encoding="utf-8").split() == ["ground", "vehicle"]
    scene = instance_set(CLASSES, overlaps=False, images=IMAGES)
    labels = as_task(scene, "semantic", "ground").read(scene.images[0])
    written = np.asarray(Image.open(tmp_path / "maps/street/a_000000_000001.png"))
    assert np.array_equal(written, np.choose(labels, [0, 1, 255]))


def test_ids_and_attributes_stay_from_coco_to_coco(source, convert, tmp_path):
    content = json.loads((source / "instances.json").read_text())
    content["annotations"][0] |= {"attributes": {"occluded": True}, "mine": [1, 2]}
    content["info"] = {"year": 2026}
    (tmp_path / "own.json").write_text(json.dumps(content))
    convert(tmp_path / "own.json", "--to", "coco", "--output", tmp_path / "again")
    again = json.loads((tmp_path / "again/instances.json").read_text())
    assert again["annotations"] == content["annotations"] and again["info"] == content["info"]
    assert again["images"] == content["images"] and again["categories"] == content["categories"]


def test_links(source, convert, tmp_path):
    convert(
        source / "instances.json", "--to", "yolo", "--output", tmp_path / "y", "--images", source / "images",
        "--link-images",
    )  # fmt: skip
    link = tmp_path / "y/images/train" / IMAGES[1]
    assert link.is_symlink() and link.resolve() == (source / "images" / IMAGES[1]).resolve()


def test_what_cannot_be(source, convert, tmp_path):
    arguments = (source / "instances.json", "--output", tmp_path / "x")
    assert "there is no format 'yolov8'; did you mean yolo?" in convert(*arguments, "--to", "yolov8", fails=True)
    assert "takes instance annotations: leave --task out" in convert(
        *arguments, "--to", "yolo", "--task", "semantic", fails=True
    )
    assert "need the folder of the images: add --images" in convert(
        *arguments, "--to", "coco", "--copy-images", fails=True
    )
    assert "lie one in the other: name another folder" in convert(
        source / "instances.json", "--output", source, "--to", "coco", "--overwrite", fails=True
    )
    assert "none.json does not exist" in convert("none.json", "--to", "coco", "--output", tmp_path / "x", fails=True)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/mine.txt").touch()
    assert "exists already and isn't empty" in convert(*arguments, "--to", "coco", fails=True)
    (tmp_path / "strange.csv").write_text("a,b\n")
    told = convert(tmp_path / "strange.csv", "--to", "coco", "--output", tmp_path / "y", fails=True)
    assert "is in no format that is known here; if it is one of labelme, yolo" in told
    assert not (tmp_path / "y").exists()


def test_a_missing_image_leaves_nothing_behind(source, convert, tmp_path):
    (tmp_path / "few").mkdir()
    told = convert(
        source / "instances.json", "--to", "coco", "--output", tmp_path / "x", "--images", tmp_path / "few",
        "--copy-images", fails=True,
    )  # fmt: skip
    assert "is missing: check --images" in told and [path.name for path in tmp_path.iterdir()] == ["few"]


def test_only_outputs_of_this_program_are_overwritten(source, convert, tmp_path):
    arguments = (source / "instances.json", "--to", "yolo", "--output", tmp_path / "x", "--overwrite")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/thesis.txt").write_text("mine", encoding="utf-8")
    assert "was not made by this program, and so is not overwritten" in convert(*arguments, fails=True)
    assert (tmp_path / "x/thesis.txt").read_text(encoding="utf-8") == "mine"
    (tmp_path / "x/thesis.txt").unlink()
    convert(*arguments)
    convert(*arguments)


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/passwd", "C:\\evil.png"])
@pytest.mark.parametrize("to", ["labelme", "yolo", "voc", "label-pngs", "coco-panoptic"])
def test_names_of_images_lead_nowhere_else(name, to, source, convert, tmp_path):
    content = json.loads((source / "instances.json").read_text())
    content["images"][0]["file_name"] = name
    (tmp_path / "evil.json").write_text(json.dumps(content))
    told = convert(tmp_path / "evil.json", "--to", to, "--output", tmp_path / "deep/x", fails=True)
    assert "leads out of the folder of images" in told
    assert sorted(path.name for path in tmp_path.iterdir()) in (["evil.json"], ["deep", "evil.json"])


def test_what_is_lost_is_told(source, convert, tmp_path, capsys):
    scene = instance_set(CLASSES, crowd=True, images=IMAGES)
    (tmp_path / "crowds.json").write_text(coco_json(scene))
    for name, line in {
        "yolo": "yolo has no place for crowds: 2 became objects",
        "label-studio": "label-studio has no place for crowds: 2 became objects",
        "coco-panoptic": "a pixel has one object in coco-panoptic: ",
    }.items():
        monkey = (tmp_path / "crowds.json", "--to", name, "--output", tmp_path / name)
        sys.argv = ["convert.py", *map(str, monkey)]
        load_tool("convert").main()
        assert line in capsys.readouterr().err


def test_copied_images_are_those_that_labelme_shows(source, convert, tmp_path):
    convert(
        source / "instances.json", "--to", "labelme", "--output", tmp_path / "x", "--images", source / "images",
        "--copy-images",
    )  # fmt: skip
    for file in (tmp_path / "x").rglob("*.json"):
        assert (file.parent / json.loads(file.read_text(encoding="utf-8"))["imagePath"]).is_file()
