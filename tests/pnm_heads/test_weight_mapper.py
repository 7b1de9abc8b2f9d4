"""Pixel weights of mapped samples: computed and stored ones agree, and move with their labels."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from pnm.errors import UserError
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.stored.maps import WeightMapParameters
from pnm.null_model.stored.writer import write_weight_maps
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.mappers import build_mapper
from pnm.projects.pnm_heads.weight_mapper import move_surprisal

LOCALITY = 9


@pytest.fixture
def dataset(tmp_path):
    """Three images of 60x80 px with labels, of which a corner is ignored; removed from the catalog afterwards."""
    generator = np.random.default_rng(0)
    records = []
    for k in range(3):
        labels = generator.integers(0, 5, (6, 8), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        labels[:12, :7] = 255
        Image.fromarray(labels).save(tmp_path / f"{k}.png")
        Image.fromarray(generator.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(tmp_path / f"{k}.jpg")
        names = {"file_name": str(tmp_path / f"{k}.jpg"), "sem_seg_file_name": str(tmp_path / f"{k}.png")}
        records.append({**names, "height": 60, "width": 80, "image_id": k})
    DatasetCatalog.register("weight_mapper_test", lambda: records)
    MetadataCatalog.get("weight_mapper_test").set(ignore_label=255, stuff_classes=list("abcde"))
    yield records
    DatasetCatalog.remove("weight_mapper_test")
    MetadataCatalog.remove("weight_mapper_test")


def config(tmp_path, source, *overrides):
    settings = f"MODEL.PNM.ENABLED True MODEL.PNM.LOCALITY {LOCALITY} MODEL.PNM.SOURCE {source}".split()
    settings += ["MODEL.PNM.MAPS_ROOT", str(tmp_path / "maps"), "DATASETS.TRAIN", "('weight_mapper_test',)"]
    return load_config("configs/quickstart/semantic_fpn_R_18.yaml", [*settings, *overrides])


def make_maps(tmp_path, records, locality=LOCALITY):
    folder = tmp_path / "maps/weight_mapper_test"
    parameters = WeightMapParameters("weight_mapper_test", locality)
    write_weight_maps(folder, parameters, [x["sem_seg_file_name"] for x in records], progress=False)
    return folder


UNCHANGED = ("INPUT.MAPPER", "default_mapper", "INPUT.MIN_SIZE_TRAIN", "(60,)", "INPUT.RANDOM_FLIP", "none")


def test_both_sources_give_the_same_weights_on_plain_images(dataset, tmp_path):
    make_maps(tmp_path, dataset)
    online, offline = (build_mapper(config(tmp_path, s, *UNCHANGED), True) for s in ("online", "offline"))
    for record in dataset:
        ours, theirs = online(record), offline(record)
        labels = np.asarray(Image.open(record["sem_seg_file_name"]))
        expected = pixel_weights(pixel_null_model(labels, LOCALITY))
        expected[labels == 255] = 0
        assert np.array_equal(ours["pixel_weights"].numpy(), expected)
        torch.testing.assert_close(theirs["pixel_weights"], ours["pixel_weights"], rtol=1e-4, atol=0)


def test_stored_weights_follow_their_labels_pixel_for_pixel():
    """A map that repeats its label shows after any augmentation whether both were sampled at the same places."""
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 256, (60, 80), dtype=np.uint8)
    encoded = labels.astype(np.uint16) * 257
    for _ in range(20):
        np.random.seed(generator.integers(1 << 30))  # noqa: NPY002  (Detectron2's augmentations draw from it)
        drawn = [T.ResizeShortestEdge((40, 90), 200, "range"), T.RandomCrop("absolute", (32, 48)), T.RandomFlip()]
        aug_input = T.AugInput(np.zeros((60, 80, 3), np.uint8), sem_seg=labels)
        transforms = T.AugmentationList(drawn)(aug_input)
        assert np.array_equal(move_surprisal(encoded, transforms), aug_input.sem_seg.astype(np.uint16) * 257)


def test_augmented_samples_keep_weights_and_labels_together(dataset, tmp_path):
    make_maps(tmp_path, dataset)
    crop = ("INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "(32, 48)")
    mapper = build_mapper(config(tmp_path, "offline", *crop, "INPUT.MIN_SIZE_TRAIN", "(48, 70)"), True)
    for _ in range(5):
        for record in dataset:
            sample = mapper(record)
            weights, labels = sample["pixel_weights"], sample["sem_seg"]
            assert weights.shape == labels.shape == sample["image"].shape[-2:]
            assert ((weights == 0) == (labels == 255)).all() and (weights[labels != 255] >= 1).all()


def test_missing_stale_damaged_and_other_maps_are_told(dataset, tmp_path):
    offline = config(tmp_path, "offline", *UNCHANGED)
    command = "run: python tools/precompute_weights.py --dataset weight_mapper_test --locality 9"
    with pytest.raises(UserError, match=command):
        build_mapper(offline, True)
    folder = make_maps(tmp_path, dataset)
    with pytest.raises(UserError, match="locality"):
        build_mapper(config(tmp_path, "offline", *UNCHANGED, "MODEL.PNM.LOCALITY", "11"), True)
    mapper = build_mapper(offline, True)
    stored = sorted(folder.glob("maps/*/*.png"))
    assert len(stored) == 3
    for path in stored:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(dataset[2]["sem_seg_file_name"])
    for record, fault in zip(dataset, ("is damaged", "is damaged", "has changed since")):
        with pytest.raises(UserError, match=f"{fault}.*{command}"):
            mapper(record)


def test_samples_without_labels_are_told(tmp_path, dataset):
    mapper = build_mapper(config(tmp_path, "online", *UNCHANGED), True)
    with pytest.raises(UserError, match="no semantic labels"):
        mapper({key: value for key, value in dataset[0].items() if key != "sem_seg_file_name"})
