"""Batches are Detectron2's in its order, and depend on the seed and the iteration alone."""

import itertools
import random

import numpy as np
import pytest
import torch
from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import TrainingSampler
from PIL import Image

from pnm.errors import UserError
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.train_loader import build_train_loader, is_wide, start_at

ENTRIES = [{"file_name": str(k), "width": 10 + k % 3, "height": 11, "number": k} for k in range(20)]


def drawn(entry):
    """A sample that holds what every generator gives."""
    return {**entry, "drawn": (random.random(), np.random.random(), float(torch.rand(())))}  # noqa: NPY002


def sometimes_nothing(entry):
    return None if entry["number"] % 2 else drawn(entry)


def config(workers=0, **changes):
    overrides = ["SOLVER.IMS_PER_BATCH", "3", "DATALOADER.NUM_WORKERS", str(workers), "SEED", "7"]
    return load_config("", [*overrides, *itertools.chain(*changes.items())])


def first(loader, count):
    return list(itertools.islice(iter(loader), count))


@pytest.mark.parametrize("mapper", [drawn, sometimes_nothing])
def test_neither_workers_nor_a_later_start_change_them(mapper):
    batches = first(build_train_loader(config(), mapper, [ENTRIES]), 12)
    assert len({sample["drawn"] for batch in batches for sample in batch}) == 36
    for workers, start in ((0, 5), (1, 0), (2, 7)):
        loader = build_train_loader(config(workers), mapper, [ENTRIES])
        start_at(loader, start)
        assert first(loader, 12 - start) == batches[start:]


@pytest.mark.parametrize("grouping", [True, False])
def test_order_is_detectron2s(grouping):
    changes = {"DATALOADER.ASPECT_RATIO_GROUPING": str(grouping)}
    ours = first(build_train_loader(config(**changes), dict, [ENTRIES]), 15)
    theirs = build_detection_train_loader(
        ENTRIES, mapper=dict, sampler=TrainingSampler(20, seed=7), total_batch_size=3, aspect_ratio_grouping=grouping
    )
    assert [[s["number"] for s in batch] for batch in ours] == [[s["number"] for s in b] for b in first(theirs, 15)]


def test_the_generators_of_the_run_are_left_alone():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = drawn({})
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    first(build_train_loader(config(), drawn, [ENTRIES]), 2)
    assert drawn({}) == expected


@pytest.mark.parametrize("name", ["RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"])
def test_other_samplers_start_later_too(name):
    entries = [{**entry, "annotations": [{"category_id": entry["number"] % 7}]} for entry in ENTRIES]
    changes = {
        "DATALOADER.SAMPLER_TRAIN": name,
        "DATALOADER.REPEAT_THRESHOLD": "0.5",
        "DATALOADER.RANDOM_SUBSET_RATIO": "0.5",
    }
    cfg = config(**changes)
    batches = first(build_train_loader(cfg, drawn, [entries]), 9)
    loader = build_train_loader(cfg, drawn, [entries])
    start_at(loader, 4)
    assert first(loader, 5) == batches[4:]


@pytest.mark.parametrize(
    ("entries", "changes", "message"),
    [
        ([], {}, "have no image to train on"),
        (ENTRIES, {"DATALOADER.SAMPLER_TRAIN": "Other"}, "SAMPLER_TRAIN is 'Other', expected TrainingSampler"),
        (ENTRIES, {"SOLVER.IMS_PER_BATCH": "0"}, "IMS_PER_BATCH is 0, expected a multiple of the 1 processes"),
    ],
)
def test_what_cannot_be_loaded(entries, changes, message):
    with pytest.raises(UserError, match=message):
        build_train_loader(config(**changes), drawn, [entries])


def test_nothing_to_learn_from_ends():
    with pytest.raises(UserError, match="1000 images in a row gave nothing to learn from"):
        first(build_train_loader(config(), lambda entry: None, [ENTRIES]), 1)


def test_shapes_of_images_whose_entries_do_not_tell(tmp_path):
    exif = Image.Exif()
    for name, orientation in (("flat.jpg", 1), ("turned.jpg", 6)):
        exif[274] = orientation
        Image.new("RGB", (8, 4)).save(tmp_path / name, exif=exif)
    assert is_wide({"file_name": str(tmp_path / "flat.jpg")}) and not is_wide(
        {"file_name": str(tmp_path / "turned.jpg")}
    )
    assert not is_wide({"file_name": str(tmp_path / "nothing.jpg")})
