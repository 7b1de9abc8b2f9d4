"""The command that predicts pictures: what eval-only writes of the same images, refined, resumed; what it refuses."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from PIL import Image

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import object_masks
from pnm.annotations.known_formats import read_annotations
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.pictures.pictures import Toning
from pnm.pictures.video import Video
from pnm.predictions import open_predictions
from pnm.predictions.result_folder import ResultFolder
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.checks import take_from_data
from pnm.projects.launcher.run_setup import register_builtin_data

from .conftest import ROOT, load_tool

CONFIGS = {
    "instance": "configs/quickstart/mask_rcnn_R_18_FPN.yaml",
    "semantic": "configs/quickstart/semantic_fpn_R_18.yaml",
    "panoptic": "configs/quickstart/panoptic_fpn_R_18.yaml",
    "bpr": "configs/quickstart/bpr_instance.yaml",
    "bpr_panoptic": "configs/quickstart/bpr_panoptic.yaml",
    "bpr_semantic": "configs/quickstart/bpr_semantic.yaml",
    "prn": "configs/quickstart/prn.yaml",
}
ALWAYS = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64"]
FEW = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "6"]  # of untrained models
FEW += ["MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", "0.0", "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT"]
FEW += ["16"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, shapes_root):
    """``weights(kind)``: untrained weights of a config, whose predictions differ from pixel to pixel."""
    folder = tmp_path_factory.mktemp("weights")

    def made(kind):
        path = folder / f"{kind}.pth"
        if not path.is_file():
            torch.manual_seed(0)
            known, words = set(DatasetCatalog.list()), list(ALWAYS)
            if kind in ("semantic", "panoptic"):
                words += ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", {"panoptic": "5"}.get(kind, "8")]
            register_builtin_data()  # PRN has its classes from there
            cfg = load_config(CONFIGS[kind], words)
            take_from_data(cfg)
            model = build_model(cfg)
            for name in set(DatasetCatalog.list()) - known:
                DatasetCatalog.remove(name)
                MetadataCatalog.remove(name)
            for module in model.modules():
                if getattr(module, "out_channels", 0) in (5, 8) and hasattr(module, "kernel_size"):
                    torch.nn.init.normal_(module.weight, std=1.0)
            torch.save({"model": model.state_dict()}, path)
        return path

    return made


@pytest.fixture
def predict(weights, shapes_root, forget_data_sets, tmp_path, monkeypatch, run_main):
    """``predict(kind, arguments...)`` runs the tool and gives its exit status, output and lines of errors."""
    tool = load_tool("predict")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))

    def run(kind, *arguments, images=shapes_root / "shapes/images/val", output=tmp_path / "out", overrides=(), then=()):
        words = ["--config-file", CONFIGS[kind], "--images", images, "--output", output, *arguments]
        few = FEW if kind in ("instance", "panoptic") else []
        words += ["MODEL.WEIGHTS", weights(kind), *ALWAYS, *few, *overrides]
        for refiner in then:
            words += ["--refine", CONFIGS[refiner], "MODEL.WEIGHTS", weights(refiner), "MODEL.DEVICE", "cpu"]
        return run_main(tool, words)

    return run


@pytest.fixture
def predicted(predict):
    """As ``predict``, of a run that must succeed; gives the last line of its output."""

    def run(*arguments, **paths):
        status, output, errors = predict(*arguments, **paths)
        assert status == 0, errors[-1:]
        return output[-1]

    return run


def evaluated(kind, weights, shapes_root, folder):
    """The folder of result files that eval-only leaves."""
    command = [sys.executable, "train_net.py", "--config-file", CONFIGS[kind], "--eval-only", "MODEL.WEIGHTS"]
    few = FEW if kind in ("instance", "panoptic") else []
    command += [str(weights(kind)), *ALWAYS, *few, "OUTPUT_DIR", str(folder), "DATALOADER.NUM_WORKERS", "0"]
    environment = os.environ | {"DETECTRON2_DATASETS": str(shapes_root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (folder / "inference").iterdir()
    return results


def contents(folder):
    """Bytes of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_json(path):
    return json.loads(path.read_text("utf-8"))


def test_instances_are_those_of_eval_only(predicted, weights, shapes_root, tmp_path):
    told, out = predicted("instance"), tmp_path / "out"
    assert told.startswith(f"{out / 'coco_instances_results.json'}: 6 images predicted, 0 kept; ")
    rows = read_json(out / "coco_instances_results.json")
    results = evaluated("instance", weights, shapes_root, tmp_path / "evaluated")
    assert rows == read_json(results / "coco_instances_results.json") and len(rows) > 10
    listing, truth = read_json(out / "images.json"), read_json(shapes_root / "shapes/annotations/instances_val.json")
    keys = ("id", "file_name", "height", "width")
    assert listing["images"] == [{key: image[key] for key in keys} for image in truth["images"]]
    assert [(c["id"], c["name"]) for c in listing["categories"]] == [(c["id"], c["name"]) for c in truth["categories"]]
    assert sorted(path.name for path in out.iterdir()) == [
        "coco_instances_results.json", "images.json", "overlays", "run.json"
    ]  # fmt: skip


def test_segments_are_those_of_eval_only(predicted, weights, shapes_root, tmp_path):
    predicted("panoptic", "--no-overlays")
    results = evaluated("panoptic", weights, shapes_root, tmp_path / "evaluated")
    content, other = read_json(tmp_path / "out/predictions.json"), read_json(results / "predictions.json")
    assert content["annotations"] == other["annotations"] and any(a["segments_info"] for a in other["annotations"])
    assert content["categories"] == [{key: c[key] for key in ("id", "name", "isthing")} for c in other["categories"]]
    for annotation in content["annotations"]:
        one, two = (folder / "panoptic" / annotation["file_name"] for folder in (tmp_path / "out", results))
        np.testing.assert_array_equal(read_panoptic_png(one), read_panoptic_png(two))


def test_labels_are_those_of_eval_only(predicted, weights, shapes_root, tmp_path):
    predicted("semantic")
    results = evaluated("semantic", weights, shapes_root, tmp_path / "evaluated")
    other = open_predictions(results / "sem_seg_predictions.json")
    names = sorted(path.name for path in (tmp_path / "out/labels").iterdir())
    for name, key in zip(names, other.keys, strict=True):
        labels, partition = read_label_png(tmp_path / "out/labels" / name), other.read(key)
        table = dict(zip(partition.segments, partition.categories))
        np.testing.assert_array_equal(labels, np.vectorize(table.get)(partition.labels))
    assert len(np.unique(labels)) > 2
    classes = (tmp_path / "out/names.txt").read_text("utf-8").split()
    assert classes == ["blob", "ring", "pole", "urchin", "sky", "rock", "field", "water"]


@pytest.mark.parametrize(
    ("kind", "refiners"),
    [
        ("instance", ["bpr"]),
        ("semantic", ["bpr_semantic"]),
        ("panoptic", ["bpr_panoptic", "prn"]),
        ("panoptic", ["prn"]),
    ],
)
def test_refined_in_the_same_pass(predicted, run_refine, weights, shapes_root, tmp_path, kind, refiners):
    coarse, fine = tmp_path / "coarse", tmp_path / "fine"
    predicted(kind, output=coarse)
    predicted(kind, output=fine, then=refiners)
    is_json = kind != "semantic"
    name = {"instance": "coco_instances_results.json", "semantic": "labels", "panoptic": "predictions.json"}[kind]
    refined = tmp_path / ("refined.json" if is_json else "refined")
    first, *others = [
        ["--config-file", CONFIGS[one], "MODEL.WEIGHTS", weights(one), "MODEL.DEVICE", "cpu"] for one in refiners
    ]
    words = [*first[:2], "--images", shapes_root / "shapes/images/val", "--predictions", coarse / name]
    words += ["--output", refined, *first[2:]]
    for other in others:
        words += ["--then", *other[1:]]
    run_refine(*words)
    if is_json:
        assert read_json(fine / name) == read_json(refined)
        assert read_json(fine / name) != read_json(coarse / name)
    if kind == "panoptic":
        assert contents(fine / "panoptic").keys() == contents(tmp_path / "refined").keys()
        for png in contents(tmp_path / "refined"):
            one, two = (read_panoptic_png(folder / png) for folder in (fine / "panoptic", tmp_path / "refined"))
            np.testing.assert_array_equal(one, two)
    if kind == "semantic":
        for png in contents(refined):
            np.testing.assert_array_equal(read_label_png(fine / name / png), read_label_png(refined / png))


@pytest.mark.parametrize("kind", ["instance", "semantic", "panoptic"])
def test_a_run_that_was_interrupted_goes_on(predict, predicted, monkeypatch, tmp_path, kind):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    extra = ["--format", "coco"]
    predicted(kind, *extra, output=whole)
    add, count = ResultFolder.add, iter(range(100))

    def interrupted(self, name, image):
        if next(count) == 2:
            raise KeyboardInterrupt
        add(self, name, image)

    with monkeypatch.context() as patch:
        patch.setattr(ResultFolder, "add", interrupted)
        status, _, errors = predict(kind, *extra, output=parts)
    assert status == 130
    assert errors[-1] == "interrupted: what was predicted is kept; run the same command with --resume to go on"
    assert not (parts / "run.json").exists()
    status, _, errors = predict(kind, *extra, output=parts)
    assert status == 2 and "is not empty" in errors[-1] and "add --resume to go on" in errors[-1]
    told = predicted(kind, *extra, "--resume", output=parts)
    assert ": 4 images predicted, 2 kept; " in told
    assert contents(parts) == contents(whole)
    assert predicted(kind, *extra, "--resume", output=parts) == f"{parts}: all 6 images are predicted already"
    assert contents(parts) == contents(whole)


def test_a_run_of_other_settings_is_not_gone_on_with(predict, predicted, shapes_root, tmp_path):
    predicted("instance")
    other = "choose another folder, or add --overwrite"
    out, told = tmp_path / "out", "holds a finished run of other"
    status, _, errors = predict("instance", "--resume", "--stretch", "2", "98")
    assert (status, errors[-1]) == (2, f"error: --output {out} {told} reading of images: {other}")
    status, _, errors = predict("instance", "--resume", images=shapes_root / "shapes/images/train")
    assert (status, errors[-1]) == (2, f"error: --output {out} {told} images: {other}")
    status, _, errors = predict("instance", "--resume", then=["bpr"])
    assert (status, errors[-1]) == (2, f"error: --output {out} {told} refiners: {other}")
    predicted("semantic", "--overwrite")
    assert not (out / "coco_instances_results.json").exists() and (out / "labels").is_dir()
    (out / "mine.txt").write_text("", "utf-8")
    status, _, errors = predict("semantic", "--overwrite")
    assert (
        status == 2 and "holds mine.txt, which no run of this program made" in errors[-1] and (out / "labels").is_dir()
    )


def test_annotations_to_correct(predicted, shapes_root, tmp_path):
    images = shapes_root / "shapes/images/val"
    predicted("instance", "--format", "labelme", "--min-score", "0.1", "--no-overlays")
    source = Source(tmp_path / "out/annotations", images, task="instance")
    annotations = read_annotations(source, "labelme")
    predictions = open_predictions(tmp_path / "out/coco_instances_results.json")
    names = {c["id"]: c["name"] for c in read_json(tmp_path / "out/images.json")["categories"]}
    total = 0
    for image, key in zip(annotations.images, predictions.keys, strict=True):
        objects, prediction = annotations.read(image), predictions.read(key)
        kept = [n for n, score in enumerate(prediction.scores) if score >= 0.1 and prediction.masks[n].pixels.any()]
        wanted = [names[prediction.categories[n]] for n in kept]
        assert [annotations.categories[thing.category].name for thing in objects] == wanted
        for mask, n in zip(object_masks(image, objects), kept, strict=True):
            assert np.count_nonzero(mask.pixels) == np.count_nonzero(prediction.masks[n].pixels)
        total += len(kept)
    assert total
    predicted("panoptic", "--format", "coco", output=tmp_path / "things")
    assert {row["category_id"] for row in read_json(tmp_path / "things/annotations/instances.json")["annotations"]} <= {
        1,
        2,
        3,
        4,
    }


def write_clip(path, images):
    frames = [cv2.imread(str(image)) for image in images]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()


def test_frames_of_a_video_are_images(predicted, shapes_root, tmp_path):
    clip, images = tmp_path / "clip.mp4", sorted((shapes_root / "shapes/images/train").iterdir())
    write_clip(clip, images)
    out, again = tmp_path / "out", tmp_path / "again"
    told = predicted("instance", "--every", "5", "--keep-frames", images=clip)
    assert ": 3 frames predicted, 0 kept; " in told and told.endswith(" frames/s")
    assert [(row["id"], row["file_name"]) for row in read_json(out / "images.json")["images"]] == [
        (n, f"clip_{n:06d}.png") for n in (0, 5, 10)
    ]
    predicted("instance", images=out / "frames", output=again)
    rows, others = (read_json(folder / "coco_instances_results.json") for folder in (out, again))
    number = {n: place for place, n in enumerate((0, 5, 10), 1)}
    assert [{**row, "image_id": number[row["image_id"]]} for row in rows] == others and rows
    assert contents(out / "overlays") == contents(again / "overlays")
    video = Video(out / "overlays.mp4")
    assert video.frames == 3 and video.rate == 2
    predicted("semantic", images=clip, output=tmp_path / "all")
    assert len(list((tmp_path / "all/labels").iterdir())) == 12 and Video(tmp_path / "all/overlays.mp4").rate == 10


def test_a_video_that_ends_early_is_told(predict, predicted, shapes_root, tmp_path):
    clip, images = tmp_path / "clip.avi", sorted((shapes_root / "shapes/images/train").iterdir())
    write_clip(clip, images)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    count = Video(clip).frames
    assert 0 < count < len(images) - 2
    status, output, errors = predict("semantic", images=clip)
    assert status == 2 and f": {count} frames predicted, 0 kept; " in output[-1]
    assert errors[-1] == (
        f"error: {clip} has {len(images)} frames by its header, but only {count} can be decoded: its end is missing or "
        "damaged; what is there has been predicted"
    )
    assert len(list((tmp_path / "out/labels").iterdir())) == count and (tmp_path / "out/run.json").is_file()


def test_scales_and_mirror_images_as_pseudo_labels_averages_them(
    predicted, weights, shapes_root, tmp_path, monkeypatch, forget_data_sets
):
    aug = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48, 80)", "TEST.AUG.MAX_SIZE", "200"]
    predicted("semantic", overrides=aug)
    images = shapes_root / "shapes/images/val"
    words = ["--config-file", CONFIGS["semantic"], "--images", images, "--output", tmp_path / "pseudo"]
    words += ["MODEL.WEIGHTS", weights("semantic"), *ALWAYS, *aug]
    monkeypatch.setattr(sys, "argv", ["pseudo_labels.py", *map(str, words)])
    load_tool("pseudo_labels").main()
    assert contents(tmp_path / "out/labels") == contents(tmp_path / "pseudo")


GEO = {
    33550: ("d", 3, (10.0, 10.0, 0.0)),
    33922: ("d", 6, (0.0, 0.0, 0.0, 5e5, 53e5, 0.0)),
    34735: ("H", 8, (1, 1, 0, 1, 3072, 0, 1, 32633)),
}


@pytest.mark.parametrize("kind", ["instance", "semantic", "panoptic"])
def test_16_bits_are_their_8_bit_twin_and_lie_where_they_did(predicted, shapes_root, tmp_path, kind):
    import tifffile

    plain, deep = tmp_path / "plain", tmp_path / "deep"
    plain.mkdir(), deep.mkdir()
    for n, file in enumerate(sorted((shapes_root / "shapes/images/val").iterdir())[:2]):
        shutil.copy(file, plain)
        rgb = np.asarray(Image.open(file).convert("RGB"))
        bands = np.concatenate([rgb[..., ::-1], rgb[..., :1] // 2], axis=2).astype(np.uint16) * 257
        tags = [(code, *tag, True) for code, tag in GEO.items()]
        layout = {"planarconfig": "separate"} if n else {"planarconfig": "contig", "tile": (32, 32)}
        values = bands.transpose(2, 0, 1) if n else bands
        tifffile.imwrite(deep / f"{file.stem}.tif", values, photometric="minisblack", extratags=tags, **layout)
    predicted(kind, images=plain, output=tmp_path / "of_plain")
    predicted(kind, "--bands", "3", "2", "1", images=deep, output=tmp_path / "of_deep")
    one, two = contents(tmp_path / "of_plain"), contents(tmp_path / "of_deep")
    tiffs = {name: two.pop(name) for name in list(two) if name.startswith("geotiff/")}
    for content in (one, two):
        content.pop("run.json")
        images = json.loads(content.pop("images.json"))["images"]
        assert [row["id"] for row in images] == [0, 1]
    for name in one.keys() & {"predictions.json"}:
        assert json.loads(one.pop(name))["annotations"] == json.loads(two.pop(name))["annotations"]
    assert one == two and len(tiffs) == 2
    for name in tiffs:
        with tifffile.TiffFile(tmp_path / "of_deep" / name) as file:
            tags, labels = {code: file.pages[0].tags[code].value for code in GEO}, file.asarray()
        assert tags == {code: tag[2] for code, tag in GEO.items()}
        stem = name.removeprefix("geotiff/").removesuffix(".tif")
        if kind == "semantic":
            np.testing.assert_array_equal(labels, read_label_png(tmp_path / f"of_deep/labels/{stem}.png"))
        if kind == "panoptic":
            np.testing.assert_array_equal(labels, read_panoptic_png(tmp_path / f"of_deep/panoptic/{stem}.png"))
    assert {"instance": labels.dtype == np.uint16, "semantic": labels.dtype == np.uint8}.get(
        kind, labels.dtype == np.uint32
    )


def test_one_image_and_a_list(predicted, shapes_root, tmp_path):
    files = sorted((shapes_root / "shapes/images/val").iterdir())
    predicted("instance", images=files[3])
    predicted("instance", output=tmp_path / "every")
    rows = read_json(tmp_path / "every/coco_instances_results.json")
    assert read_json(tmp_path / "out/coco_instances_results.json") == [row for row in rows if row["image_id"] == 3]
    listing = tmp_path / "some.txt"
    listing.write_text(f"\n{files[3]}\n{os.path.relpath(files[5], tmp_path)}\n", "utf-8")
    predicted("instance", images=listing, output=tmp_path / "listed")
    assert read_json(tmp_path / "listed/coco_instances_results.json") == [r for r in rows if r["image_id"] in (3, 5)]


def test_stretched(predicted, shapes_root, tmp_path):
    folder, dark = tmp_path / "bright", tmp_path / "dark"
    folder.mkdir(), dark.mkdir()
    from pnm.pictures.pictures import toned
    from pnm.pictures.samples import read_samples

    file = next((shapes_root / "shapes/images/val").iterdir())
    rgb = np.asarray(Image.open(file).convert("RGB")).astype(np.uint16) * 6 + 100  # 12 bits
    cv2.imwrite(str(dark / "7.png"), rgb[..., ::-1])
    Image.fromarray(toned(read_samples(dark / "7.png"), Toning(stretch=(1, 99)), "")).save(folder / "7.png")
    predicted("instance", "--stretch", "1", "99", images=dark, output=tmp_path / "of_dark")
    predicted("instance", images=folder, output=tmp_path / "of_bright")
    one, two = (tmp_path / name / "coco_instances_results.json" for name in ("of_dark", "of_bright"))
    assert one.read_bytes() == two.read_bytes()


def test_classes_of_data_that_are_not_there(predict, predicted, tmp_path, shapes_root):
    entry = {"name": "mine", "type": "semantic", "images": "nowhere", "labels": "nowhere"}
    names = [f"class {k}" for k in range(8)]
    data = ["DATASETS.REGISTER", [{**entry, "classes": names}], "DATASETS.TEST", ("mine",), "DATASETS.TRAIN", ()]
    predicted("semantic", overrides=data)
    assert (tmp_path / "out/names.txt").read_text("utf-8").splitlines() == names
    data[1] = [{"name": "mine", "type": "coco", "annotations": "nowhere.json", "images": "nowhere"}]
    status, output, errors = predict("instance", overrides=data, output=tmp_path / "numbered")
    assert status == 0, errors[-1:]
    assert [line for line in output if "aren't known" in line][0].startswith(
        "the classes of data set mine aren't known"
    )
    assert output.count("classes are called by their numbers, as no data set of the config names them") == 1
    categories = read_json(tmp_path / "numbered/images.json")["categories"]
    assert categories == [{"id": k, "name": str(k)} for k in range(4)]
    truth = shapes_root / "shapes/annotations/instances_val.json"
    data[1] = [{"name": "mine", "type": "coco", "annotations": str(truth), "images": "nowhere"}]
    predicted("instance", overrides=data, output=tmp_path / "named")
    predicted("instance", output=tmp_path / "builtin")
    assert contents(tmp_path / "named")["images.json"] == contents(tmp_path / "builtin")["images.json"]


def test_images_that_are_broken(predict, predicted, shapes_root, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(shapes_root / "shapes/images/val", images)
    (images / "000001.png").write_bytes(b"no image")
    status, _, errors = predict("instance", images=images)
    assert (status, errors[-1]) == (2, "error: 1 of 6 images can't be read, see above; mend or remove them")
    assert errors[-2].startswith(f"image {images / '000001.png'} cannot be read (")
    assert not list((tmp_path / "out").iterdir())
    whole = (shapes_root / "shapes/images/val/000001.png").read_bytes()
    (images / "000001.png").write_bytes(whole[: len(whole) // 2])
    status, output, errors = predict("instance", images=images)
    assert status == 2 and ": 5 images predicted, 0 kept; " in output[-1]
    assert errors[-1] == (
        f"error: 1 of 6 images of {images} could not be read, see above; the others are done. Mend or remove them and "
        "run the same command with --resume"
    )
    rows = read_json(tmp_path / "out/coco_instances_results.json")
    assert {row["image_id"] for row in rows} == {0, 2, 3, 4, 5}
    (images / "000001.png").write_bytes(whole)
    assert ": 1 images predicted, 5 kept; " in predicted("instance", "--resume", images=images)
    predicted("instance", output=tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.fixture
def refused(predict):
    """``refused(arguments...)``: the one line that a run ends with which is refused before a model is built."""

    def run(kind, *arguments, **paths):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pnm.projects.launcher.trained_models.build_model", pytest.fail)
            status, _, errors = predict(kind, *arguments, **paths)
        assert status == 2 and "error: " in errors[-1], errors
        return errors[-1].partition("error: ")[2]

    return run


def test_what_is_refused_before_the_long_work(refused, shapes_root, tmp_path):
    nowhere, images = tmp_path / "nowhere", shapes_root / "shapes/images/val"
    expected = "does not exist: expected a folder of images, an image or a video"
    assert refused("instance", images=nowhere) == f"--images {nowhere} {expected}"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused("instance", images=empty) == f"--images {empty} has no image in it: check the path"
    note = tmp_path / "note.md"
    note.write_text("", "utf-8")
    assert refused("instance", images=note).startswith(f"--images {note} is no image known here, expected .jpg, ")
    listing = tmp_path / "list.txt"
    listing.write_text("\n", "utf-8")
    assert refused("instance", images=listing) == f"--images {listing} lists no image: put the path of one in each line"
    listing.write_text("gone.png\n", "utf-8")
    told = f"{tmp_path / 'gone.png'}, which {listing} lists, does not exist: correct the line or remove it"
    assert refused("instance", images=listing) == told
    assert "lie one in the other, and predictions would be taken for images" in refused("instance", output=images / "o")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"no video")
    assert refused("instance", images=clip) == f"--images {clip} is no video that can be decoded: restore or convert it"
    assert refused("instance", "--format", "labelmee").startswith(
        "there is no format 'labelmee'; did you mean labelme?"
    )
    assert refused("instance", "--stretch", "98", "2").startswith("--stretch is 98 2, expected two percentiles")
    assert refused("instance", "--every", "0") == "--every is 0, expected 1 or more"
    assert refused("instance", "--min-score", "2") == "--min-score is 2, expected 0 to 1"
    needed = "predictions are made by a trained model; add: MODEL.WEIGHTS path/to/model_final.pth"
    assert refused("instance", overrides=["MODEL.WEIGHTS", ""]) == needed
    gone = f"MODEL.WEIGHTS {nowhere} does not exist; check the path"
    assert refused("instance", overrides=["MODEL.WEIGHTS", nowhere]) == gone
    told = refused("bpr")
    assert told.startswith(
        "MODEL.META_ARCHITECTURE BoundaryPatchRefiner is a refiner, which needs predictions to refine"
    )
    assert "SemanticSegmentor refines nothing" in refused("instance", then=["semantic"])
    assert "one is of task instance, another of task semantic" in refused("instance", then=["bpr", "bpr_semantic"])


def test_a_refiner_of_another_task(predict, tmp_path):
    told = "gives instance predictions, but the refiner is of task semantic: give a refiner of that task, or a model of"
    status, _, errors = predict("instance", then=["bpr_semantic"])
    assert status == 2 and f"GeneralizedRCNN {told} the refiner's" in errors[-1]
    status, _, errors = predict("semantic", "--task", "instance")
    assert status == 2
    assert errors[-1] == "error: SemanticSegmentor gives semantic predictions, expected instance"
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_file()]


def test_the_command():
    from pnm.programs import program
    from pnm.tools.commands import PROGRAMS

    assert PROGRAMS["predict"][0] == "predict" and program("predict") == ["python", "tools/predict.py"]
