"""People's own annotations refined: the same format comes back, with other masks and all else as it was."""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import object_masks
from pnm.annotations.class_map import with_class_map
from pnm.annotations.known_formats import FORMATS, read_annotations
from pnm.annotations.other_tasks import as_task
from pnm.errors import UserError
from pnm.masks.crops import paste
from pnm.predictions.annotated_files import AnnotatedFiles
from pnm.predictions.image_predictions import Objects
from pnm.predictions.opening import open_predictions

sys.path.insert(0, str(Path(__file__).parents[1] / "annotations/formats"))
from painted_scenes import HEIGHT, WIDTH, instance_set

IMAGES = ("street/a_000000_000001.png", "b_000000_000002.png")
CLASSES = ("car", "person")
NATIVE = "coco-panoptic"  # which has a class of its own, that lets refiners change the list of segments
ROUND = {name: one for name, one in FORMATS.items() if one.writes and name != NATIVE}


def written(name, folder):
    """Files of a format, its images, and how they are read."""
    form, scene = FORMATS[name], instance_set(CLASSES, overlaps=False, images=IMAGES)
    task = next(task for task in form.reads if task in form.writes)
    form.write({"": as_task(scene, task)}, folder / "labels")
    for image in scene.images:
        path = folder / "labels" / form.image_place("", image.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    place = folder / "labels"
    if not form.is_folder:
        place = next(
            path for path in sorted(place.iterdir()) if path.suffix in (".json", ".xml") and "config" not in path.name
        )
    images = None if name == "yolo" else folder / "labels" / Path(form.image_place("", "x")).parent
    return place, Source(place, images, CLASSES if form.has_numbers and images else None), task


def grown(mask):
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "labels").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ROUND)
def test_the_format_comes_back(name, folder):
    path, source, task = written(name, folder)
    predictions = open_predictions(path, task, annotations=name, source=source)
    assert isinstance(predictions, AnnotatedFiles) and len(predictions) == len(read_annotations(source, name).images)
    output = folder / ("refined" + (path.suffix if path.is_file() else ""))
    wanted = {}
    with predictions.writer(output, "test") as writer:
        for n, key in enumerate(predictions.keys):
            coarse = predictions.read(key)
            if isinstance(coarse, Objects):
                masks = [paste(mask, *coarse.size) for mask in coarse.masks]
                refined = [grown(mask) if k == 0 and n == 0 else mask for k, mask in enumerate(masks)]
                if task == "instance" and name in ("voc", "bdd100k", "cityscapes"):  # of which pixels have one object
                    refined[1:] = [mask & ~refined[0] for mask in refined[1:]]
            else:
                refined = coarse.labels.copy()
                if n == 0:
                    refined[grown(refined == coarse.segments[0]) & (refined >= 0)] = coarse.segments[0]
            wanted[key] = refined
            writer.write(key, refined, coarse)
        writer.finish()
    if name == "yolo":  # finds labels by the images beside them
        shutil.copytree(path / "images", output / "images")
    again = open_predictions(output, task, annotations=name, source=Source(output, source.images, source.classes))
    assert set(again.keys) == set(predictions.keys)
    for key in again.keys:
        before, after = predictions.read(key), again.read(key)
        assert after.categories == before.categories
        if isinstance(after, Objects):
            assert after.scores == before.scores
            assert all(
                np.array_equal(paste(mask, *after.size), w) for mask, w in zip(after.masks, wanted[key], strict=True)
            )
        else:
            assert np.array_equal(after.labels, wanted[key]) and after.segments == before.segments


def test_what_a_refiner_left_alone_stays_as_it_was_written(folder):
    path, source, _ = written("labelme", folder)
    predictions = open_predictions(path, "instance", annotations="labelme", source=source)
    with predictions.writer(folder / "refined", "test") as writer:
        for key in predictions.keys:
            writer.write(key, [paste(mask, HEIGHT, WIDTH) for mask in predictions.read(key).masks])
        writer.finish()
    files = sorted(path.rglob("*.json"))
    assert files and all(f.read_bytes() == (folder / "refined" / f.relative_to(path)).read_bytes() for f in files)


def test_the_format_is_told_from_what_is_there(folder):
    path, source, _ = written("cvat", folder)
    predictions = open_predictions(path, source=source)
    assert predictions.task == "instance" and "CVAT" in predictions.FORMAT
    annotations = read_annotations(source)
    image = annotations.images[0]
    masks = object_masks(image, annotations.read(image))
    assert all(
        np.array_equal(a.pixels, b.pixels) for a, b in zip(predictions.read(image.name).masks, masks, strict=True)
    )


def test_outputs_of_another_kind_and_unknown_formats(folder):
    path, source, _ = written("cvat", folder)
    predictions = open_predictions(path, source=source)
    with pytest.raises(UserError, match=r"the output .*refined should be named \*.xml"):
        predictions.writer(folder / "refined", "test")
    with pytest.raises(
        UserError, match="there is no format cvatt?; did you mean cvat|no format 'cvatt'; did you mean cvat"
    ):
        open_predictions(path, annotations="cvatt")
    with pytest.raises(UserError, match="there is no option png_folder"):
        open_predictions(path, png_folder=folder)


def test_a_format_that_can_only_be_read_says_so(folder):
    scene = with_class_map(
        instance_set(("car", "person"), overlaps=False, images=IMAGES), {"car": "car", "person": "person"}
    )
    panoptic = as_task(scene, "panoptic")
    with pytest.raises(UserError, match="can be read, but not written: convert them"):
        AnnotatedFiles(panoptic, FORMATS["cityscapes"], folder)
