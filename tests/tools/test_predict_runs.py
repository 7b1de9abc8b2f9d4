"""Runs of the command that predicts pictures: resumed, without their data, and what is refused."""

import pytest

from pnm.predictions.result_folder import ResultFolder

from .predict_runs import contents, read_json


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
