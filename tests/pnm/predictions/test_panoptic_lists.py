"""Panoptic files whose lists of segments a refiner changes, and lists as other programs write them."""

import json

import numpy as np
import pytest
from PIL import Image

from pnm.predictions import Partition, open_predictions

COARSE = np.array([[1, 1, 1, 1, 300, 300], [1, 1, 1, 1, 300, 300], [9, 9, 9, 9, 0, 0]])
SEGMENTS = [
    {"id": 300, "category_id": 2, "score": 0.5, "bbox": [0, 0, 9, 9], "isthing": True, "note": {"é": 1}},
    {"id": 1, "category_id": 1, "isthing": False},
    {"id": 9, "category_id": 1, "isthing": False, "area": 4},
]
CATEGORIES = [{"id": 1, "name": "a", "isthing": 0}, {"id": 2, "name": "b", "isthing": 1}]


def pixels(ids):
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def ids_of(png):
    rgb = np.asarray(Image.open(png)).astype(int)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


@pytest.fixture
def written(tmp_path):
    """``written(ids, segments)``: predictions of image 1."""

    def write(ids, segments, categories=CATEGORIES):
        (tmp_path / "coarse").mkdir()
        Image.fromarray(pixels(ids)).save(tmp_path / "coarse/1.png")
        annotation = {"image_id": 1, "file_name": "1.png", "segments_info": segments, "more": [2]}
        content = {"annotations": [annotation], "categories": categories, "info": "x"}
        (tmp_path / "coarse.json").write_text(json.dumps(content))
        return open_predictions(tmp_path / "coarse.json")

    return write


@pytest.fixture
def refined_to(tmp_path):
    """``refined_to(predictions, refined)``: ids and list of the output, which is checked to be whole."""

    def refine(predictions, refined):
        output = tmp_path / "refined.json"
        with predictions.writer(output, "f", overwrite=True) as writer:
            writer.write(1, refined)
            writer.finish()
        content, before = (json.loads(path.read_text()) for path in (output, predictions.path))
        assert {**content, "annotations": 0} == {**before, "annotations": 0}
        (annotation,) = content["annotations"]
        assert annotation["more"] == [2]
        ids, segments = ids_of(tmp_path / "refined/1.png"), annotation["segments_info"]
        for segment in segments:
            rows, columns = np.nonzero(ids == segment["id"])
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert segment.get("area", len(rows)) == len(rows) and segment.get("bbox", box) == box
        listed = [segment["id"] for segment in segments]
        assert len(set(listed)) == len(listed) and set(np.unique(ids)) <= {0, *listed}
        open_predictions(output).read(1)
        return ids, segments

    return refine


def test_kept_new_and_vanished_segments(written, refined_to, caplog):
    labels = np.array([[5, 5, 5, 5, 8, 8], [5, 5, 5, 7, 8, 8], [7, 7, 0, 0, 8, 0]])
    refined = Partition(labels, (5, 7, 8, 4), (1, 2, np.int64(2), 1))
    ids, segments = refined_to(written(COARSE, SEGMENTS), refined)
    np.testing.assert_array_equal(ids, np.array([0, 0, 0, 0, 0, 1, 0, 301, 300])[labels])
    assert segments == [
        SEGMENTS[0] | {"bbox": [4, 0, 2, 3]},
        SEGMENTS[1],
        {"id": 301, "category_id": 2, "area": 3, "bbox": [0, 1, 4, 2], "iscrowd": 0, "isthing": True},
    ]
    assert type(segments[2]["isthing"]) is bool
    assert "1 segments are gone after refinement and 1 are new" in caplog.text


@pytest.mark.parametrize(
    "isthing, categories, wanted",
    [
        (1, CATEGORIES, {"isthing": 1}),
        (None, CATEGORIES, {}),
        (True, [{"id": 1}, {"id": 2, "isthing": "x"}, 3], {}),
        (True, "none", {}),
    ],
)
def test_isthing_of_new_segments_is_as_the_file_has_it(isthing, categories, wanted, written, refined_to):
    has = {} if isthing is None else {"isthing": isthing}
    predictions = written(np.ones((2, 2), int), [{"id": 1, "category_id": 1, **has}], categories)
    _, (segment,) = refined_to(predictions, Partition(np.full((2, 2), 6), (6,), (2,)))
    assert segment == {"id": 2, "category_id": 2, "area": 4, "bbox": [0, 0, 2, 2], "iscrowd": 0, **wanted}
    assert type(segment.get("isthing")) is type(isthing) or not wanted


def test_an_equal_partition_changes_nothing(written, refined_to, tmp_path, caplog):
    predictions = written(COARSE, SEGMENTS)
    coarse = predictions.read(1)
    _, segments = refined_to(predictions, Partition(coarse.labels + 9, (18, 10, 309, 9), (1, 1, 2, 7)))
    assert [s["id"] for s in segments] == [300, 1, 9, 301]  # void was given a class
    _, segments = refined_to(predictions, coarse)
    assert segments == [SEGMENTS[0] | {"bbox": [4, 0, 2, 2]}, *SEGMENTS[1:]]
    assert (tmp_path / "refined/1.png").read_bytes() == (tmp_path / "coarse/1.png").read_bytes()


def test_nothing_left_and_nothing_there_before(written, refined_to):
    predictions = written(np.zeros((3, 6), int), [])
    assert predictions.read(1).segments == () and not predictions.read(1).labels.any()
    ids, segments = refined_to(predictions, Partition(np.zeros((3, 6), int), (4,), (1,)))
    assert segments == [] and not ids.any()
    ids, segments = refined_to(predictions, Partition(COARSE, (300, 1, 9), (2, 1, 1)))
    assert [(s["id"], s["category_id"]) for s in segments] == [(1, 2), (2, 1), (3, 1)]
    assert refined_to(predictions, np.zeros((3, 6), int))[1] == []


def test_errors_name_the_image(written, tmp_path):
    with (
        written(COARSE, SEGMENTS).writer(tmp_path / "refined.json", "f") as writer,
        pytest.raises(ValueError, match=r"image 1: the refined labels \[300\] are none of the refined segments"),
    ):
        writer.write(1, Partition(COARSE, (1, 9), (1, 1)))


def test_sparse_ids_and_several_segments_of_a_stuff_class(written, refined_to):
    ids = np.array([[11000, 11000, 26001], [11001, 11001, 26001], [7000, 0, 26002]])
    segments = [{"id": i, "category_id": i // 1000} for i in (26002, 11000, 7000, 26001, 11001)]
    predictions = written(ids, segments)
    coarse = predictions.read(1)
    np.testing.assert_array_equal(coarse.labels, ids)
    assert coarse.segments == (26002, 11000, 7000, 26001, 11001) and coarse.categories == (26, 11, 7, 26, 11)
    assert refined_to(predictions, coarse.labels)[1] == segments
    joined = np.where(ids == 11001, 11000, ids)
    ids_after, after = refined_to(predictions, Partition(joined, coarse.segments[:4], coarse.categories[:4]))
    assert [s["id"] for s in after] == [26002, 7000, 26001, 26003]  # half of it is no longer the same segment
    np.testing.assert_array_equal(ids_after, np.where(joined == 11000, 26003, joined))


DETR = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [2, 2, 2, 2]])
DETR_SEGMENTS = [{"id": k, "category_id": c, "area": a} for k, c, a in ((0, 2, 6), (1, 1, 2), (2, 1, 4))]


def test_segments_numbered_from_0_on(written, refined_to, tmp_path):
    predictions = written(DETR, DETR_SEGMENTS)
    coarse = predictions.read(1)
    np.testing.assert_array_equal(coarse.labels, DETR + 1)
    assert coarse.segments == (1, 2, 3) and coarse.categories == (2, 1, 1)
    assert refined_to(predictions, coarse.labels)[1] == DETR_SEGMENTS
    assert (tmp_path / "refined/1.png").read_bytes() == (tmp_path / "coarse/1.png").read_bytes()
    labels = coarse.labels.copy()
    labels[0, 2] = 2
    ids, segments = refined_to(predictions, labels)
    np.testing.assert_array_equal(ids, labels - 1)
    assert [(s["id"], s["area"]) for s in segments] == [(0, 5), (1, 3), (2, 4)]


def test_id_0_is_kept_where_the_list_changes(written, refined_to):
    predictions = written(DETR, DETR_SEGMENTS)
    labels = np.where(DETR == 2, 50, DETR + 7)
    ids, segments = refined_to(predictions, Partition(labels, (7, 8, 50), (2, 1, 2)))
    np.testing.assert_array_equal(ids, np.where(DETR == 2, 3, DETR))
    new = {"id": 3, "category_id": 2, "area": 4, "bbox": [0, 2, 4, 1], "iscrowd": 0}
    assert segments == [*DETR_SEGMENTS[:2], new]


def test_void_where_there_was_none_raises_the_ids(written, refined_to):
    predictions = written(DETR, DETR_SEGMENTS)
    labels = np.where(DETR == 2, 0, DETR + 7)
    ids, segments = refined_to(predictions, Partition(labels, (7, 8), (2, 1)))
    np.testing.assert_array_equal(ids, np.where(DETR == 2, 0, DETR + 1))
    assert segments == [{**segment, "id": segment["id"] + 1} for segment in DETR_SEGMENTS[:2]]


def test_id_0_may_vanish(written, refined_to):
    predictions = written(DETR, DETR_SEGMENTS)
    ids, segments = refined_to(predictions, np.where(DETR == 0, 2, DETR + 1))
    assert [s["id"] for s in segments] == [1, 2] and ids.tolist() == np.maximum(DETR, 1).tolist()


def test_ids_in_messages_are_those_of_the_file(written):
    predictions = written(np.array([[0, 7]]), [{"id": 0, "category_id": 1}])
    with pytest.raises(ValueError, match=r"1.png has segment ids \[7\] that .*coarse.json doesn't list for image 1"):
        predictions.read(1)
