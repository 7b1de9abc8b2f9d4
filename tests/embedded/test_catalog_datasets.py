"""Catalogues, built-in metadata and loaders, against pycocotools, hand-made files and published facts."""

import json
from pathlib import Path

import detectron2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data.datasets import convert_to_coco_json, load_coco_json, load_sem_seg, register_coco_instances
from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json, merge_to_panoptic
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools.coco import COCO

# Detectron2 asserts where the embedded engine raises ValueError.
BAD_INPUT = (ValueError, AssertionError)
EMBEDDED = Path(detectron2.__file__).parents[1].name == "embedded"
embedded_only = pytest.mark.skipif(not EMBEDDED, reason="the embedded engine's own checks and remedies")

SQUARE = [2, 2, 10, 2, 10, 8, 2, 8]


@pytest.fixture
def name():
    """A data set name that is forgotten afterwards."""
    names = [f"unit_test_{i}" for i in range(3)]
    yield names[0]
    for used in names:
        DatasetCatalog.pop(used, None)
        MetadataCatalog.pop(used, None)


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def coco_file(folder: Path, annotations=None, **changes) -> tuple[str, str]:
    """Two 16×20 images with four annotations; (JSON, image folder)."""
    crowd = np.zeros((16, 20), dtype=np.uint8)
    crowd[3:9, 4:17] = 1
    flat, counts, last = crowd.T.ravel(), [], 0
    for i in range(1, flat.size):
        if flat[i] != flat[i - 1]:
            counts.append(i - last)
            last = i
    counts.append(flat.size - last)
    rle = coco_mask.encode(np.asfortranarray(crowd))
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 16, "width": 20} for i in (9, 4)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": annotations
        or [
            ann(1, 4, 3, SQUARE, [2, 2, 8, 6], 48),
            ann(2, 9, 7, SQUARE, [2, 2, 8, 6], 48),
            ann(3, 9, 3, {"size": [16, 20], "counts": counts}, [4, 3, 13, 6], 78, iscrowd=1),
            ann(4, 9, 3, {"size": [16, 20], "counts": rle["counts"].decode()}, [4, 3, 13, 6], 78),
        ],
        **changes,
    }
    for i in (4, 9):
        save_image(folder / f"{i}.png", np.zeros((16, 20, 3), dtype=np.uint8))
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return str(path), str(folder)


def ann(number, image, category, segmentation, box, area, **more) -> dict:
    polygons = [segmentation] if isinstance(segmentation, list) else segmentation
    return dict(
        {"id": number, "image_id": image, "category_id": category, "segmentation": polygons, "bbox": box},
        **{"area": area, "iscrowd": 0, **more},
    )


def test_catalog_registers_once_and_loads_lazily(name):
    calls = []
    DatasetCatalog.register(name, lambda: calls.append(1) or [{"a": 1}])
    assert not calls and name in DatasetCatalog.list()
    assert DatasetCatalog.get(name) == [{"a": 1}] and len(calls) == 1
    with pytest.raises(BAD_INPUT):
        DatasetCatalog.register(name, lambda: [])
    with pytest.raises(BAD_INPUT):
        DatasetCatalog.register(name + "_other", [1, 2])
    DatasetCatalog.remove(name)
    with pytest.raises(KeyError, match=name):
        DatasetCatalog.get(name)


@embedded_only
def test_misspelt_names_get_a_suggestion():
    with pytest.raises(KeyError, match="did you mean .*coco_2017_train"):
        DatasetCatalog.get("coco_2017_trian")


def test_metadata_keeps_its_values(name):
    meta = MetadataCatalog.get(name).set(thing_classes=["a", "b"])
    assert MetadataCatalog.get(name) is meta and meta.name == name
    meta.thing_classes = ["a", "b"]
    with pytest.raises(BAD_INPUT):
        meta.thing_classes = ["a"]
    with pytest.raises(AttributeError, match="colour"):
        _ = meta.colour
    assert meta.get("colour", 5) == 5 and meta.as_dict() == {"name": name, "thing_classes": ["a", "b"]}
    assert Metadata(class_names=["x"]).as_dict()
    with pytest.raises(BAD_INPUT):
        MetadataCatalog.get("")


def test_builtin_metadata_states_the_published_facts():
    coco = MetadataCatalog.get("coco_2017_val")
    assert len(coco.thing_classes) == len(coco.thing_colors) == 80
    ids = coco.thing_dataset_id_to_contiguous_id
    assert (ids[1], ids[90], coco.thing_classes[0], coco.thing_classes[79]) == (0, 79, "person", "toothbrush")
    assert coco.thing_colors[0] == [220, 20, 60] and coco.evaluator_type == "coco"
    assert {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}.isdisjoint(ids), "COCO does not use these"

    separated = MetadataCatalog.get("coco_2017_train_panoptic_separated")
    assert len(separated.stuff_classes) == 54 and separated.stuff_classes[0] == "things"
    assert separated.stuff_dataset_id_to_contiguous_id[92] == 1 and separated.stuff_dataset_id_to_contiguous_id[0] == 0
    assert separated.thing_dataset_id_to_contiguous_id == ids
    assert not [c for c in separated.stuff_classes if "merged" in c or "-other" in c]

    whole = MetadataCatalog.get("coco_2017_val_panoptic")
    both = {**whole.thing_dataset_id_to_contiguous_id, **whole.stuff_dataset_id_to_contiguous_id}
    assert sorted(both.values()) == list(range(133)) and whole.label_divisor == 1000

    city = MetadataCatalog.get("cityscapes_fine_panoptic_val")
    assert city.stuff_classes[:3] == ["road", "sidewalk", "building"] and len(city.stuff_colors) == 19
    assert city.thing_dataset_id_to_contiguous_id == dict(
        zip([24, 25, 26, 27, 28, 31, 32, 33], range(11, 19), strict=True)
    )
    assert MetadataCatalog.get("cityscapes_fine_instance_seg_val").thing_classes[2] == "car"
    ade = MetadataCatalog.get("ade20k_sem_seg_val")
    assert len(ade.stuff_classes) == 150 and ade.stuff_classes[:2] == ["wall", "building"] and ade.ignore_label == 255
    known = DatasetCatalog.list()
    assert {"coco_2014_minival", "coco_2017_test-dev", "coco_2017_val_100_panoptic_stuffonly"} <= set(known)


def test_coco_json_gives_boxes_masks_and_contiguous_ids(tmp_path, name):
    entries = load_coco_json(*coco_file(tmp_path), name)
    assert [e["image_id"] for e in entries] == [4, 9] and MetadataCatalog.get(name).thing_classes == ["dog", "cat"]
    assert entries[0]["file_name"] == str(tmp_path / "4.png") and entries[0]["height"] == 16
    objects = entries[1]["annotations"]
    assert [o["category_id"] for o in objects] == [1, 0, 0] and [o["iscrowd"] for o in objects] == [0, 1, 0]
    assert objects[0]["segmentation"] == [SQUARE] and objects[0]["bbox_mode"] == BoxMode.XYWH_ABS
    truth = np.zeros((16, 20), dtype=np.uint8)
    truth[3:9, 4:17] = 1
    for rle in (objects[1]["segmentation"], objects[2]["segmentation"]):
        np.testing.assert_array_equal(coco_mask.decode(rle), truth)
    raw = load_coco_json(*coco_file(tmp_path), None, extra_annotation_keys=["area"])
    assert raw[0]["annotations"][0]["category_id"] == 3 and raw[0]["annotations"][0]["area"] == 48


def test_bad_parts_of_a_mask_are_left_out_where_good_ones_remain(tmp_path):
    bad = ann(1, 4, 3, SQUARE, [2, 2, 8, 6], 48)
    bad["segmentation"] = [SQUARE, [1, 2, 3, 4], SQUARE[:7]]
    entries = load_coco_json(*coco_file(tmp_path, [bad]))
    assert entries[0]["annotations"][0]["segmentation"] == [SQUARE] and entries[1]["annotations"] == []


def box_only(number):
    return {k: v for k, v in ann(number, 4, 3, SQUARE, [2, 2, 8, 6], 48).items() if k != "segmentation"}


def test_box_only_files_load(tmp_path):
    entries = load_coco_json(*coco_file(tmp_path, [box_only(1), dict(box_only(2), segmentation=[])]))
    assert len(entries[0]["annotations"]) == 2 and "segmentation" not in entries[0]["annotations"][0]


def with_segmentation(segmentation):
    return [dict(ann(5, 4, 3, SQUARE, [2, 2, 8, 6], 48), segmentation=segmentation)]


BROKEN = {
    "unknown category": ([ann(5, 4, 8, SQUARE, [2, 2, 8, 6], 48)], "annotation 5 of image 4 .* category_id 8"),
    "two points": (with_segmentation([[1, 2, 3, 4]]), "annotation 5 .*invalid polygon"),
    "odd": (with_segmentation([[1, 2, 3, 4, 5, 6, 7]]), "annotation 5 .*invalid polygon"),
    "nan": (with_segmentation([[1, 2, 3, 4, 5, float("nan")]]), "annotation 5 .*invalid polygon"),
    "text": (with_segmentation([[1, 2, 3, 4, 5, "a"]]), "annotation 5 .*invalid polygon"),
    "empty among others": (
        [ann(6, 9, 3, SQUARE, [2, 2, 8, 6], 48), dict(ann(5, 4, 3, SQUARE, [2, 2, 8, 6], 48), segmentation=[])],
        "empty segmentation .*annotation 5 of image 4",
    ),
    "rle size": (with_segmentation({"size": [20, 16], "counts": [320]}), r"annotation 5 .*size \[20, 16\]"),
    "no box": ([dict(ann(5, 4, 3, SQUARE, [], 48))], "annotation 5 .*bbox"),
    "ignored": ([ann(5, 4, 3, SQUARE, [2, 2, 8, 6], 48, ignore=1)], "annotation 5 .*ignore"),
    "same id": ([ann(5, 4, 3, SQUARE, [2, 2, 8, 6], 48)] * 2, "share 1 ids"),
}


@embedded_only
@pytest.mark.parametrize("annotations, message", BROKEN.values(), ids=BROKEN)
def test_broken_annotations_are_named_in_one_line(tmp_path, name, annotations, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_coco_json(*coco_file(tmp_path, annotations), name)
    assert "\n" not in str(caught.value)


@embedded_only
def test_missing_and_truncated_files_are_named(tmp_path, name):
    path, images = coco_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent.json.*DETECTRON2_DATASETS"):
        load_coco_json(str(tmp_path / "absent.json"), images)
    with pytest.raises(FileNotFoundError, match="image folder .*absent"):
        load_coco_json(path, str(tmp_path / "absent"), name)
    (tmp_path / "4.png").unlink()
    with pytest.raises(FileNotFoundError, match="4.png"):
        load_coco_json(path, images)
    Path(path).write_text(Path(path).read_text()[:200])
    with pytest.raises(ValueError, match="truncated"):
        load_coco_json(path, images)
    Path(path).write_text('{"annotations": []}')
    with pytest.raises(ValueError, match="no 'images'"):
        load_coco_json(path, images)
    with pytest.raises(ValueError, match="categories"):
        load_coco_json(*coco_file(tmp_path, categories=[]), name)


def test_conversion_to_coco_format_survives_the_round_trip(tmp_path, name):
    path, images = coco_file(tmp_path)
    register_coco_instances(name, {}, path, images)
    assert MetadataCatalog.get(name).json_file == path
    before = DatasetCatalog.get(name)
    output = tmp_path / "out" / "converted.json"
    convert_to_coco_json(name, str(output))
    truth, found = COCO(path), COCO(str(output))
    assert sorted(truth.getCatIds()) == found.getCatIds() and len(found.anns) == 4
    for image_id in truth.imgs:
        pairs = zip(truth.imgToAnns[image_id], found.imgToAnns[image_id], strict=True)
        for expected, actual in pairs:
            assert (expected["bbox"], expected["category_id"]) == (actual["bbox"], actual["category_id"])
            assert actual["area"] == expected["area"] and actual["iscrowd"] == expected["iscrowd"]
            np.testing.assert_array_equal(truth.annToMask(expected), found.annToMask(actual))
    again = load_coco_json(str(output), "", None)
    assert [e["image_id"] for e in again] == [e["image_id"] for e in before]
    output.write_text("{}")
    convert_to_coco_json(name, str(output), allow_cached=True)
    assert output.read_text() == "{}", "a cached file is kept"
    convert_to_coco_json(name, str(output), allow_cached=False)
    assert "annotations" in json.loads(output.read_text())


def test_label_images_pair_with_images_by_name(tmp_path):
    for stem in ("b", "a"):
        save_image(tmp_path / "images" / f"{stem}.jpg", np.zeros((4, 4, 3), dtype=np.uint8))
        save_image(tmp_path / "labels" / f"{stem}.png", np.zeros((4, 4), dtype=np.uint8))
    labels, images = str(tmp_path / "labels"), str(tmp_path / "images")
    entries = load_sem_seg(labels, images)
    assert entries == [{"file_name": f"{images}/{s}.jpg", "sem_seg_file_name": f"{labels}/{s}.png"} for s in ("a", "b")]
    save_image(tmp_path / "images" / "c.jpg", np.zeros((4, 4, 3), dtype=np.uint8))
    assert load_sem_seg(labels, images) == entries, "an image without labels is left out"


@embedded_only
def test_unpaired_label_folders_are_errors(tmp_path):
    save_image(tmp_path / "images" / "a.jpg", np.zeros((4, 4, 3), dtype=np.uint8))
    save_image(tmp_path / "labels" / "b.png", np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="no image"):
        load_sem_seg(str(tmp_path / "labels"), str(tmp_path / "images"))
    with pytest.raises(FileNotFoundError, match="prepare_ade20k.py"):
        load_sem_seg(str(tmp_path / "annotations_detectron2"), str(tmp_path / "images"))


def panoptic_file(folder: Path, category: int = 5) -> tuple[str, str, str]:
    save_image(folder / "images" / "12.jpg", np.zeros((4, 4, 3), dtype=np.uint8))
    save_image(folder / "png" / "12.png", np.zeros((4, 4, 3), dtype=np.uint8))
    segments = [{"id": 3, "category_id": 1, "iscrowd": 1}, {"id": 300, "category_id": category}]
    content = {"annotations": [{"image_id": "12", "file_name": "12.png", "segments_info": segments}]}
    (folder / "panoptic.json").write_text(json.dumps(content))
    return str(folder / "panoptic.json"), str(folder / "images"), str(folder / "png")


MAPS = {"thing_dataset_id_to_contiguous_id": {1: 0}, "stuff_dataset_id_to_contiguous_id": {5: 1}}


def test_panoptic_json_gives_segments_with_contiguous_ids(tmp_path):
    (entry,) = load_coco_panoptic_json(*panoptic_file(tmp_path), MAPS)
    assert entry["image_id"] == 12 and entry["pan_seg_file_name"] == str(tmp_path / "png" / "12.png")
    assert entry["file_name"] == str(tmp_path / "images" / "12.jpg")
    assert entry["segments_info"] == [
        {"id": 3, "category_id": 0, "iscrowd": 1, "isthing": True},
        {"id": 300, "category_id": 1, "isthing": False},
    ]


@embedded_only
def test_broken_panoptic_data_are_errors(tmp_path):
    with pytest.raises(ValueError, match="segment 300 of 12.png has category_id 6"):
        load_coco_panoptic_json(*panoptic_file(tmp_path, 6), MAPS)
    names = panoptic_file(tmp_path)
    (tmp_path / "png" / "12.png").unlink()
    with pytest.raises(FileNotFoundError, match="12.png"):
        load_coco_panoptic_json(*names, MAPS)
    with pytest.raises(ValueError, match="1 of 1 images .*b.jpg.*prepare_panoptic_fpn"):
        merge_to_panoptic([{"file_name": "b.jpg"}], [{"file_name": "a.jpg"}])


def test_merging_joins_entries_of_one_image():
    merged = merge_to_panoptic(
        [{"file_name": "b", "annotations": [1]}], [{"file_name": "a"}, {"file_name": "b", "sem_seg_file_name": "s"}]
    )
    assert merged == [{"file_name": "b", "annotations": [1], "sem_seg_file_name": "s"}]


@pytest.fixture
def cityscapes(tmp_path):
    """A 40×60 frame: a car, a car group, two road pixels' columns of void, the rest road. (images, annotations, ids)"""
    ids = np.full((40, 60), 7, dtype=np.int32)
    ids[5:15, 10:30] = 26001
    ids[8:12, 28:40] = 26002  # in front of the first car
    ids[20:30, 5:20] = 26
    ids[35:, :] = 3
    ids[0, 50:55] = 24000  # a line: no box
    stem = "town_000000_000019_"
    images, labels = tmp_path / "leftImg8bit" / "train", tmp_path / "gtFine" / "train"
    save_image(images / "town" / f"{stem}leftImg8bit.png", np.zeros((40, 60, 3), dtype=np.uint8))
    save_image(labels / "town" / f"{stem}gtFine_instanceIds.png", ids.astype(np.uint16))
    save_image(labels / "town" / f"{stem}gtFine_labelIds.png", np.where(ids > 999, ids // 1000, ids).astype(np.uint8))
    return images, labels, ids, labels / "town" / f"{stem}gtFine_"


@embedded_only  # Detectron2's loader imports a module that is in no public package
def test_cityscapes_instances_from_pngs(cityscapes):
    from detectron2.data.datasets.cityscapes import load_cityscapes_instances

    images, labels, ids, _ = cityscapes
    (entry,) = load_cityscapes_instances(str(images), str(labels), from_json=False, to_polygons=False)
    assert (entry["height"], entry["width"], entry["image_id"]) == (40, 60, "town_000000_000019_leftImg8bit.png")
    assert [(a["category_id"], a["iscrowd"]) for a in entry["annotations"]] == [(2, True), (2, False), (2, False)]
    for annotation, instance in zip(entry["annotations"], (26, 26001, 26002), strict=True):
        np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]), ids == instance)
    assert entry["annotations"][0]["bbox"] == (5, 20, 19, 29)
    (as_polygons,) = load_cityscapes_instances(str(images), str(labels), from_json=False, to_polygons=True)
    outline = np.reshape(as_polygons["annotations"][0]["segmentation"][0], (-1, 2))
    assert outline.min(axis=0).tolist() == [5, 20] and outline.max(axis=0).tolist() == [19, 29]


@embedded_only
def test_cityscapes_polygons_keep_what_nothing_covers(cityscapes):
    pytest.importorskip("shapely")
    from detectron2.data.datasets.cityscapes import load_cityscapes_instances

    images, labels, _, stem = cityscapes
    square = [[10, 10], [19, 10], [19, 19], [10, 19]]
    front = [[15, 10], [29, 10], [29, 19], [15, 19]]
    objects = [{"label": "car", "polygon": square}, {"label": "persongroup", "polygon": front}]
    objects += [{"label": "license plate", "polygon": square}, {"label": "car", "polygon": square, "deleted": 1}]
    content = {"imgHeight": 40, "imgWidth": 60, "objects": objects}
    Path(f"{stem}polygons.json").write_text(json.dumps(content))
    (entry,) = load_cityscapes_instances(str(images), str(labels))
    person, car = entry["annotations"]
    assert (person["category_id"], person["iscrowd"]) == (0, True) and (car["category_id"], car["iscrowd"]) == (
        2,
        False,
    )
    # Corners are pixel centres, outlines reach half a pixel beyond, round at corners: the group covers x from 15 on.
    assert person["bbox"] == pytest.approx((15, 10, 30, 20)) and car["bbox"] == pytest.approx((10, 10, 15.5, 20))
    rle = coco_mask.merge(coco_mask.frPyObjects(car["segmentation"], 40, 60))
    assert coco_mask.decode(rle)[11:18].sum(axis=1).tolist() == [5] * 7
    content["objects"][0]["label"] = "spaceship"
    Path(f"{stem}polygons.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="spaceship"):
        load_cityscapes_instances(str(images), str(labels))


@embedded_only
def test_cityscapes_semantic_needs_prepared_labels(cityscapes):
    from detectron2.data.datasets.cityscapes import load_cityscapes_semantic

    images, labels, ids, stem = cityscapes
    with pytest.raises(FileNotFoundError, match="prepare_cityscapes.py"):
        load_cityscapes_semantic(str(images), str(labels))
    save_image(Path(f"{stem}labelTrainIds.png"), np.zeros(ids.shape, dtype=np.uint8))
    (entry,) = load_cityscapes_semantic(str(images), str(labels))
    assert (entry["height"], entry["width"]) == ids.shape and entry["sem_seg_file_name"] == f"{stem}labelTrainIds.png"
    with pytest.raises(FileNotFoundError, match="image folder"):
        load_cityscapes_semantic(str(images / "absent"), str(labels))
