"""Whatever is changed in a file of annotations, reading ends well or in an error that names the file."""

import copy
import json
import random

import pytest
from outlined_scenes import scene_set, write_images

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import object_masks
from pnm.annotations.known_formats import FORMATS, read_annotations
from pnm.errors import UserError

STRANGE = (
    None,
    True,
    -1,
    0,
    1,
    2.5,
    1e300,
    float("nan"),
    10**30,
    "",
    "x",
    "..",
    "\0",
    [],
    [[]],
    [[1, 2]],
    {},
    {"a": 1},
)
TEXTS = (
    "",
    "-1",
    "0",
    "nan",
    "inf",
    "1e300",
    "9" * 30,
    "x",
    "..",
    "1,2;3",
    "\ud7ff",
    "1.5",
    ";",
    "- a",
    "[",
    "{",
    "\n",
)


def spots(content):
    """(container, key) of all values."""
    if isinstance(content, (dict, list)):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from spots(content[key])


def read_all(path, folder, name):
    try:
        annotations = read_annotations(Source(path, images=folder), name)
        for image in annotations.images:
            object_masks(image, annotations.read(image))
        FORMATS[name].recognises(path)
    except (UserError, FileNotFoundError) as error:
        assert str(error).strip()


@pytest.mark.parametrize(("name", "file"), [("labelme", "street/0001.json"), ("label-studio", "tasks.json")])
def test_strange_values_in_json(tmp_path, name, file):
    write_images(tmp_path / "images")
    FORMATS[name].write({"": scene_set()[0]}, tmp_path / "out")
    path = tmp_path / "out" / file
    whole, chance = json.loads(path.read_text("utf-8")), random.Random(0)
    for _ in range(150):
        content = copy.deepcopy(whole)
        places = [spot for spot in spots(content) if not (isinstance(spot[1], int) and isinstance(spot[0][0], int))]
        container, key = chance.choice(places)
        if chance.random() < 0.2:
            del container[key]
        else:
            container[key] = chance.choice(STRANGE)
        path.write_text(json.dumps(content), encoding="utf-8")
        read_all(path, tmp_path / "images", name)


@pytest.mark.parametrize(
    ("name", "file"),
    [("cvat", "annotations.xml"), ("yolo", "data.yaml"), ("yolo", "labels/train/street/0001.txt")],
)
def test_strange_words_in_text(tmp_path, name, file):
    write_images(tmp_path / "images/train")
    FORMATS[name].write({"": scene_set()[0]}, tmp_path)
    path, chance = tmp_path / file, random.Random(0)
    whole = path.read_text("utf-8")
    marks = [n for n, character in enumerate(whole) if character in ' "\n:,;<>']
    for _ in range(150):
        start, end = sorted(chance.sample(marks, 2)) if chance.random() < 0.2 else (0, 0)
        if not end:
            place = chance.randrange(len(marks) - 1)
            start, end = marks[place] + 1, marks[place + 1]
        path.write_text(whole[:start] + chance.choice(TEXTS) + whole[end:], encoding="utf-8")
        read_all(tmp_path if name == "yolo" else path, tmp_path / "images/train" if name == "yolo" else None, name)
