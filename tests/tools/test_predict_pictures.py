"""The command that predicts pictures, of every kind: videos, 16 bits, lists, broken files."""

import json
import os
import shutil
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.pictures.pictures import Toning
from pnm.pictures.video import Video

from .conftest import load_tool
from .predict_runs import ALWAYS, CONFIGS, contents, read_json


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
