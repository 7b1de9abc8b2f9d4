"""Which format a path is in: one of them, and no error, whatever is there."""

import json

import numpy as np
import pytest
from painted_scenes import instance_set, panoptic_set, semantic_set
from PIL import Image

from pnm.annotations.known_formats import FORMATS, format_of
from pnm.errors import UserError

CAR = ("car",)
SAMPLES = {
    "coco": (instance_set(CAR), "instances_train.json"),
    "lvis": (instance_set(CAR), "lvis_train.json"),
    "coco-stuff": (semantic_set(CAR), "stuff_train.json"),
    "coco-panoptic": (panoptic_set(), "panoptic_train.json"),
    "voc": (instance_set(CAR), "."),
    "cityscapes": (instance_set(CAR), "."),
    "ade20k": (semantic_set(CAR), "."),
    "bdd100k": (instance_set(CAR), "."),
    "mapillary": (panoptic_set(), "."),
    "label-pngs": (semantic_set(CAR), "."),
}
STRANGE = (
    b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"{", b"[]", b"7", b"\xff\xfe", b"null", b"[" * 100000, b'{"images": 7}',
    b'{"images": [1], "annotations": [2], "categories": [3]}',
    b'{"images": [{}], "annotations": [{}], "categories": [{"supercategory": []}]}',
    b'{"images": [], "annotations": [], "categories": {}}',
    b'{"annotations": [[]], "categories": [{"isthing": []}], "images": [{}]}',
)  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_written_is_recognised_by_its_own_format_first(name, tmp_path):
    annotations, path = SAMPLES[name]
    FORMATS[name].write({"train": annotations}, tmp_path)
    assert format_of(tmp_path / path).name == name


@pytest.mark.parametrize("content", STRANGE, ids=range(len(STRANGE)))
def test_no_format_raises_of_a_strange_file(content, tmp_path):
    for ending in (".json", ".png", ".xml", ""):
        path = tmp_path / f"strange{ending}"
        path.write_bytes(content)
        for one in FORMATS.values():
            assert one.recognises(path) in (True, False)
    for one in FORMATS.values():
        one.recognises(tmp_path)  # a folder with a damaged PNG


def test_a_path_in_no_format_is_told_with_those_that_are_known(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.json").write_text(json.dumps({"shapes": 7}))
    for path in (tmp_path, tmp_path / "a.png", tmp_path / "b.json"):
        with pytest.raises(UserError, match="in no format that is known here.*label-pngs, name it"):
            format_of(path)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="in no format"):
        format_of(tmp_path)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_content_is_written_as_the_same_bytes(name, tmp_path):
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        FORMATS[name].write({"train": SAMPLES[name][0]}, folder)
        written.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert written[0] == written[1] and written[0]
