"""A scene with its panoptic files, as a data set's dict and as a prediction."""

from typing import NamedTuple

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from PIL import Image

from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.predictions import Partition
from pnm.projects.prn import PanopticClasses

SIZE = 64, 96
CLASSES = PanopticClasses(things=((3, 0), (7, 1)), stuff=((20, -2), (21, -3)))  # stuff as ~1, ~2


class Scene(NamedTuple):
    """``labels``: 1, 2 instances, 3, 4 stuff, 5 a crowd, 0 void; ``entry`` is the dataset dict of it in files."""

    classes: PanopticClasses
    image: np.ndarray
    labels: np.ndarray
    entry: dict


@pytest.fixture
def scene(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*SIZE, 3), np.uint8)
    labels = np.full(SIZE, 3, np.int32)
    labels[30:] = 4
    labels[10:50, 8:30] = 1
    labels[20:60, 40:60] = 2
    labels[5:15, 70:90] = 5
    labels[:, 93:] = 0
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(ids_to_rgb(labels * 1000)).save(tmp_path / "panoptic.png")
    categories = {1: (0, True), 2: (1, True), 3: (1, False), 4: (2, False), 5: (1, True)}
    rows = [
        {"id": 1000 * n, "category_id": k, "isthing": thing, "iscrowd": int(n == 5)}
        for n, (k, thing) in categories.items()
    ]
    paths = {"file_name": str(tmp_path / "image.png"), "pan_seg_file_name": str(tmp_path / "panoptic.png")}
    return Scene(CLASSES, image, labels, {**paths, "image_id": 1, "segments_info": rows})


@pytest.fixture
def prediction(scene):
    """The crowd is stuff here; ids are the labels', categories those of dataset dicts."""
    labels = np.where(scene.labels == 5, 3, scene.labels)
    return Partition(labels, (1, 2, 3, 4), (0, 1, -2, -3))


@pytest.fixture
def registered(forget_data_sets):
    """A data set "scenes" with these classes."""
    MetadataCatalog.get("scenes").set(
        thing_dataset_id_to_contiguous_id={3: 0, 7: 1},
        stuff_dataset_id_to_contiguous_id={0: 0, 20: 1, 21: 2},
        stuff_classes=["things", "a", "b"],
    )
    yield "scenes"
    MetadataCatalog.remove("scenes")
