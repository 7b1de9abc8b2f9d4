"""Drawings: where pixels change and where they must not. What they look like is for eyes, not for tests."""

# ruff: noqa: NPY002 - the engines draw from NumPy's global generator.

from pathlib import Path

import detectron2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import ColorMode, VisImage, Visualizer
from PIL import Image

EMBEDDED = Path(detectron2.__file__).parents[1].name == "embedded"
embedded_only = pytest.mark.skipif(not EMBEDDED, reason="the embedded engine's own promises")
HEIGHT, WIDTH = 120, 160


@pytest.fixture
def image():
    return np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)


@pytest.fixture
def metadata():
    colors = [[255, 0, 0], [0, 0, 255]]
    return Metadata(
        name="drawn",
        thing_classes=["cat", "dog"],
        thing_colors=colors,
        stuff_classes=["sky", "sea"],
        stuff_colors=colors,
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1},
        label_divisor=1000,
    )


def square_mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[40:100, 60:130] = True
    return mask


def instances(count: int = 1) -> Instances:
    found = Instances((HEIGHT, WIDTH))
    found.pred_boxes = Boxes(torch.tensor([[60.0, 40, 130, 100]] * count).reshape(-1, 4))
    found.pred_classes = torch.zeros(count, dtype=torch.int64)
    found.scores = torch.full((count,), 0.9)
    found.pred_masks = torch.from_numpy(np.array([square_mask()] * count).reshape(-1, HEIGHT, WIDTH))
    return found


def changed(drawing: VisImage, image: np.ndarray) -> np.ndarray:
    return (np.abs(drawing.get_image().astype(int) - image) > 8).any(axis=2)


def test_nothing_drawn_is_the_image(image):
    drawing = Visualizer(image).get_output().get_image()
    assert drawing.dtype == np.uint8 and np.abs(drawing.astype(int) - image).max() <= 1
    assert Visualizer(image, scale=1.5).get_output().get_image().shape[:2] == (180, 240)
    nothing = Visualizer(image).draw_instance_predictions(instances(0))
    assert not changed(nothing, image).any()


def test_a_mask_changes_its_pixels_only(image):
    drawing = Visualizer(image).draw_binary_mask(square_mask(), color="red", alpha=0.5)
    where = changed(drawing, image)
    assert where[45:95, 65:125].all() and not where[:35].any() and not where[:, 135:].any()
    inside = drawing.get_image()[70, 95].astype(int)
    assert np.abs(inside - [172, 45, 45]).max() <= 2, "half grey 90, half red"


def test_small_parts_are_left_out(image):
    mask = square_mask()
    mask[5:7, 5:7] = True
    drawing = Visualizer(image).draw_binary_mask(mask, color="red", area_threshold=100)
    where = changed(drawing, image)
    assert where[60, 100] and not where[:30, :30].any()


def test_the_inside_of_a_box_stays(image):
    where = changed(Visualizer(image).draw_box((20, 30, 100, 90), edge_color="g", alpha=1.0), image)
    assert where[28:33, 60].any() and where[60, 98:103].any()
    assert not where[36:84, 26:94].any() and not where[:, 110:].any()


def test_polygons_lines_circles_and_texts(image):
    visualizer = Visualizer(image)
    visualizer.draw_polygon(np.array([[10, 10], [50, 10], [10, 50]]), "b")
    visualizer.draw_circle((80, 80), "r", radius=5)
    visualizer.draw_line([100, 150], [20, 20], "k")
    where = changed(visualizer.get_output(), image)
    assert where[20, 20] and not where[45, 45] and where[80, 80] and where[18:23, 120].any()
    before = where.sum()
    visualizer.draw_text("text", (120, 100))
    assert changed(visualizer.get_output(), image).sum() > before + 20


@pytest.mark.parametrize("mode", ColorMode)
def test_instance_predictions(image, metadata, mode):
    drawing = Visualizer(image, metadata, instance_mode=mode).draw_instance_predictions(instances())
    assert changed(drawing, image)[60:95, 70:120].mean() > 0.6


def test_only_masks_keep_their_colour_in_black_and_white(metadata):
    colored = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    colored[:] = (200, 100, 30)
    drawing = Visualizer(colored, metadata, instance_mode=ColorMode.IMAGE_BW).draw_instance_predictions(instances())
    pixel = drawing.get_image()[110, 20].astype(int)
    assert np.ptp(pixel) <= 1 and abs(pixel[0] - 110) <= 3
    assert np.ptp(drawing.get_image()[90, 90].astype(int)) > 20


def masks_in_all_formats() -> dict:
    corners = [[60.0, 40, 130, 40, 130, 100, 60, 100]]
    rle = coco_mask.encode(np.asfortranarray(square_mask(), dtype=np.uint8))
    return {
        "array": [square_mask()],
        "polygons": [corners],
        "rle": [rle],
        "PolygonMasks": PolygonMasks([corners]),
        "BitMasks": BitMasks(torch.from_numpy(square_mask())[None]),
    }


@pytest.mark.parametrize("kind", masks_in_all_formats())
def test_all_mask_formats_draw_alike(image, kind):
    drawing = Visualizer(image).overlay_instances(masks=masks_in_all_formats()[kind], assigned_colors=[(1.0, 0, 0)])
    where = changed(drawing, image)
    assert where[45:95, 65:125].all() and not where[:35].any()


def test_mismatched_numbers_are_refused(image):
    with pytest.raises((ValueError, AssertionError)):
        Visualizer(image).overlay_instances(boxes=np.zeros((2, 4)), labels=["one"])


def test_semantic_and_panoptic_maps(image, metadata):
    labels = np.full((HEIGHT, WIDTH), 255)
    labels[:50] = 0
    where = changed(Visualizer(image, metadata).draw_sem_seg(labels, draw_text=False), image)
    assert where[5:45, 5:150].all() and not where[60:].any(), "ignored pixels stay"
    ids = torch.zeros((HEIGHT, WIDTH), dtype=torch.int32)
    ids[:50], ids[60:100, 60:130] = 1, 2
    segments = [{"id": 1, "category_id": 1, "isthing": False}, {"id": 2, "category_id": 0, "isthing": True}]
    where = changed(Visualizer(image, metadata).draw_panoptic_seg(ids, segments), image)
    assert where[5:45, 5:40].mean() > 0.9 and where[65:95, 65:125].mean() > 0.9 and not where[60:, :40].any()


def test_dataset_entries(image, metadata, tmp_path):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), dtype=np.uint8)).save(tmp_path / "labels.png")
    annotation = {"bbox": [60, 40, 70, 60], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 1}
    annotation["segmentation"] = [[60, 40, 130, 40, 130, 100, 60, 100]]
    where = changed(Visualizer(image, metadata).draw_dataset_dict({"annotations": [annotation]}), image)
    assert where[50:90, 70:120].mean() > 0.6 and not where[110:].any()
    entry = {"sem_seg_file_name": str(tmp_path / "labels.png")}
    assert changed(Visualizer(image, metadata).draw_dataset_dict(entry), image).mean() > 0.9


@embedded_only
def test_panoptic_files_and_label_divisors(image, metadata, tmp_path):
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[60:100, 60:130] = (44, 1, 0)
    Image.fromarray(pixels).save(tmp_path / "ids.png")
    segments = [{"id": 300, "category_id": 1, "isthing": True}]
    entry = {"pan_seg_file_name": str(tmp_path / "ids.png"), "segments_info": segments}
    where = changed(Visualizer(image, metadata).draw_dataset_dict(entry), image)
    assert where[65:95, 65:125].all() and not where[:50].any()
    labels = np.where(pixels[:, :, 0] > 0, 1001, -1)
    where = changed(Visualizer(image, metadata).draw_panoptic_seg(labels, None), image)
    assert where[65:95, 65:125].all() and not where[:50].any()


@embedded_only
def test_drawing_leaves_the_random_numbers_alone(image, metadata):
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    Visualizer(image, metadata, instance_mode=ColorMode.SEGMENTATION).draw_instance_predictions(instances(3))
    assert np.random.rand() == expected


def test_saved_pictures_are_the_drawing(image, metadata, tmp_path):
    drawing = Visualizer(image, metadata).draw_instance_predictions(instances())
    drawing.save(str(tmp_path / "out.png"))
    saved = np.asarray(Image.open(tmp_path / "out.png").convert("RGB")).astype(int)
    assert np.abs(saved - drawing.get_image()).max() <= 2


def test_colours():
    colors = colormap(rgb=True, maximum=1)
    assert colors.ndim == 2 and colors.shape[1] == 3 and colors.min() >= 0 and colors.max() <= 1 and len(colors) > 50
    np.testing.assert_allclose(colormap()[:, ::-1], colors * 255, rtol=1e-6)
    assert len({tuple(c) for c in colors.tolist()}) > len(colors) * 0.9
    with pytest.raises((ValueError, AssertionError)):
        colormap(maximum=2)
