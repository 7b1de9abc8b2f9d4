"""Cityscapes' instance AP against the benchmark's own program."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from pnm.cityscapes_classes import CITYSCAPES_INSTANCE_CLASSES
from pnm.errors import UserError
from pnm.metrics.cityscapes_instance_ap import CityscapesInstanceAP

LABELS = [24, 26, 33]


def random_scene(rng, image, height=90, width=120):
    """Map of instances, groups, void, small instances; detections that hit some, twice at times, or group and void."""
    ids = np.full((height, width), 7, np.int32)
    for n in range(rng.integers(2, 14)):
        y, x = rng.integers(0, height - 12), rng.integers(0, width - 12)
        bottom, right = y + rng.integers(4, 40), x + rng.integers(4, 40)
        label = int(rng.choice(LABELS))
        ids[y:bottom, x:right] = rng.choice([1000 * label + n, label, 0, 3], p=[0.7, 0.15, 0.1, 0.05])
    dt = []
    for k in rng.choice(np.unique(ids), size=rng.integers(0, 14) * (image != 2)):
        rows, columns = np.nonzero(ids == k)
        mask = np.zeros((height, width), bool)
        top, left = max(0, rows.min() + rng.integers(-1, 2)), max(0, columns.min() + rng.integers(-1, 2))
        mask[top : rows.max() + rng.integers(-1, 2), left : columns.max() + rng.integers(-1, 2)] = True
        label = k // 1000 if k >= 1000 and rng.random() < 0.9 else rng.choice(LABELS)
        dt.append({"category_id": int(label), "segmentation": mask, "score": round(float(rng.random()), 1)})
    return ids, dt


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(4)
    return [random_scene(rng, image) for image in range(25)]


def measured(scenes, numbers=None, **options):
    metrics = CityscapesInstanceAP(**options)
    for image in range(len(scenes)) if numbers is None else numbers:
        metrics.update(image, *scenes[image])
    return metrics


def write_scene(folder, image, ids, dt):
    """Files as the benchmark wants them; returns the prediction's and the ground truth's."""
    truth = folder / f"a_{image:06d}_000000_gtFine_instanceIds.png"
    Image.fromarray(ids.astype(np.uint16)).save(truth)
    lines = []
    for n, detection in enumerate(dt):
        name = f"{image}_{n}.png"
        Image.fromarray(detection["segmentation"].astype(np.uint8) * 255).save(folder / name)
        lines.append(f"{name} {detection['category_id']} {detection['score']}\n")
    prediction = folder / f"a_{image:06d}_000000.txt"
    prediction.write_text("".join(lines))
    return str(prediction), str(truth)


def benchmark_ap(folder, files, monkeypatch):
    """AP by class and threshold of the benchmark's program, which needs a NumPy that still had in1d."""
    program = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    monkeypatch.chdir(folder)
    args = program.args
    args.quiet, args.predictionPath, args.gtInstancesFile = True, str(folder), str(folder / "instances.json")
    with contextlib.redirect_stdout(io.StringIO()):
        program.setInstanceLabels(args)
        predictions, truths = map(list, zip(*files))
        instances = program.getGtInstances(truths, args)
        matches = program.matchGtWithPreds(predictions, truths, instances, args)
        return args.instLabels, program.evaluateMatches(matches, args)[0]


def test_random_scenes_equal_the_benchmark(scenes, tmp_path, monkeypatch):
    files = [write_scene(tmp_path, image, *scene) for image, scene in enumerate(scenes)]
    names, ap = benchmark_ap(tmp_path, files, monkeypatch)
    result = measured(scenes).compute()
    assert list(CITYSCAPES_INSTANCE_CLASSES.values()) == names
    for name, row in zip(names, ap):
        assert result[f"AP-{name}"] == pytest.approx(row.mean(), abs=1e-12, nan_ok=True)
        assert result[f"AP50-{name}"] == pytest.approx(row[0], abs=1e-12, nan_ok=True)
    assert result["AP"] == pytest.approx(np.nanmean(ap), abs=1e-12)
    assert result["AP50"] == pytest.approx(np.nanmean(ap[:, 0]), abs=1e-12)
    assert 0.1 < result["AP"] < 0.9


def rectangles(*specs, background=0):
    ids = np.full((100, 100), background, np.uint16)
    for k, top, left, bottom, right in specs:
        ids[top:bottom, left:right] = k
    return ids


def detection(label, top, left, bottom, right, score=0.5):
    return {"category_id": label, "segmentation": rectangles((1, top, left, bottom, right)), "score": score}


def ap_of(ids, dt):
    metrics = CityscapesInstanceAP()
    metrics.update(0, ids, dt)
    return metrics.compute()


def test_perfect_disjoint_and_empty():
    ids = rectangles((26001, 10, 10, 40, 40), (26002, 50, 50, 90, 90), (24000, 0, 60, 30, 90), background=7)
    dt = [detection(26, 10, 10, 40, 40), detection(26, 50, 50, 90, 90, 0.1), detection(24, 0, 60, 30, 90)]
    result = ap_of(ids, dt)
    assert result["AP"] == result["AP50"] == result["AP-car"] == 1 and np.isnan(result["AP-bus"])
    assert ap_of(ids, [detection(26, 60, 0, 99, 40)])["AP"] == 0
    assert ap_of(ids, [])["AP"] == 0
    assert np.isnan(ap_of(rectangles(), dt)["AP"])
    assert np.isnan(CityscapesInstanceAP().compute()["AP"])
    assert ap_of(ids, [detection(26, 0, 0, 0, 0)])["AP"] == 0  # an empty mask counts nowhere


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (detection(26, 60, 10, 90, 40, 0.9), 1.0),  # on a group
        (detection(26, 60, 60, 90, 90, 0.9), 1.0),  # on void
        (detection(26, 0, 92, 8, 100, 0.9), 1.0),  # on a small instance
        (detection(24, 60, 10, 90, 40, 0.9), 1.0),  # another class doesn't matter here
        (detection(26, 0, 50, 30, 80, 0.9), 0.25),  # nowhere, better score: (p, r) = (1, 0), (0, 0), (1/2, 1)
        (detection(26, 10, 10, 40, 39, 0.1), 1.0),  # finds it again at a lower score: (1, 0), (1, 1), (1/2, 1)
    ],
)
def test_second_detection(extra, expected):
    ids = rectangles(
        (26001, 10, 10, 40, 40), (26, 60, 10, 90, 40), (0, 60, 60, 90, 90), (26002, 0, 92, 8, 100), background=7
    )
    assert ap_of(ids, [detection(26, 10, 10, 40, 40), extra])["AP-car"] == pytest.approx(expected)


def test_limits_are_exclusive():
    ids = rectangles((26001, 0, 0, 10, 20), background=7)
    assert ap_of(ids, [detection(26, 0, 0, 10, 10)])["AP50-car"] == 0  # IoU 1/2 is not above it
    assert ap_of(ids, [detection(26, 0, 0, 10, 11)])["AP50-car"] == 1
    assert ap_of(rectangles((26001, 0, 0, 10, 10)), [])["AP-car"] == 0  # 100 pixels must be found, 99 need not
    assert np.isnan(ap_of(rectangles((26001, 0, 0, 9, 11)), [])["AP-car"])
    group = rectangles((26001, 50, 0, 80, 30), (26, 0, 0, 10, 20), background=7)
    found = detection(26, 50, 0, 80, 30, 0.1)
    half_on_group = detection(26, 0, 10, 20, 20, 0.9)
    more_on_group = detection(26, 0, 10, 19, 20, 0.9)
    assert ap_of(group, [found, half_on_group])["AP50-car"] == pytest.approx(0.25)
    assert ap_of(group, [found, more_on_group])["AP50-car"] == 1


def test_small_groups_count_twice_as_in_the_benchmark():
    ids = rectangles((26001, 50, 0, 80, 30), (26, 0, 0, 8, 8), background=7)
    dt = [detection(26, 50, 0, 80, 30, 0.1), detection(26, 0, 0, 10, 10, 0.9)]  # 64 of 100 pixels
    assert ap_of(ids, dt)["AP-car"] == 1


def test_merging_any_split_is_exact(scenes):
    whole, numbers = measured(scenes).compute(), np.random.default_rng(0).permutation(len(scenes)).tolist()
    for cut in (0, 1, 12):
        parts = [measured(scenes, some) for some in (numbers[cut:], numbers[:cut])]
        parts[0].merge(parts[1])
        np.testing.assert_equal(parts[0].compute(), whole)
    parts[0].reset()
    assert parts[0].image_ids == []


def test_images_counted_twice_equal_images_that_are_there_twice(scenes):
    metrics, times = measured(scenes), np.arange(2 * len(scenes)).reshape(2, -1) % 4
    many = metrics.compute_many(times)
    for row, counts in enumerate(times):
        expected = measured([scenes[n] for n, count in enumerate(counts) for _ in range(count)]).compute()
        for name, value in expected.items():
            assert many[name][row] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_each_image_alone(scenes):
    each = measured(scenes).per_image()
    for n in range(len(scenes)):
        for name, value in measured(scenes, [n]).compute().items():
            np.testing.assert_equal(each[name][n], value)
    assert CityscapesInstanceAP().per_image() == {}


@pytest.mark.parametrize(
    ("ids", "dt", "reason"),
    [
        (np.zeros((4, 5, 3), int), [], "expected .H, W. integers"),
        (np.zeros((4, 5)), [], "expected .H, W. integers"),
        (np.full((4, 5), -1), [], "instance ids are -1 to -1"),
        (np.full((4, 5), 1 << 30), [], "instance ids are"),
        (np.zeros((0, 5), int), [], "the image is 0 x 5"),
        (rectangles(), [detection(7, 1, 1, 9, 9)], "image 3, detection 0: category_id is 7"),
        (rectangles(), [detection(26, 1, 1, 9, 9, np.nan)], "image 3, detection 0: score is nan"),
        (rectangles(), [{"category_id": 26, "score": 1}], "image 3, detection 0 has no segmentation"),
        (np.zeros((4, 5), int), [detection(26, 1, 1, 9, 9)], "image 3, detection 0: the mask is"),
    ],
)
def test_bad_input_adds_nothing(ids, dt, reason):
    metrics = CityscapesInstanceAP()
    with pytest.raises(UserError, match=reason):
        metrics.update(3, ids, dt)
    assert metrics.image_ids == []


def test_results_that_do_not_go_together(scenes):
    metrics = measured(scenes, [3])
    with pytest.raises(UserError, match="image 3 came twice"):
        metrics.update(3, *scenes[3])
    with pytest.raises(UserError, match="images .3. are in both results"):
        metrics.merge(measured(scenes, [3]))
    with pytest.raises(UserError, match="only like results"):
        metrics.merge(CityscapesInstanceAP(min_region_px=10))
    with pytest.raises(UserError, match="expected .B, 1. whole numbers"):
        metrics.compute_many(np.ones(1, int))
    for classes in ({}, {1000: "x"}, {0: "x"}):
        with pytest.raises(UserError, match="expected label ids from 1"):
            CityscapesInstanceAP(classes)
