"""pnm.Refiner: what it takes, what it gives, and that it moves a mask to where a network says."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

import pnm
from pnm.errors import UserError
from pnm.masks.crops import crop_array, paste
from pnm.object_refinement.accepted_inputs import mask_stack
from pnm.object_refinement.refiner import Refiner
from pnm.pictures.mask_kinds import is_label_map
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.mask_reading import read_mask
from pnm.predictions.refinement import Chain
from pnm.predictions.universal_refiner import UniversalSettings, UniversalStep

from .conftest import oracle, oracle_of_side, painted

SHAPE = (90, 110)


def disc(y, x, radius):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


TRUTH, COARSE = disc(45, 50, 25), disc(43, 53, 25)


@pytest.fixture(scope="module")
def truthful():
    return Refiner.with_prediction(oracle, strength=1)


def test_a_mask_moves_to_the_truth(truthful):
    refined = truthful(painted(TRUTH), COARSE)
    assert refined.dtype == bool and refined.shape == SHAPE
    assert (refined != TRUTH).sum() <= 0.1 * (COARSE != TRUTH).sum()
    assert np.array_equal(Refiner.with_prediction(oracle, strength=0)(painted(TRUTH), COARSE), COARSE)


def test_every_kind_of_image_and_mask_gives_the_same(random_weights, tmp_path):
    refiner = pnm.Refiner(random_weights, strength=1)
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    wanted = refiner(image, COARSE)
    assert (wanted != COARSE).any()
    Image.fromarray(image).save(tmp_path / "photo.png")
    Image.fromarray(COARSE).save(tmp_path / "mask.png")
    alpha = np.dstack([image, np.full(SHAPE, 255, np.uint8)])
    deep, soft = image.astype(np.uint16) * 257, image / 255
    for kind in (deep, soft, alpha, Image.fromarray(image), tmp_path / "photo.png", str(tmp_path / "photo.png")):
        assert np.array_equal(refiner(kind, COARSE), wanted)
    grey = COARSE.astype(np.uint8) * 255
    for kind in (grey, COARSE.astype(int), COARSE * 0.7, Image.fromarray(COARSE), Image.fromarray(grey)):
        assert np.array_equal(refiner(image, kind), wanted)
    assert np.array_equal(refiner(image, tmp_path / "mask.png"), wanted)
    both = refiner(image, np.stack([COARSE, COARSE]))
    listed = refiner(image, [COARSE, tmp_path / "mask.png"])
    for stack in (both, listed):
        assert stack.shape == (2, *SHAPE) and (stack == wanted).all()


def test_empty_full_and_tiny(random_weights):
    refiner = pnm.Refiner(random_weights, strength=1)
    for mask in (np.zeros(SHAPE, bool), np.ones(SHAPE, bool)):
        assert np.array_equal(refiner(painted(mask), mask), mask)
    for shape in ((1, 1), (1, 7), (300, 2)):
        assert refiner(np.zeros((*shape, 3), np.uint8), np.eye(*shape, dtype=bool)).shape == shape
    assert refiner(np.zeros((5, 6, 3), np.uint8), np.zeros((0, 5, 6), bool)).shape == (0, 5, 6)


def test_labels_stay_a_partition():
    labels = np.where(COARSE, 7, 3).astype(np.uint8)
    labels[:4] = 255
    by_side = Refiner.with_prediction(oracle_of_side, strength=1)
    refined = by_side(painted(TRUTH), labels, kind="labels")
    assert refined.dtype == np.uint8 and set(np.unique(refined)) <= {3, 7, 255}
    assert ((refined == 7) != TRUTH).sum() <= 0.2 * (COARSE != TRUTH).sum()
    holes = (refined == 255) & (labels != 255)
    assert not holes.any()


def test_topology_is_kept_by_option():
    image = painted(TRUTH)
    coarse = TRUTH.copy()
    coarse[44:47, 30:40] = False  # a hole, which the network fills
    assert Refiner.with_prediction(oracle, strength=1)(image, coarse)[45, 35]
    kept = Refiner.with_prediction(oracle, strength=1, keep_topology=True)(image, coarse)
    assert not kept[44:47, 30:40].any()


@pytest.mark.parametrize(
    ("image", "masks", "options", "message"),
    [
        (np.zeros((5, 6, 3), np.uint8), np.zeros((6, 5)), {}, "the image is 5 x 6, the masks are 6 x 5"),
        (np.zeros((5, 6, 3), np.uint8), [np.zeros((5, 6)), np.zeros((6, 5))], {}, "of sizes .* expected one size"),
        (np.zeros((5, 6, 3)) * np.nan, np.zeros((5, 6)), {}, "the image has numbers that are NaN"),
        (
            np.full((5, 6, 3), 99.0),
            np.zeros((5, 6)),
            {},
            "the image of float64 has numbers from 99 to 99, expected 0 to",
        ),
        (np.zeros((5, 6, 3), np.uint8), np.full((5, 6), np.nan), {}, "the mask has numbers that are NaN"),
        (np.zeros((5, 6, 3), np.uint8), np.full((5, 6), -1.0), {}, "expected 0 to 1"),
        (np.zeros((5, 6, 2), np.uint8), np.zeros((5, 6)), {}, r"the image is \(5, 6, 2\), expected \(H, W, 3\)"),
        (np.zeros((0, 6, 3), np.uint8), np.zeros((0, 6)), {}, "the image is 0 x 6, expected at least one pixel"),
        (np.zeros((5, 6, 3), np.int64), np.zeros((5, 6)), {}, "the image is of int64"),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((1, 1, 5, 6)), {}, r"the masks are \(1, 1, 5, 6\)"),
        (None, np.zeros((5, 6)), {}, "the image is NoneType"),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((5, 6)), {"kind": "labels"}, r"expected \(H, W\) integers"),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((5, 6)), {"kind": "boxes"}, "kind is 'boxes', expected one of auto"),
        (np.zeros((5, 6, 3), np.uint8), np.eye(5, 6, dtype=int) - np.eye(5, 6, 1, dtype=int), {}, "as label maps have"),
    ],
)
def test_errors(truthful, image, masks, options, message):
    with pytest.raises(UserError, match=message):
        truthful(image, masks, **options)


def test_errors_of_settings(random_weights, tmp_path):
    with pytest.raises(UserError, match="--strength is 2"):
        Refiner(random_weights, strength=2)
    with pytest.raises(UserError, match="backend is 'abacus', expected one of torch"):
        Refiner(random_weights, backend="abacus")
    with pytest.raises(UserError, match="device 'mars' can't be used"):
        Refiner(random_weights, device="mars")
    with pytest.raises(FileNotFoundError, match="image .*none.jpg does not exist"):
        Refiner(random_weights)(tmp_path / "none.jpg", COARSE)


def test_a_step_says_how_sure_it_is(random_weights):
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    step = UniversalStep(UniversalSettings(random_weights, 1.0))
    chain = Chain([step, step])
    objects = Objects(SHAPE, (crop_array(COARSE), crop_array(TRUTH)), (0.5, 0.5), (1, 1))
    once = step.refine_detailed(image, objects)
    assert set(once.confidences) == {0, 1}
    twice = chain.refine_detailed({step.read: image}, objects)
    refiner = pnm.Refiner(random_weights, strength=1)
    assert np.array_equal(paste(twice.refined[0], *SHAPE), refiner(image, refiner(image, COARSE)))
    labels = Partition(COARSE.astype(np.uint8), (0, 1), (0, 1))
    assert np.array_equal(step.refine(image, labels), refiner(image, labels.labels, kind="labels"))
    with pytest.raises(UserError, match="the image is 90 x 110, its masks are 9 x 9"):
        step.refine(image, Objects((9, 9), (crop_array(np.eye(9, dtype=bool)),), (1.0,), (0,)))
    assert step.refine(image, Objects((0, 0), (), (), ())) == []


def test_neither_detectron2_nor_projects_are_imported(random_weights):
    code = f"""
import sys
import numpy as np
import pnm
refined = pnm.Refiner({str(random_weights)!r})(np.zeros((40, 50, 3), np.uint8), np.eye(40, 50, dtype=bool))
assert refined.shape == (40, 50)
strange = [name for name in sys.modules if name.split(".")[0] == "detectron2" or name.startswith("pnm.projects")]
assert not strange, strange
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_object_vanishes():
    """Of one pixel that the network takes away, the mask stays."""
    mask = np.zeros((40, 40), np.bool_)
    mask[20, 20] = True
    image = painted(np.zeros_like(mask))
    refiner = Refiner.with_prediction(oracle, strength=1)
    (one,) = refiner.refine_objects(image, [crop_array(mask)])
    assert np.array_equal(refiner(image, mask), mask) and (one.confidence, one.changed) == (0.0, 0)


def test_the_strength_may_be_set():
    mask = np.zeros((40, 40), np.bool_)
    mask[10:30, 10:30] = True
    truth = np.roll(mask, 2, 1)
    refiner = Refiner.with_prediction(oracle, strength=0)
    assert np.array_equal(refiner(painted(truth), mask), mask)
    refiner.strength = 1
    assert refiner.strength == 1 and not np.array_equal(refiner(painted(truth), mask), mask)
    with pytest.raises(UserError, match="strength is 1.5, expected a number from 0"):
        refiner.strength = 1.5
    assert refiner.strength == 1 and refiner.decision.pixel == 0.5


def test_no_segment_of_a_label_map_vanishes():
    labels = np.ones((40, 40), np.uint8)
    labels[:, 20:], labels[20, 10] = 2, 7

    def large_ones_want_all(seen):
        shape = (2, seen.coarse.shape[0] // 2, seen.coarse.shape[1] // 2)
        return np.full(shape, 10 if seen.coarse.mean() > 0.1 else -10, np.float32)

    refiner = Refiner.with_prediction(large_ones_want_all, strength=1)
    refined, confidences = refiner.refine_segments(painted(labels != 2), labels, [1, 2, 7])
    assert np.array_equal(refined == 7, labels == 7) and confidences == {1: 1.0, 2: 1.0, 7: 0.0}


def soft_edges(dtype):
    """The coarse mask blurred, in the range of a type, white in its middle."""
    blurred = cv2.GaussianBlur(COARSE.astype(np.float32), (9, 9), 0)
    return np.rint(blurred * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize(
    "labels",
    [
        np.where(COARSE, 2, 1).astype(np.uint8) * TRUTH,
        np.where(COARSE, 1, 0).astype(np.int64) + 254 * (np.mgrid[:90, :110][0] < 3),  # void above
        np.kron(np.arange(1, 100).reshape(9, 11), np.eye(10, dtype=int)),  # 99 labels, mostly 0
    ],
)
def test_label_maps_are_no_mask(truthful, labels, tmp_path):
    image = painted(TRUTH)
    given = [labels, np.stack([COARSE, labels]), [COARSE, labels]]
    if labels.max() < 256:
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "labels.png")
        given += [tmp_path / "labels.png", Image.open(tmp_path / "labels.png")]
    for one in given:
        with pytest.raises(UserError, match='as label maps have, expected one object: kind="labels" refines all'):
            truthful(image, one)
    assert np.array_equal(truthful(image, labels, kind="masks"), truthful(image, labels != 0))
    assert truthful(image, labels, kind="labels").dtype == labels.dtype


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_soft_edges_are_no_labels(truthful, dtype, tmp_path):
    """In arrays, pictures and files alike."""
    image, soft = painted(TRUTH), soft_edges(dtype)
    wanted = truthful(image, soft > np.iinfo(dtype).max // 2)
    Image.fromarray(soft).save(tmp_path / "soft.png")
    for given in (soft, soft.astype(np.int64), Image.fromarray(soft), tmp_path / "soft.png"):
        assert np.array_equal(truthful(image, given), wanted)
    assert not is_label_map(soft) and read_mask(tmp_path / "soft.png").task == "instance"


@pytest.mark.parametrize("values", [(0, 1), (1, 2), (127, 128), (3, 255)])
def test_of_two_values_the_larger_is_the_object(values):
    is_object = np.zeros((4, 6), bool)
    is_object[1:3, 2:4] = True
    given = np.where(is_object, *values[::-1])
    assert np.array_equal(mask_stack(given).stack[0], is_object)
    assert mask_stack(np.full((4, 6), values[1])).stack.all()
