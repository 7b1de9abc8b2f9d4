"""Tiles are not seen in what they make: the same as the whole, or as other tiles."""

import cv2
import numpy as np
import pytest
import tifffile

from pnm.errors import UserError
from pnm.object_refinement.refiner import Refiner
from pnm.object_refinement.tiles import Tiling, refined_core
from pnm.pictures.pictures import Toning
from pnm.predictions.large_mask import refine_large

SHAPE = (700, 900)


def guess(seen):
    """Maps that depend on image, coarse mask and place in the window as a network's do, and on nothing else."""
    grey = cv2.GaussianBlur(seen.colors[..., 0].astype(np.float32), (0, 0), 8) / 20 - 6
    coarse = cv2.GaussianBlur(seen.coarse.astype(np.float32), (0, 0), 5) * 6 - 3
    maps = (grey + coarse)[::2, ::2]
    return np.stack([maps + 0.5, maps - 0.5])


@pytest.fixture(scope="module")
def refiner():
    return Refiner.with_prediction(guess, strength=0.8)


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (35, 45, 3), np.uint8), SHAPE[::-1], interpolation=cv2.INTER_CUBIC)


class Whole:
    def __init__(self, mask):
        self.mask, self.shape = mask, mask.shape

    def read(self, top, left, bottom, right):
        return np.ascontiguousarray(self.mask[top:bottom, left:right])


def tiled(refiner, image, mask, tiling):
    result = np.zeros(mask.shape, bool)
    for top in range(0, mask.shape[0], tiling.core):
        for left in range(0, mask.shape[1], tiling.core):
            core = top, left, min(mask.shape[0], top + tiling.core), min(mask.shape[1], left + tiling.core)
            result[top : core[2], left : core[3]] = refined_core(refiner, image, Whole(mask), core, tiling)
    return result


def discs(number, radius):
    rng, mask = np.random.default_rng(1), np.zeros(SHAPE, np.uint8)
    for _ in range(number):
        x, y = rng.integers(0, SHAPE[::-1])
        cv2.circle(mask, (int(x), int(y)), int(rng.integers(3, radius)), 1, -1)
    return mask > 0


def test_tiles_of_small_parts_equal_the_whole(refiner, image):
    mask = discs(25, 30)
    number, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    wanted = np.zeros(SHAPE, bool)
    for n in range(1, number):
        wanted |= refiner(image, labels == n)
    assert (wanted != mask).any()
    for core in (64, 250):
        assert np.array_equal(tiled(refiner, image, mask, Tiling(core, 200)), wanted)


def test_large_parts_do_not_depend_on_the_tiles(refiner, image):
    mask = discs(40, 90)
    mask[300:330] = True
    results = [tiled(refiner, image, mask, Tiling(core, 60)) for core in (230, 333, 1000)]
    assert (results[0] != mask).any()
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_empty_and_full_masks(refiner, image):
    for value in (False, True):
        mask = np.full(SHAPE, value)
        assert np.array_equal(tiled(refiner, image, mask, Tiling(400, 60)), mask)


def test_a_geotiff_in_and_out(refiner, image, tmp_path):
    place = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 100.0, 200.0, 0.0), True)]
    mask = discs(25, 30)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="rgb", tile=(128, 128), compression="zlib")
    tifffile.imwrite(tmp_path / "mask.tif", mask * np.uint16(7), rowsperstrip=50, extratags=place)
    files = tmp_path / "image.tif", tmp_path / "mask.tif", tmp_path / "out.tif"
    tiling = Tiling(256, 200)
    changed, size = refine_large(*files, refiner, Toning(), tiling)
    with tifffile.TiffFile(files[2]) as file:
        values, tags = file.asarray(), file.pages[0].tags
        assert tags[33550].value == (0.5, 0.5, 0.0) and tags[33922].value[3:5] == (100.0, 200.0)
    assert values.dtype == np.uint16 and np.array_equal(values, tiled(refiner, image, mask, tiling) * np.uint16(7))
    assert changed == ((values > 0) != mask).sum() > 0 and size == mask.size
    tifffile.imwrite(tmp_path / "labels.tif", (mask + discs(5, 40)).astype(np.uint8) + mask, rowsperstrip=50)
    with pytest.raises(UserError, match="labels.tif has the values .* too large for a label map"):
        refine_large(files[0], tmp_path / "labels.tif", files[2], refiner, Toning(), tiling)
    with pytest.raises(UserError, match="expected a mask of one channel, of the image's size"):
        refine_large(files[0], files[0], files[2], refiner, Toning(), tiling)
    with pytest.raises(UserError, match="is then to be a TIFF"):
        refine_large(tmp_path / "image.png", files[1], files[2], refiner, Toning(), tiling)
