"""JSON files of COCO, and what may have become of them."""

import copy
import json

import numpy as np
from pycocotools import mask as coco_mask

ODD = [
    None,
    True,
    False,
    -1,
    0,
    1,
    1.0,
    1.5,
    2**31,
    2**63,
    2**70,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "1",
    "é",
    "\0",
    [],
    {},
]
ODD += [
    [1, 2],
    [[1, 2, 3, 4]],
    [[]],
    [None],
    {"size": [30, 40], "counts": "x"},
    {"size": [1], "counts": [1]},
    "x" * 1000,
]


def instances():
    rle = coco_mask.encode(np.asfortranarray(np.eye(30, 40, dtype=np.uint8)))
    masks = [[[1, 1, 20, 1, 20, 20]], {"size": [30, 40], "counts": rle["counts"].decode()}]
    masks.append({"size": [30, 40], "counts": [600, 600]})
    common = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 19, 19]}
    truth = {
        "images": [{"id": k, "height": 30, "width": 40, "file_name": f"{k}.jpg"} for k in (1, 2)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": k, **common, "segmentation": mask, "area": 9, "iscrowd": 0} for k, mask in enumerate(masks, 1)
        ],
    }
    return truth, [{**common, "segmentation": mask, "score": 0.5} for mask in masks]


def panoptic():
    segments = [{"id": k, "category_id": 1, "iscrowd": 0, "area": 5, "bbox": [0, 0, 1, 1]} for k in (1, 2)]
    return {
        "images": [{"id": 1, "height": 30, "width": 40, "file_name": "1.jpg"}],
        "categories": [{"id": 1, "name": "a", "isthing": 1}],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
    }


def places(content, place=()):
    yield place
    for key, value in (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    ):
        yield from places(value, (*place, key))


def mutated(content, chance):
    """A text: another value somewhere, or another key, or pieces of the text changed."""
    whole = copy.deepcopy(content)
    for _ in range(chance.randrange(1, 3)):
        place = chance.choice([place for place in places(whole) if place])
        part = whole
        for key in place[:-1]:
            part = part[key]
        if isinstance(part, dict) and chance.random() < 0.2:
            part["other"] = part.pop(place[-1])
        else:
            part[place[-1]] = copy.deepcopy(chance.choice(ODD))
    text = json.dumps(whole)
    if chance.random() < 0.2:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(["", "[", "}", '"', "1", ",", "\ud800", "[" * 5000]) + text[at + 1 :]
    return text.encode("utf-8", "surrogatepass")
