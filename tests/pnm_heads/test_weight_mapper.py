"""Pixel weights of mapped samples: computed and stored ones agree, and move with their labels."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from pnm.errors import UserError
from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.formats.label_png import read_panoptic_png
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.settings import PNMSettings
from pnm.null_model.stored.maps import WeightMapParameters, weight_folder
from pnm.null_model.stored.writer import write_weight_maps
from pnm.projects.dataset_mappers.label_files import LabelFiles
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.mappers import build_mapper
from pnm.projects.pnm_heads.weight_mapper import PixelWeightMapper, move_surprisal

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


def make_maps(tmp_path, records, locality=LOCALITY, labels="semantic"):
    key, ignored = {"semantic": ("sem_seg_file_name", 255), "panoptic": ("pan_seg_file_name", 0)}[labels]
    parameters = WeightMapParameters("weight_mapper_test", locality, ignore_label=ignored, labels=labels)
    folder = weight_folder(tmp_path / "maps", parameters)
    write_weight_maps(folder, parameters, [x[key] for x in records], progress=False)
    return folder


def sample_of(mapper, record, seed):
    np.random.seed(seed)  # noqa: NPY002  (Detectron2's augmentations draw from it)
    return mapper(record)


UNCHANGED = ("INPUT.MAPPER", "default_mapper", "INPUT.MIN_SIZE_TRAIN", "(60,)", "INPUT.RANDOM_FLIP", "none")


def test_all_sources_give_the_same_weights_on_plain_images(dataset, tmp_path):
    make_maps(tmp_path, dataset)
    mappers = [build_mapper(config(tmp_path, s, *UNCHANGED), True) for s in ("online", "offline", "label")]
    for record in dataset:
        ours, theirs, computed = (mapper(record) for mapper in mappers)
        assert torch.equal(computed["pixel_weights"], theirs["pixel_weights"])
        labels = np.asarray(Image.open(record["sem_seg_file_name"]))
        expected = pixel_weights(pixel_null_model(labels, LOCALITY))
        expected[labels == 255] = 0
        assert np.array_equal(ours["pixel_weights"].numpy(), expected)
        torch.testing.assert_close(theirs["pixel_weights"], ours["pixel_weights"], rtol=1e-4, atol=0)


SCALED = ("INPUT.MIN_SIZE_TRAIN", "(30, 60, 90, 120)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "choice")
SCALED += ("INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "(28, 36)")


def test_weights_of_the_label_equal_stored_ones_through_every_augmentation(dataset, tmp_path):
    make_maps(tmp_path, dataset)
    offline, computed = (build_mapper(config(tmp_path, s, *SCALED), True) for s in ("offline", "label"))
    for seed in range(12):
        ours, theirs = (sample_of(mapper, dataset[seed % 3], seed) for mapper in (computed, offline))
        assert ours["sem_seg"].shape == (28, 36) and torch.equal(ours["sem_seg"], theirs["sem_seg"])
        assert torch.equal(ours["pixel_weights"], theirs["pixel_weights"])


@pytest.mark.parametrize("mapper_name", ["semantic_mapper", "default_mapper"])
def test_weights_of_the_label_are_those_of_its_own_pixels_at_every_scale(dataset, tmp_path, mapper_name):
    """At half the size every pixel keeps the weight that it has in the label; computed there, the window sees four
    times as much of the scene."""
    half = ("INPUT.MAPPER", mapper_name, "INPUT.MIN_SIZE_TRAIN", "(30,)", "INPUT.RANDOM_FLIP", "none")
    label, online = (build_mapper(config(tmp_path, s, *half), True) for s in ("label", "online"))
    for record in dataset:
        labels = np.asarray(Image.open(record["sem_seg_file_name"]))
        weights = pixel_weights(pixel_null_model(labels, LOCALITY))
        weights[labels == 255] = 0
        # Pillow's nearest neighbour at half the size takes the odd rows and columns.
        np.testing.assert_allclose(label(record)["pixel_weights"], weights[1::2, 1::2], rtol=1e-4)
        at_half = pixel_weights(pixel_null_model(labels[1::2, 1::2], LOCALITY))
        at_half[labels[1::2, 1::2] == 255] = 0
        assert np.array_equal(online(record)["pixel_weights"].numpy(), at_half)
        assert (at_half > 1).sum() > (weights[1::2, 1::2] > 1).sum()


def test_labels_above_255_move_with_their_weights(dataset, tmp_path):
    for record in dataset:
        labels = np.asarray(Image.open(record["sem_seg_file_name"])).astype(np.uint16)
        Image.fromarray(np.where(labels == 255, 999, labels * 100)).save(record["sem_seg_file_name"])
    classes = ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "500", "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", "999")
    label, online = (build_mapper(config(tmp_path, s, *UNCHANGED, *classes), True) for s in ("label", "online"))
    scaled = build_mapper(config(tmp_path, "label", *SCALED, *classes), True)
    for record in dataset:
        ours, theirs = label(record)["pixel_weights"], online(record)["pixel_weights"]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
        for seed in range(4):
            sample = sample_of(scaled, record, seed)
            assert torch.equal(sample["pixel_weights"] == 0, sample["sem_seg"] == 999)


def test_a_mapper_that_keeps_its_transforms_can_only_be_weighted_online():
    pnm = PNMSettings(LOCALITY)
    for source, labels in (("label", "semantic"), ("online", "panoptic"), ("offline", "semantic")):
        with pytest.raises(UserError, match="function has no map_with_transforms.*set MODEL.PNM.SOURCE online"):
            PixelWeightMapper(lambda entry: entry, pnm, 255, source, labels)
    sem_seg = torch.tensor([[0, 0, 1, 255]])
    weighted = PixelWeightMapper(lambda entry: {"sem_seg": sem_seg}, pnm, 255, "online")({})
    expected = [[1 - np.log(2 / 3), 1 - np.log(2 / 3), 1 - np.log(1 / 3), 0]]
    np.testing.assert_allclose(weighted["pixel_weights"], expected, rtol=1e-6)


@pytest.fixture
def panoptic_dataset(dataset, tmp_path):
    """The same images, each with two touching segments of class 0 over all of their left and right halves, and a third
    of another class below; ids as a panoptic PNG has them."""
    infos = [(70000, 0, True), (300, 0, True), (9, 0, False)]
    rows = [{"id": id_, "category_id": k, "isthing": isthing, "iscrowd": 0} for id_, k, isthing in infos]
    for record in dataset:
        ids = np.full((60, 80), 70000)
        ids[:, 40:], ids[45:] = 300, 9
        ids[:12, :7] = 0
        path = record["sem_seg_file_name"]
        Image.fromarray(ids_to_rgb(ids)).save(path.replace(".png", "_ids.png"))
        semantic = np.where(ids == 9, 1, 0).astype(np.uint8)
        semantic[ids == 0] = 255
        Image.fromarray(semantic).save(path)
        record |= {"pan_seg_file_name": path.replace(".png", "_ids.png"), "segments_info": rows}
    MetadataCatalog.get("weight_mapper_test").set(
        panoptic_json="x.json",
        thing_classes=["car"],
        thing_dataset_id_to_contiguous_id={1: 0},
        stuff_dataset_id_to_contiguous_id={2: 0},
    )
    return dataset


@pytest.mark.parametrize("mapper_name", ["semantic_mapper", "panoptic_mapper"])
def test_panoptic_labels_weigh_the_border_between_two_objects_of_a_class(panoptic_dataset, tmp_path, mapper_name):
    make_maps(tmp_path, panoptic_dataset, labels="panoptic")
    plain = (*UNCHANGED[2:], "INPUT.MAPPER", mapper_name)
    record = panoptic_dataset[0]
    weights = {
        (source, labels): build_mapper(config(tmp_path, source, *plain, "MODEL.PNM.LABELS", labels), True)(record)[
            "pixel_weights"
        ]
        for source, labels in [("label", "semantic"), *((s, "panoptic") for s in ("label", "offline", "online"))]
    }
    ids = read_panoptic_png(record["pan_seg_file_name"])
    expected = pixel_weights(pixel_null_model(ids, LOCALITY, ignore_label=0))
    expected[ids == 0] = 0
    for source in ("label", "offline", "online"):
        np.testing.assert_allclose(weights[source, "panoptic"], expected, rtol=1e-4)
    assert torch.equal(weights["label", "panoptic"], weights["offline", "panoptic"])
    beside = slice(20, 30), slice(38, 42)  # of the border between the two objects, far from any other
    assert (weights["label", "semantic"][beside] == 1).all() and (weights["label", "panoptic"][beside] > 1.4).all()
    scaled = (*SCALED, "MODEL.PNM.LABELS", "panoptic", "INPUT.MAPPER", mapper_name)
    if mapper_name == "panoptic_mapper":  # it has no crops of its own
        scaled = ("INPUT.MIN_SIZE_TRAIN", "(30,)", *scaled[4:6], *scaled[-4:])
    offline, computed = (build_mapper(config(tmp_path, s, *scaled), True) for s in ("offline", "label"))
    largest = []
    for seed in range(8):
        ours, theirs = (sample_of(mapper, record, seed)["pixel_weights"] for mapper in (computed, offline))
        assert torch.equal(ours, theirs)
        largest.append(ours.max())
    assert max(largest) > 1.4


@pytest.mark.parametrize("source", ["label", "offline", "online"])
def test_labelled_pixels_that_are_no_segments_weigh_1(panoptic_dataset, tmp_path, source):
    """Their ids are 0, as the background's where only objects have ids."""
    record = panoptic_dataset[0]
    ids = read_panoptic_png(record["pan_seg_file_name"])
    ids[ids == 9] = 0
    Image.fromarray(ids_to_rgb(ids)).save(record["pan_seg_file_name"])
    make_maps(tmp_path, panoptic_dataset, labels="panoptic")
    plain = (*UNCHANGED[2:], "INPUT.MAPPER", "semantic_mapper", "MODEL.PNM.LABELS", "panoptic")
    weights = build_mapper(config(tmp_path, source, *plain), True)(record)["pixel_weights"]
    expected = pixel_weights(pixel_null_model(ids, LOCALITY, ignore_label=0))
    assert (expected[45:] == 1).all() and (expected[20:40, 38:42] > 1.4).all()
    expected[:12, :7] = 0  # without a label
    np.testing.assert_allclose(weights, expected, rtol=1e-4)


def test_label_files():
    separated = {"sem_seg_root": "coco/stuff", "panoptic_root": "coco/panoptic"}
    files = LabelFiles([separated, {"sem_seg_root": "ade/labels"}])
    entry = {"sem_seg_file_name": "coco/stuff/a/1.png"}
    assert (
        files.of(entry, "semantic") == "coco/stuff/a/1.png" and files.of(entry, "panoptic") == "coco/panoptic/a/1.png"
    )
    assert files.of({**entry, "pan_seg_file_name": "x.png"}, "panoptic") == "x.png"
    assert files.of({**entry, "segment_ids_file_name": "y.png"}, "panoptic") == "y.png"
    assert files.of({"sem_seg_file_name": "ade/labels/1.png"}, "panoptic") is None
    assert files.of({"file_name": "1.jpg"}, "semantic") is None and files.of({"file_name": "1.jpg"}, "panoptic") is None


def test_panoptic_ids_move_as_labels_above_255_do(panoptic_dataset, tmp_path):
    """Online, where Detectron2 resizes float labels in another way than 8-bit ones."""
    record = panoptic_dataset[0]
    labels = np.asarray(Image.open(record["sem_seg_file_name"])).astype(np.uint16)
    ids = np.arange(60 * 80).reshape(60, 80) // 5 + 1
    Image.fromarray(ids_to_rgb(ids)).save(record["pan_seg_file_name"])
    Image.fromarray(np.where(labels == 255, 999, 300 + ids % 100).astype(np.uint16)).save(record["sem_seg_file_name"])
    settings = ("INPUT.MIN_SIZE_TRAIN", "(30,)", "INPUT.RANDOM_FLIP", "none", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "500")
    settings += (
        "MODEL.SEM_SEG_HEAD.IGNORE_VALUE",
        "999",
        "INPUT.MAPPER",
        "semantic_mapper",
        "MODEL.PNM.LABELS",
        "panoptic",
    )
    sample = build_mapper(config(tmp_path, "online", *settings), True)(record)
    moved = ids[::2, ::2]  # as torch's nearest takes them
    assert torch.equal(sample["sem_seg"][20:], torch.from_numpy(300 + moved[20:] % 100))
    expected = pixel_weights(pixel_null_model(moved, LOCALITY, ignore_label=0))
    np.testing.assert_allclose(sample["pixel_weights"][20:], expected[20:], rtol=1e-6)


def test_panoptic_labels_that_are_not_there_are_told(dataset, tmp_path):
    with pytest.raises(UserError, match="LABELS is panoptic, but data set weight_mapper_test has no panoptic PNGs"):
        build_mapper(config(tmp_path, "label", *UNCHANGED, "MODEL.PNM.LABELS", "panoptic"), True)


def test_stored_maps_of_panoptic_pngs_are_told_apart(panoptic_dataset, tmp_path):
    make_maps(tmp_path, panoptic_dataset)
    command = "run: python tools/precompute_weights.py --dataset weight_mapper_test --locality 9 --labels panoptic"
    with pytest.raises(UserError, match=command):
        build_mapper(config(tmp_path, "offline", *UNCHANGED, "MODEL.PNM.LABELS", "panoptic"), True)
    with pytest.raises(UserError, match="no stored weight maps: set MODEL.PNM.SOURCE label"):
        build_mapper(config(tmp_path, "offline", *UNCHANGED[2:], "INPUT.MAPPER", "panoptic_mapper"), True)


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
