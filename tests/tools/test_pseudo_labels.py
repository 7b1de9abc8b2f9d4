"""The command that labels images: labels as the model predicts them, data sets made of them, and what it refuses."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from PIL import Image, ImageOps
from torch import nn

from pnm.formats.label_png import png_size_of, read_label_png
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.mappers import build_mapper
from pnm.projects.launcher.data.user_data import register_user_data

from .conftest import ROOT, load_tool

CONFIG = "configs/quickstart/semantic_fpn_R_18.yaml"
SHORT = 64  # px that the shortest edge of an image has for the model
CPU = ["MODEL.DEVICE", "cpu"]
NO_DATA = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
SIZES = {"a.jpg": (61, 83), "town/b.png": (97, 45), "town/deep/b.PNG": (64, 64), "town/c.d.jpeg": (40, 130)}
LABELS = ["a.png", "town/b.png", "town/c.d.png", "town/deep/b.png"]


def many_classes(count):
    return [*NO_DATA, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", str(count)]


def trained(path, *overrides):
    """A model whose random predictions differ from pixel to pixel, and its weights in a file."""
    torch.manual_seed(0)
    model = build_model(load_config(CONFIG, [*CPU, *overrides])).eval()
    nn.init.normal_(model.sem_seg_head.predictor.weight, std=1.0)
    torch.save({"model": model.state_dict()}, path)
    return model


def write_images(folder, sizes=SIZES):
    rng = np.random.default_rng(0)
    for name, (rows, columns) in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        blocks = rng.integers(0, 256, (-(-rows // 8), -(-columns // 8), 3)).astype(np.uint8)
        Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)[:rows, :columns]).save(folder / name)


def as_predictor(image_file):
    """What Detectron2's DefaultPredictor gives to a model: BGR, the shortest edge resized; height and width."""
    with Image.open(image_file) as image:
        upright = ImageOps.exif_transpose(image.convert("RGB"))
    width, height = upright.size
    scale = SHORT / min(height, width)
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    pixels = np.asarray(upright)[:, :, ::-1]
    resized = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.BILINEAR))
    return {"image": torch.from_numpy(resized.transpose(2, 0, 1).copy()), "height": height, "width": width}


def predicted(model, inputs):
    """(K, H, W) logits."""
    with torch.no_grad():
        return model([inputs])[0]["sem_seg"].numpy()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return tmp_path_factory.mktemp("weights") / "model.pth"


@pytest.fixture(scope="module")
def model(model_file):
    return trained(model_file)


@pytest.fixture
def label(model, model_file, tmp_path, run_main):
    """``label(arguments...)`` runs the tool on ``images`` and gives its exit status, output and lines of errors."""
    tool = load_tool("pseudo_labels")

    def run(*arguments, images=tmp_path / "images", output=tmp_path / "labels", config=CONFIG, weights=model_file):
        words = ["--config-file", config, "--images", images, "--output", output]
        flags = [word for word in arguments if word == "--resume"]
        overrides = [word for word in arguments if word != "--resume"]
        overrides += ["INPUT.MIN_SIZE_TEST", SHORT, *CPU, *(["MODEL.WEIGHTS", weights] if weights else [])]
        return run_main(tool, [*words, *flags, *overrides])

    return run


@pytest.fixture
def refused(label):
    """``refused(arguments...)``: the one line that a run ends with which is refused before the model is built."""

    def run(*arguments, **paths):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pnm.projects.launcher.trained_models.build_model", pytest.fail)
            status, _, errors = label(*arguments, **paths)
        assert status == 2 and errors[-1].startswith("error: "), errors
        return errors[-1].removeprefix("error: ")

    return run


def test_labels_are_the_models_predictions(label, model, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    write_images(images)
    (images / "notes.txt").write_text("no image")
    status, output, errors = label()
    assert status == 0, errors
    assert output[-1].startswith(f"{labels}: 4 label PNGs written, 0 kept; ") and output[-1].endswith(" images/s")
    assert sorted(path.relative_to(labels).as_posix() for path in labels.rglob("*") if path.is_file()) == LABELS
    for name, label_name in zip(sorted(SIZES), LABELS, strict=True):
        written = read_label_png(labels / label_name)
        assert written.dtype == np.uint8 and written.shape == SIZES[name]
        np.testing.assert_array_equal(written, predicted(model, as_predictor(images / name)).argmax(0))
        assert len(np.unique(written)) > 2


def test_an_image_on_its_side_is_labelled_upright(label, model, tmp_path):
    write_images(tmp_path / "images", {"a.jpg": (50, 90)})
    path, exif = tmp_path / "images/a.jpg", Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=exif, quality=95)
    assert label()[0] == 0
    written = read_label_png(tmp_path / "labels/a.png")
    assert written.shape == (90, 50)
    np.testing.assert_array_equal(written, predicted(model, as_predictor(path)).argmax(0))


def test_more_than_255_classes_take_16_bits(label, tmp_path):
    write_images(tmp_path / "images", {"a.png": (40, 60)})
    for count, dtype in ((255, np.uint8), (256, np.uint16), (700, np.uint16)):
        weights, folder = tmp_path / f"{count}.pth", tmp_path / f"labels_{count}"
        model = trained(weights, *many_classes(count))
        status, _, errors = label(*many_classes(count), weights=weights, output=folder)
        assert status == 0, errors
        written = read_label_png(folder / "a.png")
        assert written.dtype == dtype
        np.testing.assert_array_equal(written, predicted(model, as_predictor(tmp_path / "images/a.png")).argmax(0))
    assert written.max() > 255


def test_scales_and_mirror_images_are_averaged(label, model, tmp_path):
    write_images(tmp_path / "images", {"a.png": (96, 96)})  # which is resized once, from the size that it is stored in
    aug = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(32, 80)", "TEST.AUG.MAX_SIZE", "200"]
    assert label(*aug)[0] == 0
    inputs, total = as_predictor(tmp_path / "images/a.png"), 0
    pixels = Image.fromarray(np.asarray(Image.open(tmp_path / "images/a.png"))[:, :, ::-1].copy())
    for side in (32, 80):
        for step in (1, -1):
            view = np.asarray(pixels.resize((side, side), Image.BILINEAR))[:, ::step].transpose(2, 0, 1).copy()
            logits = torch.from_numpy(predicted(model, inputs | {"image": torch.from_numpy(view)})[:, :, ::step].copy())
            total = total + logits.double().softmax(0)
    written = read_label_png(tmp_path / "labels/a.png")
    assert np.mean(written == total.argmax(0).numpy()) > 0.999  # but for ties
    assert np.mean(written != predicted(model, inputs).argmax(0)) > 0.01


def test_resuming_keeps_what_is_there(label, model, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    write_images(images)
    (labels / "town").mkdir(parents=True)
    (labels / "town/b.png").write_bytes(b"as it was")
    status, output, errors = label("--resume")
    assert status == 0, errors
    assert output[-1].startswith(f"{labels}: 3 label PNGs written, 1 kept; ")
    assert (labels / "town/b.png").read_bytes() == b"as it was"
    np.testing.assert_array_equal(
        read_label_png(labels / "a.png"), predicted(model, as_predictor(images / "a.jpg")).argmax(0)
    )
    assert label("--resume")[:2] == (0, [f"{labels}: 0 label PNGs written, 4 kept"])


def test_broken_images_are_told_and_the_others_done(label, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    write_images(images)
    whole = (images / "town/b.png").read_bytes()
    (images / "town/b.png").write_bytes(whole[: len(whole) // 2])
    (images / "no.jpg").write_text("no image")
    status, output, errors = label()
    assert status == 2 and output[-1].startswith(f"{labels}: 3 label PNGs written, 0 kept; ")
    *told, last = [line for line in errors if str(images) in line]
    assert len(told) == 2 and str(images / "no.jpg") in told[0] and str(images / "town/b.png") in told[1]
    assert last == (
        f"error: 2 of 5 images of {images} could not be read, see above; mend or remove them and run the same command "
        "with --resume"
    )
    (images / "town/b.png").write_bytes(whole)
    (images / "no.jpg").unlink()
    assert label("--resume")[0] == 0
    assert sorted(path.relative_to(labels).as_posix() for path in labels.rglob("*.png")) == LABELS


@pytest.mark.parametrize(("classes", "ignore_label"), [(8, 255), (700, 1000)])
def test_labels_are_a_data_set_to_train_on(label, model_file, forget_data_sets, tmp_path, classes, ignore_label):
    write_images(tmp_path / "images")
    count = many_classes(classes)
    weights = model_file if classes == 8 else tmp_path / "model.pth"
    if classes != 8:
        trained(weights, *count)
    assert label(*count, weights=weights)[0] == 0
    entry = {"name": "mine", "type": "semantic", "images": str(tmp_path / "images"), "labels": str(tmp_path / "labels")}
    cfg = load_config(CONFIG, [*CPU, *count, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", str(ignore_label)])
    cfg.DATASETS.REGISTER = [entry | {"classes": [f"c{k}" for k in range(classes)], "ignore_label": ignore_label}]
    cfg.DATASETS.TRAIN, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = ("mine",), (45,), "none"
    register_user_data(cfg)
    records, mapper = DatasetCatalog.get("mine"), build_mapper(cfg, is_train=True)
    assert [Path(record["file_name"]).relative_to(tmp_path / "images").as_posix() for record in records] == sorted(
        SIZES
    )
    for record in records:
        sample = mapper(record)
        assert sample["sem_seg"].shape == sample["image"].shape[1:]
    # Of the narrow one nothing is resized: the sample has the labels of the file.
    narrow = mapper(next(record for record in records if record["file_name"].endswith("town/b.png")))
    np.testing.assert_array_equal(narrow["sem_seg"].numpy(), read_label_png(tmp_path / "labels/town/b.png"))


def test_folders_that_cannot_be(refused, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    assert refused() == f"{images} is not a folder: expected one with images"
    images.mkdir()
    assert refused() == f"{images} has no image in it: check the path"
    write_images(images, {"a.png": (8, 8), "more/b.png": (8, 8)})
    apart = "lie one in the other, and labels would be taken for images: choose an output folder beside the images'"
    for one, other in ((images, images), (images, images / "more/labels"), (images / "more", images)):
        assert refused("--resume", images=one, output=other) == f"--output {other} and --images {one} {apart}"
    labels.mkdir()
    (labels / "left.txt").write_text("")
    assert refused() == (
        f"--output {labels} is not empty (left.txt): choose another folder, or add --resume to keep the label PNGs in "
        "it and make the others"
    )
    assert refused(output=labels / "left.txt").startswith(f"--output {labels / 'left.txt'} is not writable (")
    write_images(images, {"more/b.jpg": (8, 8)})
    both = f"{images}/more/b.jpg and {images}/more/b.png are both of image more/b"
    assert refused("--resume") == f"{both}: keep one of them in {images}"


def test_models_that_cannot_be(refused, tmp_path):
    write_images(tmp_path / "images", {"a.png": (8, 8)})
    assert refused(config="none.yaml").startswith("config file none.yaml does not exist")
    needed = "labels are made by a trained model; add: MODEL.WEIGHTS path/to/model_final.pth"
    assert refused(weights=None) == needed
    nowhere = tmp_path / "none.pth"
    assert refused(weights=nowhere) == f"MODEL.WEIGHTS {nowhere} does not exist; check the path"
    others = "is no semantic segmentor: give the config of a semantic model, such as SemanticSegmentor or"
    told = refused(config="configs/quickstart/mask_rcnn_R_18_FPN.yaml")
    assert told == f"MODEL.META_ARCHITECTURE GeneralizedRCNN {others} SemanticNetwork"
    assert refused("MODEL.META_ARCHITECTURE", "Nothing").startswith(f"MODEL.META_ARCHITECTURE Nothing {others}")
    told = refused(config="configs/quickstart/bpr_instance.yaml")
    assert "is a refiner, which needs predictions to refine" in told and "python tools/refine.py" in told
    assert refused(*many_classes(65537)) == (
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES is 65537, expected at most 65536: a label PNG can't tell more apart"
    )
    assert not list((tmp_path / "labels").iterdir())


def test_the_data_that_a_model_learned_from_need_not_be_there(label, tmp_path):
    write_images(tmp_path / "images", {"a.png": (8, 8)})
    folders = {"images": str(tmp_path / "nowhere"), "labels": str(tmp_path / "nowhere")}
    entry = {"name": "mine", "type": "semantic", **folders, "classes": [str(k) for k in range(8)]}
    data = ("DATASETS.REGISTER", [entry], "DATASETS.TRAIN", ("mine",), "DATASETS.TEST", ())
    assert label(*data)[0] == 0 and (tmp_path / "labels/a.png").is_file()
    status, _, errors = label(
        *data, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 54, "--resume"
    )  # as Detectron2 has it: left open
    assert status == 2 and "data set mine: image folder" in errors[-1]


def test_weights_of_another_model(label, tmp_path):
    write_images(tmp_path / "images", {"a.png": (8, 8)})
    status, _, errors = label(*many_classes(9))
    assert status == 2 and "does not fit the model" in errors[-1]


def test_interrupted(model, model_file, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    write_images(images, {f"{k:04d}.png": (SHORT, 2 * SHORT) for k in range(600)})
    command = [sys.executable, "tools/pseudo_labels.py", "--config-file", CONFIG, "--images", images]
    command += ["--output", labels, "MODEL.WEIGHTS", model_file, "INPUT.MIN_SIZE_TEST", SHORT, *CPU]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(labels.glob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    told = "interrupted: labels made so far are kept; run the same command with --resume to go on"
    assert errors.rstrip().endswith(told)
    written = list(labels.iterdir())
    assert 0 < len(written) < 600 and {path.suffix for path in written} == {".png"}
    assert {png_size_of(path) for path in written} == {(SHORT, 2 * SHORT)}


def test_the_command():
    from pnm.programs import program
    from pnm.tools.commands import PROGRAMS

    assert PROGRAMS["pseudo-labels"][0] == "pseudo_labels"
    assert program("pseudo_labels") == ["python", "tools/pseudo_labels.py"]
