"""Polygons against COCO's own C code, pixel by pixel."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pnm.masks.runs import decode_masks


def drawn(masks, n):
    pixels = np.zeros(masks.height * masks.width, np.uint8)
    for start, end in zip(*(side[masks.offsets[n] : masks.offsets[n + 1]] for side in (masks.starts, masks.ends))):
        pixels[start:end] = 1
    return pixels.reshape(masks.width, masks.height).T


def check(polygons, height, width):
    """Runs, area and box are those of pycocotools, and no run is empty or touches the next."""
    masks = decode_masks(polygons, height, width)
    for n, outlines in enumerate(polygons):
        rle = coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))
        np.testing.assert_array_equal(drawn(masks, n), coco_mask.decode(rle), err_msg=str((outlines, height, width)))
        assert masks.areas[n] == coco_mask.area(rle)
        top, left, bottom, right = masks.boxes_yxyx[n].tolist()
        rows, columns = np.nonzero(coco_mask.decode(rle))
        if len(rows):
            expected = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
            assert (top, left, bottom, right) == expected
        runs = slice(*masks.offsets[n : n + 2])
        assert (masks.starts[runs][1:] > masks.ends[runs][:-1]).all()


SNAPS = {
    "anywhere": lambda points, rng: points,
    "whole pixels": lambda points, rng: points.round(),
    "halves": lambda points, rng: (2 * points).round() / 2,
    "middles": lambda points, rng: points.round() + 0.5,
    "fifths, nearly": lambda points, rng: (5 * points).round() / 5 + rng.choice([0, 1e-9, -1e-9], points.shape),
    "in a row": lambda points, rng: points * [1, 0] + [0, 3.25],
    "in a column": lambda points, rng: points * [0, 1] + [3.3, 0],
    "corners twice": lambda points, rng: points[[0, *range(len(points)), 0]],
}


@pytest.mark.parametrize("snap", SNAPS)
@pytest.mark.parametrize("reach", [(0, 1), (-0.9, 1.9)])
def test_random_polygons(snap, reach):
    rng = np.random.default_rng(3)
    for _ in range(150):
        height, width = (int(n) for n in rng.integers(1, 70, 2))
        parts = [rng.uniform(*reach, (rng.integers(3, 12), 2)) * [width, height] for _ in range(rng.integers(1, 4))]
        parts = [np.clip(SNAPS[snap](p, rng), -max(height, width), 2 * max(height, width)) for p in parts]
        check([[part.ravel().tolist() for part in parts]], height, width)


@pytest.mark.parametrize("size", [(480, 640), (1024, 2048), (3, 4000), (4000, 3)])
def test_large_images(size):
    rng = np.random.default_rng(4)
    for _ in range(20):
        check([[(rng.uniform(-0.1, 1.1, (8, 2)) * size[::-1]).ravel().tolist()]], *size)


def test_all_annotations_of_a_real_data_set(real_data):
    from pnm.formats.coco_instances import read_coco_ground_truth

    truth = read_coco_ground_truth(real_data / "predictions/coco_val2014_100/instances_val2014_100.json")
    for image, annotations in truth.annotations.items():
        height, width, _ = truth.images[image]
        polygons = [a["segmentation"] for a in annotations if isinstance(a["segmentation"], list)]
        check(polygons, height, width)
