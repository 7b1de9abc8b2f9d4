"""Files read as columns give what the careful readers give, or nothing: then these are asked."""

import json
import os
import random

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.formats.coco_instances import read_coco_ground_truth, read_coco_results
from pnm.formats.coco_segmentations import _all_polygons
from pnm.formats.coco_tables import read_result_table, read_truth_table
from pnm.masks.polygon_runs import fifths
from pnm.metrics.instance_ap import InstanceMetrics
from tests.json_mutations import instances, mutated

METRICS = {"masks": ("segm", "boundary", "af"), "boxes": ("bbox",), "both": ("segm", "bbox")}


def carefully(paths, metrics):
    """Metrics and remarks, by the readers that tell what is wrong; the errors and lines that they tell."""
    masks = metrics != ("bbox",)
    try:
        truth = read_coco_ground_truth(paths[0], masks=masks)
        results = read_coco_results(paths[1], truth, masks=masks)
        metric = InstanceMetrics(list(truth.categories), metrics=metrics)
        for image, (height, width, _) in truth.images.items():
            metric.update(image, height, width, truth.annotations[image], results.by_image[image])
    except UserError as error:
        return None, [str(error)]
    return (metric.compute(), truth.remarks + results.remarks), results.problems


def quickly(paths, metrics):
    """Metrics and remarks, by the tables; None if the files aren't read."""
    options = {"masks": metrics != ("bbox",), "boxes": "bbox" in metrics}
    gt = read_truth_table(paths[0], **options)
    results = read_result_table(paths[1], gt, **options) if gt else None
    if results is None:
        return None
    metric = InstanceMetrics(list(gt.truth.categories), metrics=metrics)
    for n, image in enumerate(gt.truth.images):  # one at a time, so that tables are cut, too
        tables = gt.table.of_images(n, n + 1), results.table.of_images(n, n + 1)
        metric.update_many([image], gt.sizes[n : n + 1], *tables)
    return metric.compute(), gt.truth.remarks + results.results.remarks


@pytest.fixture
def write(tmp_path):
    def write(truth, results):
        paths = tmp_path / "gt.json", tmp_path / "results.json"
        for path, content in zip(paths, (truth, results)):
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return paths

    return write


@pytest.mark.parametrize("metrics", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("side", [0, 1])
def test_mutations(write, side, metrics):
    """``PNM_MUTATIONS=2000`` for more."""
    content, chance, read = list(instances()), random.Random(f"{side}"), 0
    for _ in range(int(os.environ.get("PNM_MUTATIONS", "200"))):
        changed = list(content)
        changed[side] = mutated(content[side], chance)
        paths = write(*changed)
        quick = quickly(paths, metrics)
        expected, told = carefully(paths, metrics)
        if quick is None:
            continue
        read += 1
        assert told == [], changed[side]
        np.testing.assert_equal(quick, expected, err_msg=str(changed[side]))
    assert read > 10


def test_real_files(real_data):
    folder = real_data / "predictions/coco_val2014_100"
    paths = folder / "instances_val2014_100.json", folder / "instances_val2014_fakesegm100_results.json"
    quick = quickly(paths, METRICS["masks"])
    assert quick is not None
    np.testing.assert_equal(quick, carefully(paths, METRICS["masks"])[0])


def test_left_out_annotations_are_remarked_on(write):
    truth, results = instances()
    square = truth["annotations"][0]
    truth["annotations"] += [square | {"id": 7, "image_id": 99}, square | {"id": 8}, square | {"id": 9, "image_id": 2}]
    truth["annotations"][4] = square | {"id": 8, "segmentation": [[1, 2, 3, 4], square["segmentation"][0]]}
    paths = write(truth, results)
    quick, expected = quickly(paths, METRICS["masks"]), carefully(paths, METRICS["masks"])[0]
    np.testing.assert_equal(quick, expected)
    assert [line.split(": ")[1:] for line in quick[1][:2]] == [
        ["1 annotations left out, of images that it doesn't list", "annotations[...] 3"],
        ["polygons of fewer than three points left out of 1 annotations", "annotations[...] 4"],
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda truth: truth["annotations"][0].update(segmentation=[[1, 1, 20, 1, 20, 200]]),
        lambda truth: truth["annotations"][1]["segmentation"].update(counts="\\n"),
        lambda truth: truth["annotations"][1]["segmentation"].update(size=[40, 30]),
        lambda truth: truth["annotations"][2]["segmentation"].update(counts=[600, 601]),
        lambda truth: truth["annotations"][2].update(id=1),
        lambda truth: truth["annotations"][2].update(area=1e301),
        lambda truth: truth["images"][1].update(id="b"),
    ],
)
def test_what_is_not_sound_is_left_to_the_careful_reader(write, change):
    truth, results = instances()
    change(truth)
    paths = write(truth, results)
    assert quickly(paths, METRICS["masks"]) is None and carefully(paths, METRICS["masks"])[1]


def test_numbers_of_polygons():
    import msgspec

    texts = ["[0, -0.0, 1e2, 1E-1, 2.5e+1, 3]", "[ 123456789.12345678,0.1,\n0.30000000000000004 ,\t9007199254740993]"]
    texts += ["[0.1, 0.3, 0.5, 0.7, 0.9, 1.1]", "[1.9999999999999998, 2.0999999999999996, -7.5, -0.1, 4e8, 4.1e8]"]
    raws = [msgspec.Raw(text.encode()) for text in texts]
    polygons = _all_polygons(raws)
    expected = fifths(np.array([number for text in texts for number in json.loads(text)], np.float64))
    np.testing.assert_array_equal(np.stack([polygons.x, polygons.y], axis=1).ravel(), expected)
    assert polygons.numbers.tolist() == [6, 4, 6, 6]
    for odd in ("5", "null", "[[1, 2]]", '["1", 2]', "[true, 2]", "{}", "[1, null]"):
        assert _all_polygons([raws[0], msgspec.Raw(odd.encode()), raws[0]]) is None


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + 400 * "0"])
def test_coordinates_beyond_all_numbers_are_told(write, number):
    image = '{"images": [{"id": 1, "height": 6, "width": 8}], "categories": [{"id": 1, "name": "c"}], "annotations": ['
    annotation = (
        '{"id": 1, "image_id": 1, "category_id": 1, "area": 9, "iscrowd": 0, "segmentation": [[1,1,5,1,5,%s]]}]}'
    )
    paths = write((image + annotation % number).encode(), b"[]")
    assert quickly(paths, ("segm",)) is None
    with pytest.raises(UserError, match="has coordinates that are no numbers or lie far outside"):
        read_coco_ground_truth(paths[0], masks=True)
