"""What users are told of damaged and unfitting predictions."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from pnm.masks.crops import MaskCrop
from pnm.predictions import Objects, Partition, open_predictions

SIZE = (37, 53)
RLE = {"size": [2, 2], "counts": [1, 3]}
DETECTION = {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": RLE}
MASK = {"file_name": "a.jpg", "category_id": 1, "segmentation": RLE}


def written(tmp_path, content, name="p.json"):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / name


@pytest.mark.parametrize(
    "content, message",
    [
        ("{not JSON", "p.json is not JSON .*: expected predictions, one of COCO results"),
        ("", "p.json is not JSON"),
        ("3", "p.json holds no predictions that are known here: expected one of COCO results"),
        ("[3]", "no predictions that are known here"),
        ([{"score": 1}], "no predictions that are known here"),
        ({"a": 1}, "no predictions that are known here"),
        ({"annotations": [DETECTION], "images": []}, "holds COCO annotations, a ground truth: expected one of COCO"),
        ([DETECTION, 5], "p.json: entry 1 is 5, expected 'image_id' in it"),
        (
            [DETECTION | {"image_id": True}],
            "entry 0 is .'image_id': True.*expected 'image_id' in it, a whole number",
        ),
        ([DETECTION | {"image_id": [1]}], r"entry 0 is .'image_id': \[1\].*expected 'image_id' in it"),
        ([DETECTION | {"category_id": "cat"}], "entry 0 is .*'cat'.*expected 'category_id' in it, a whole number"),
        ([DETECTION | {"score": float("nan")}], "entry 0 has score nan, expected a finite number"),
        ([DETECTION | {"score": float("inf")}], "entry 0 has score inf, expected a finite number"),
        ([DETECTION | {"score": 10**400}], "entry 0 has score 1000.*, expected a finite number"),
        ([DETECTION | {"score": None}], "entry 0 is .*'score': None.*expected 'score' in it, a number"),
        ([DETECTION | {"segmentation": None}], "entry 0 has no segmentation: only masks can be refined, not"),
        ([{"image_id": 1, "category_id": 1, "score": 1, "bbox": [0, 0, 1, 1]}], "only masks can be refined, not boxes"),
        ([DETECTION | {"segmentation": "x"}], 'entry 0 has no RLE {"size": .height, width.*, nor polygons'),
        (
            [DETECTION, DETECTION | {"segmentation": {"size": [2, 3], "counts": [6]}}],
            r"entry 1: the RLE is of 2 x 3 pixels, an earlier one of 2 x 2: all masks of image 1 must have its size",
        ),
        (
            [DETECTION | {"segmentation": [[0, 0, 1, 1, 0, 1]]}],
            "entry 0: image 1 has polygons only, which don't say how large it is: give the image sizes",
        ),
        ([MASK | {"segmentation": [[0, 0, 1, 1, 0, 1]]}], "entry 0 has polygons, expected an RLE"),
        (
            [MASK, MASK | {"segmentation": {"size": [2, 3], "counts": [6]}}],
            "entry 1: the RLE is of 2 x 3 pixels, an earlier one of 2 x 2: all masks of image a.jpg must have its size",
        ),
        ([MASK, MASK | {"file_name": None}], "entry 1 is .'file_name': None.*: expected"),
    ],
)
def test_json_that_is_no_prediction(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        open_predictions(written(tmp_path, content))


def test_sizes_that_contradict(tmp_path):
    path = written(tmp_path, [DETECTION])
    with pytest.raises(ValueError, match="entry 0: the RLE is of 2 x 2 pixels, the image of 3 x 2"):
        open_predictions(path, image_sizes={1: (3, 2)})


@pytest.mark.parametrize(
    "segmentation, message",
    [
        ({"size": [2, 2], "counts": "abc"}, "p.json: entry 1: the RLE of this 2 x 2 mask is damaged"),
        ({"size": [2, 2], "counts": [1, 2]}, "entry 1: the RLE's counts are .1, 2., expected .* add up to 2 x 2"),
        ([[0, 0, 1, 1]], "p.json: entry 1: polygon .* needs at least three points"),
    ],
)
def test_damaged_masks(segmentation, message, tmp_path):
    predictions = open_predictions(
        written(tmp_path, [DETECTION, DETECTION | {"segmentation": segmentation}, DETECTION | {"image_id": 2}])
    )
    assert len(predictions.read(2)) == 1
    with pytest.raises(ValueError, match=message):
        predictions.read(1)
    with pytest.raises(KeyError):
        predictions.read(3)


def test_masks_that_overlap(tmp_path):
    predictions = open_predictions(written(tmp_path, [MASK, MASK | {"category_id": 2}]))
    with pytest.raises(ValueError, match="p.json: masks of image a.jpg overlap: expected one class a pixel"):
        predictions.read("a.jpg")


def test_damaged_sem_seg_mask(tmp_path):
    predictions = open_predictions(written(tmp_path, [MASK | {"segmentation": {"size": [2, 2], "counts": "~"}}]))
    with pytest.raises(ValueError, match="p.json: entry 0: the RLE of this 2 x 2 mask is damaged"):
        predictions.read("a.jpg")


SEGMENT = {"id": 1, "category_id": 3}
ANNOTATION = {"image_id": 1, "file_name": "1.png", "segments_info": [SEGMENT]}


@pytest.mark.parametrize(
    "annotations, message",
    [
        ([ANNOTATION, ANNOTATION], r"has 1 image\(s\) twice"),
        ([ANNOTATION, ANNOTATION | {"image_id": 2}], "names a PNG for two images"),
        ([ANNOTATION | {"segments_info": [SEGMENT, SEGMENT]}], "image 1 lists segment id 1 twice: renumber one"),
        ([ANNOTATION | {"segments_info": [SEGMENT | {"id": -1}]}], "segment of id -1 and category 3, .* from 0 to"),
        ([ANNOTATION | {"segments_info": [SEGMENT | {"id": 2**24}]}], "segment of id 16777216 .* from 0 to 16777215"),
        ([ANNOTATION | {"segments_info": [SEGMENT | {"category_id": "x"}]}], "id 1 and category x|category 'x'"),
        ([ANNOTATION | {"segments_info": [{"id": 1}]}], "is not a COCO panoptic JSON: KeyError.'category_id'"),
        ([ANNOTATION | {"file_name": "../1.png"}], "file_name '../1.png' leads out of the folder of PNGs"),
        ([ANNOTATION | {"file_name": "/1.png"}], "file_name '/1.png' leads out of the folder"),
        ([ANNOTATION | {"file_name": "C:\\1.png"}], "leads out of the folder"),
        ([ANNOTATION | {"file_name": ""}], "leads out of the folder"),
        ([ANNOTATION | {"file_name": 7}], "expected image_id to be a number or text, and file_name text"),
    ],
)
def test_panoptic_json(annotations, message, tmp_path):
    (tmp_path / "panoptic").mkdir()
    with pytest.raises(ValueError, match=message):
        open_predictions(written(tmp_path, {"annotations": annotations}))


def test_panoptic_png(tmp_path):
    (tmp_path / "panoptic").mkdir()
    annotations = [ANNOTATION, ANNOTATION | {"image_id": 2, "file_name": "2.png"}]
    annotations += [{"image_id": k, "file_name": f"{k}.png", "segments_info": [SEGMENT]} for k in (3, 4)]
    for name, ids in (("1", [1, 7]), ("2", [0, 0]), ("3", [0, 1])):
        pixels = np.zeros((1, 2, 3), np.uint8)
        pixels[0, :, 0] = ids
        Image.fromarray(pixels).save(tmp_path / "panoptic" / f"{name}.png")
    third = tmp_path / "panoptic/3.png"
    third.write_bytes(third.read_bytes()[:-20])
    predictions = open_predictions(written(tmp_path, {"annotations": annotations}))
    for key, message in (
        (1, r"1.png has segment ids \[7\] that .*p.json doesn't list for image 1"),
        (2, r"p.json lists segments \[1\] for image 2 that have no pixel in .*2.png"),
        (3, "3.png is truncated"),
        (4, "4.png does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            predictions.read(key)


@pytest.mark.parametrize("kind", ["labels", "sem_seg"])
def test_new_segments_where_the_list_is_fixed(kind, make, output_name, tmp_path):
    predictions = open_predictions(make(kind)[0])
    key = predictions.keys[0]
    with (
        predictions.writer(tmp_path / output_name, "f") as writer,
        pytest.raises(ValueError, match=f"image {key}: the refiner made a new list of segments, expected a label for"),
    ):
        writer.write(key, predictions.read(key))


def test_panoptic_folder_is_missing(tmp_path):
    path = written(tmp_path, {"annotations": [ANNOTATION]})
    with pytest.raises(FileNotFoundError, match="p.json has no folder of PNGs"):
        open_predictions(path)
    with pytest.raises(FileNotFoundError, match="pngs is not a folder: expected the PNGs of .*p.json"):
        open_predictions(path, png_folder=tmp_path / "pngs")


def test_truncated_label_png(make):
    path, _ = make("labels")
    png = path / "grey8.png"
    png.write_bytes(png.read_bytes()[:60])
    with pytest.raises(ValueError, match="grey8.png is truncated"):
        open_predictions(path).read("grey8.png")
    with pytest.raises(KeyError):
        open_predictions(path).read("other.png")


def test_colour_png(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png is a colour image, expected one label a pixel"):
        open_predictions(tmp_path).read("a.png")


def test_what_is_not_there_or_unknown(tmp_path, make):
    with pytest.raises(FileNotFoundError, match="none is missing: expected predictions, one of COCO results"):
        open_predictions(tmp_path / "none")
    with pytest.raises(ValueError, match=r"folder .* has neither label PNGs nor \*_pred.txt: expected one of COCO"):
        open_predictions(tmp_path)
    for name in ("coco_instances_results.json", "predictions.json"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="of which one is to be named: .*coco_instances_results.json, .*/predictions"):
        open_predictions(tmp_path)
    (tmp_path / "p.pkl").touch()
    with pytest.raises(
        ValueError, match=r"p.pkl is neither a folder, a \*.json file nor known annotations: expected one of COCO"
    ):
        open_predictions(tmp_path / "p.pkl")
    with pytest.raises(ValueError, match="task is 'depth', expected one of instance, semantic, panoptic"):
        open_predictions(tmp_path, "depth")
    labels, _ = make("labels")
    with pytest.raises(ValueError, match="labels is a folder of label PNGs, for which there is no option image_sizes"):
        open_predictions(labels, image_sizes={})
    with pytest.raises(ValueError, match=r"labels holds semantic predictions \(folder of label PNGs\), expected panop"):
        open_predictions(labels, "panoptic")
    cityscapes, _ = make("cityscapes")
    assert open_predictions(cityscapes).task == "instance"
    assert open_predictions(cityscapes, "semantic").task == "semantic"


def test_cityscapes(make):
    path, _ = make("cityscapes")
    text = path / "ulm_000000_000002_leftImg8bit_pred.txt"
    used = "masks/bonn_000000_000003_leftImg8bit_0.png 24 0.5\n"
    text.write_text(used)
    with pytest.raises(ValueError, match="name the same mask masks/bonn_000000_000003_leftImg8bit_0.png: expected one"):
        open_predictions(path)
    Image.new("L", (2, 2)).save(path.parent / "outside.png")
    text.write_text("../outside.png 24 0.5\n")
    with pytest.raises(ValueError, match="_pred.txt names a mask .* outside of .*instances: expected one in it"):
        open_predictions(path)
    text.write_text("gone.png 24 0.5\n")
    with pytest.raises(ValueError, match="ulm_.*_pred.txt, line 1: .*gone.png is missing"):
        open_predictions(path)
    text.write_text("gone.png 24\n")
    with pytest.raises(ValueError, match="ulm_.*_pred.txt, line 1 is 'gone.png 24': expected"):
        open_predictions(path)
    Image.new("L", (2, 2)).save(path / "small.png")
    Image.new("L", (2, 3)).save(path / "large.png")
    text.write_text("small.png 24 0.5\nlarge.png 24 0.5\n")
    with pytest.raises(ValueError, match="mask .*large.png is 3 x 2, the image 2 x 2: expected one size"):
        open_predictions(path).read(text.name)


def test_empty_folders_of_a_known_kind(tmp_path):
    from pnm.predictions.cityscapes_instances import CityscapesPredictions
    from pnm.predictions.label_folder import LabelPngPredictions

    for kind, what in ((LabelPngPredictions, "label PNGs?"), (CityscapesPredictions, r"\*_pred.txt")):
        with pytest.raises(FileNotFoundError, match=f"has no {what} in it: check the path"):
            kind(tmp_path)
        with pytest.raises(FileNotFoundError, match=f"none is not a folder: expected one with {what}"):
            kind(tmp_path / "none")


@pytest.mark.parametrize(
    "refine, message",
    [
        (lambda masks: masks[1:], "image 7: 2 refined masks of 3 objects, expected one for each"),
        (lambda masks: [*masks[:2], np.zeros((3, 3), bool)], r"image 7, refined mask 2: the mask is \(3, 3\)"),
        (lambda masks: [np.zeros(SIZE)] * 3, "image 7, refined mask 0 is float64, expected an RLE or an array of bool"),
        (lambda masks: [{"size": [3, 3], "counts": "9"}] * 3, r"image 7, refined mask 0: the RLE has size \[3, 3\]"),
    ],
)
def test_refined_objects_that_do_not_fit(refine, message, make, tmp_path):
    path, options = make("coco")
    predictions = open_predictions(path, **options)
    with predictions.writer(tmp_path / "out.json", "f") as writer, pytest.raises(ValueError, match=message):
        writer.write(7, refine(predictions.read(7).masks))
    assert not writer.done


@pytest.mark.parametrize("kind", ["panoptic", "labels", "sem_seg"])
@pytest.mark.parametrize(
    "refine, message",
    [
        (lambda labels: labels[1:], r"the refined labels are \(36, 53\) u?int\d+, expected \(37, 53\) integers"),
        (lambda labels: labels / 2, "the refined labels are .* float64, expected"),
        (lambda labels: np.full(SIZE, 123), r"the refined labels \[123\] are none of the prediction's"),
        (lambda labels: labels - 5, "the refined labels .* are none of the prediction's"),
    ],
)
def test_refined_labels_that_do_not_fit(kind, refine, message, make, tmp_path):
    predictions = open_predictions(make(kind)[0])
    key = predictions.keys[-1]
    labels = predictions.read(key).labels.astype(np.int64)
    with (
        predictions.writer(tmp_path / "out", "f")
        if kind == "labels"
        else predictions.writer(tmp_path / "out.json", "f") as writer,
        pytest.raises(ValueError, match=f"image {re.escape(str(key))}: {message}"),
    ):
        writer.write(key, refine(labels))


@pytest.mark.parametrize("kind, void", [("panoptic", 0), ("labels", 255), ("sem_seg", 0)])
def test_holes(kind, void, make, tmp_path):
    predictions = open_predictions(make(kind)[0])
    key = predictions.keys[-1]
    coarse = predictions.read(key)
    labels = coarse.labels.copy()
    y, x = np.argwhere(np.isin(labels, coarse.segments))[5]
    labels[y, x] = void
    output = tmp_path / ("out" if kind == "labels" else "out.json")
    with predictions.writer(output, "f") as writer:
        with pytest.raises(ValueError, match="1 pixels of a segment are none's after refinement"):
            writer.write(key, labels)
        if kind != "labels":
            writer.write(key, np.where(coarse.labels == void, coarse.segments[0], coarse.labels))


def test_objects_and_partitions_that_make_no_sense():
    mask = MaskCrop(np.ones((2, 2), bool), 0, 1)
    for arguments, message in (
        (((2, 3), (mask,), (), (1,)), "1 masks, 0 scores and 1 categories, expected as many of each"),
        (((2, 2), (mask,), (0.5,), (1,)), "mask 0 has rows 0 to 2 and columns 1 to 3, the image is 2 x 2"),
        (((2, 3), (mask,), (float("nan"),), (1,)), "mask 0 has score nan, expected a finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            Objects(*arguments)
    for labels, segments, categories, message in (
        (np.zeros((2, 2)), (), (), r"labels are \(2, 2\) float64, expected \(H, W\) integers"),
        (np.zeros(2, int), (), (), r"labels are \(2,\) int64, expected"),
        (np.zeros((2, 2), int), (1,), (), "1 segments and 0 categories, expected as many"),
        (np.zeros((2, 2), int), (1, 1), (1, 1), r"segments \[1, 1\] have a label twice"),
    ):
        with pytest.raises(ValueError, match=message):
            Partition(labels, segments, categories)
