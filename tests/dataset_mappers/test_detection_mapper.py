"""Our mapper gives Detectron2's samples, with the same random choices, on whichever engine runs."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper
from PIL import Image

from pnm.errors import UserError
from pnm.projects.dataset_mappers import CheckedDatasetMapper
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.shapes import register_shapes


@pytest.fixture
def panoptic(monkeypatch, shapes_root, forget_data_sets):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))
    register_shapes()
    return DatasetCatalog.get("shapes_train_panoptic")[:4]


def assert_equal_samples(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if key == "instances":
            assert torch.equal(ours[key].gt_boxes.tensor, value.gt_boxes.tensor)
            assert torch.equal(ours[key].gt_masks.tensor, value.gt_masks.tensor)
            assert torch.equal(ours[key].gt_classes, value.gt_classes)
        elif isinstance(value, torch.Tensor):
            assert torch.equal(ours[key], value) and ours[key].dtype == value.dtype
        else:
            assert ours[key] == value


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("crop", ["False", "True"])
def test_samples_are_detectron2s(panoptic, is_train, crop):
    cfg = load_config("quickstart/panoptic_fpn_R_18", ["INPUT.CROP.ENABLED", crop, "INPUT.CROP.SIZE", "[0.6, 0.7]"])
    mappers = [kind(cfg, is_train) for kind in (CheckedDatasetMapper, DatasetMapper)]
    for entry in panoptic:
        before = str(entry)
        samples = []
        for mapper in mappers:
            np.random.seed(7)  # noqa: NPY002 - what Detectron2 seeds
            samples.append(mapper(entry))
        assert_equal_samples(*samples)
        assert str(entry) == before


def test_transforms_move_what_the_sample_went_through(panoptic):
    cfg = load_config("quickstart/semantic_fpn_R_18", ["INPUT.RANDOM_FLIP", "horizontal"])
    mapper = CheckedDatasetMapper(cfg, True)
    columns = np.tile(np.arange(128, dtype=np.uint8), (96, 1))
    flips = set()
    for _ in range(20):
        sample, transforms, *_ = mapper.map_with_transforms(panoptic[0])
        moved = transforms.apply_segmentation(columns)
        assert moved.shape == tuple(sample["sem_seg"].shape)
        flips.add(bool(moved[0, 0] > moved[0, -1]))
    assert flips == {True, False}


def test_labels_of_another_size_are_named(panoptic, tmp_path):
    mapper = CheckedDatasetMapper(load_config("quickstart/semantic_fpn_R_18"), True)
    Image.fromarray(np.zeros((50, 128), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="is 96 x 128, its labels .*a.png are 50 x 128: expected one size"):
        mapper({**panoptic[0], "sem_seg_file_name": str(tmp_path / "a.png")})
