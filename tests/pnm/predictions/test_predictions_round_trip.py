"""What is read and written back as it was is as it was; what is refined has the same ids, scores and order."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pnm.formats.coco_panoptic import write_predictions
from pnm.masks.crops import paste
from pnm.predictions import Objects, Partition, open_predictions
from pnm.scoring.panoptic_files import score_panoptic_files

TASKS = {"coco": "instance", "cityscapes": "instance", "labels": "semantic", "sem_seg": "semantic"}
SIZE = (37, 53)


def same(coarse):
    return coarse.masks if isinstance(coarse, Objects) else coarse.labels


def refined_by(predictions, output, refine, **options):
    with predictions.writer(output, "test", **options) as writer:
        for key in predictions.keys:
            writer.write(key, refine(predictions.read(key)))
        assert writer.done == set(predictions.keys)
        assert writer.finish() == output
    assert [path.name for path in output.parent.iterdir() if "partial" in path.name] == []
    return output


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image), image.mode, image.getpalette()


def test_nothing_changed(kind, make, output_name, content_of, tmp_path):
    path, options = make(kind)
    predictions = open_predictions(path, **options)
    assert predictions.task == TASKS.get(kind, kind) and len(predictions) == len(predictions.keys)
    output = refined_by(predictions, tmp_path / "out" / output_name, same)
    if path.is_dir():
        assert content_of(output) == {f"refined/{k}": v for k, v in as_below(path, content_of(path)).items()}
        return
    before, after = json.loads(path.read_text()), json.loads(output.read_text())
    if kind == "panoptic":
        pngs = as_below(path.with_name("panoptic"), content_of(path.with_name("panoptic")))
        assert as_below(output.with_suffix(""), content_of(output.with_suffix(""))) == pngs
        assert [without(s) for a in after["annotations"] for s in a["segments_info"]] == [
            without(s) for a in before["annotations"] for s in a["segments_info"]
        ]
        assert {**after, "annotations": 0} == {**before, "annotations": 0}
    else:
        assert [without(e) for e in after] == [without(e) for e in before]
        assert [list(e) for e in after] == [list(e) for e in before]


def as_below(folder, content):
    return {name.removeprefix(f"{folder.name}/"): data for name, data in content.items()}


def without(entry):
    """An entry less what follows from its mask."""
    return {key: value for key, value in entry.items() if key not in ("bbox", "area")}


def test_readings_of_coco(make):
    path, options = make("coco")
    predictions = open_predictions(path, **options)
    entries = json.loads(path.read_text())
    assert predictions.keys == (7, 3, 12) and 3 in predictions and 4 not in predictions
    for key in predictions.keys:
        mine, objects = [entry for entry in entries if entry["image_id"] == key], predictions.read(key)
        assert objects.scores == tuple(entry["score"] for entry in mine)
        assert objects.categories == tuple(entry["category_id"] for entry in mine)
        for entry, mask in zip(mine, objects.masks):
            whole = entry["segmentation"]
            if isinstance(whole, list) or isinstance(whole["counts"], list):
                whole = coco_mask.frPyObjects(whole, *SIZE)
            whole = coco_mask.merge(whole) if isinstance(whole, list) else whole
            np.testing.assert_array_equal(paste(mask, *SIZE), coco_mask.decode(whole))


def test_refined_coco(make, moved, tmp_path):
    path, options = make("coco")
    predictions = open_predictions(path, **options)
    before = json.loads(path.read_text())
    after = json.loads(refined_by(predictions, tmp_path / "refined.json", moved).read_text())
    assert [list(entry) for entry in after] == [list(entry) for entry in before]
    for old, new, place in zip(before, after, (0, 0, 1, 0, 1, 2)):
        mask = paste(predictions.read(old["image_id"]).masks[place], *SIZE)
        rolled = np.asfortranarray(np.roll(mask, 1, axis=1))
        np.testing.assert_array_equal(coco_mask.decode(new["segmentation"]), rolled)
        assert {**new, "segmentation": 0, "bbox": 0, "area": 0} == {"bbox": 0, "area": 0} | old | {
            "segmentation": 0, "bbox": 0, "area": 0
        }  # fmt: skip
        if "bbox" in old:
            encoded = coco_mask.encode(rolled)
            assert new["bbox"] == coco_mask.toBbox(encoded).tolist() and new["area"] == coco_mask.area(encoded)
    assert after[2]["bbox"] == [0, 0, 0, 0] and after[2]["segmentation"] == before[2]["segmentation"]


def test_masks_as_rles_and_one_changed(make, tmp_path):
    path, options = make("coco")
    predictions = open_predictions(path, **options)
    full = {"size": list(SIZE), "counts": [0, SIZE[0] * SIZE[1]]}
    output = refined_by(predictions, tmp_path / "refined.json", lambda coarse: [full, *coarse.masks[1:]])
    before, after = json.loads(path.read_text()), json.loads(output.read_text())
    changed = [n for n in range(6) if after[n]["segmentation"] != before[n]["segmentation"]]
    assert changed == [0, 1, 3] and after[0]["bbox"] == [0, 0, 53, 37] and after[0]["area"] == 37 * 53


def test_refined_panoptic(make, moved, tmp_path):
    path, _ = make("panoptic")
    predictions = open_predictions(path)
    output = refined_by(predictions, tmp_path / "refined.json", moved)
    refined = open_predictions(output)
    assert refined.keys == predictions.keys == (5, "b", 2)
    entries = json.loads(output.read_text())["annotations"]
    for key, entry in zip(predictions.keys, entries):
        coarse, partition = predictions.read(key), refined.read(key)
        np.testing.assert_array_equal(partition.labels, moved(coarse))
        kept = [segment for segment in coarse.segments if segment in partition.labels]
        assert list(partition.segments) == kept and entry["more"] == 1
        segment = next(s for s in entry["segments_info"] if "area" in s)
        rows, columns = np.nonzero(partition.labels == segment["id"])
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert segment["area"] == len(rows) and segment["bbox"] == box and segment["note"] == "x"


def test_vanished_segments_are_left_out(make, tmp_path, caplog):
    path, _ = make("panoptic")
    predictions = open_predictions(path)

    def absorb(coarse):
        return np.where(coarse.labels == 300, 1, coarse.labels)

    output = refined_by(predictions, tmp_path / "refined.json", absorb)
    assert "3 segments are gone" in caplog.text
    for key in predictions.keys:
        assert open_predictions(output).read(key).segments == (2**24 - 1, 70000, 1)


def test_refined_labels(make, moved, tmp_path):
    path, _ = make("labels")
    predictions = open_predictions(path)
    assert predictions.keys[:2] == ("b/c/palette2.png", "b/c/palette4.png")
    assert predictions.read("grey8.png").segments == predictions.read("grey8.png").categories == (0, 3)
    output = refined_by(predictions, tmp_path / "refined", moved)
    assert open_predictions(output).keys == predictions.keys
    for key in predictions.keys:
        before, after = pixels(path / key), pixels(output / key)
        np.testing.assert_array_equal(after[0], moved(predictions.read(key)))
        assert (after[0] != before[0]).any() and after[1:] == before[1:] and after[0].dtype == before[0].dtype
        old, new = (path / key).read_bytes(), (output / key).read_bytes()
        assert new[24:26] == old[24:26] and (b"tRNS" in new) == (b"tRNS" in old)


def test_ignored_labels(make):
    path, _ = make("labels")
    assert open_predictions(path, ignore_labels=(0, 40000)).read("grey8.png").segments == (3, 255)
    assert open_predictions(path, ignore_labels=(0, 40000)).read("b/grey16.png").segments == (3,)


def test_refined_sem_seg(make, tmp_path):
    path, _ = make("sem_seg")
    predictions = open_predictions(path)
    assert predictions.keys == ("val/x.jpg", "val/a.jpg")
    coarse = predictions.read("val/x.jpg")
    assert coarse.segments == (1, 2, 3, 4) and coarse.categories == (9, 0, 4, 77) and 0 in coarse.labels
    output = refined_by(predictions, tmp_path / "r.json", lambda c: np.where(c.labels == 3, 2, c.labels))
    before, after = json.loads(path.read_text()), json.loads(output.read_text())
    assert [{**entry, "segmentation": 0} for entry in after] == [{**entry, "segmentation": 0} for entry in before]
    masks = [[coco_mask.decode(entry["segmentation"]) for entry in entries] for entries in (before, after)]
    for n in range(7):
        wanted = {1: masks[0][1] + masks[0][2], 4: masks[0][4] + masks[0][5], 2: 0 * masks[0][2], 5: 0 * masks[0][5]}
        np.testing.assert_array_equal(masks[1][n], wanted.get(n, masks[0][n]))
    assert after[2]["segmentation"]["counts"] == coco_mask.encode(np.zeros(SIZE, np.uint8, "F"))["counts"].decode()


def test_refined_cityscapes(make, moved, tmp_path):
    path, _ = make("cityscapes")
    predictions = open_predictions(path)
    names = ("aachen_000001_000019", "bonn_000000_000003", "ulm_000000_000002")
    assert predictions.keys == tuple(f"{name}_leftImg8bit_pred.txt" for name in names)
    objects = predictions.read(predictions.keys[0])
    assert objects.categories == (24, 25, 26) and objects.scores == (0.5, 0.6429, 0.7857)
    assert len(predictions.read(predictions.keys[2])) == 0
    output = refined_by(predictions, tmp_path / "refined", moved)
    for key in predictions.keys:
        assert (output / key).read_bytes() == (path / key).read_bytes()
    for mask in path.rglob("*.png"):
        before, after = pixels(mask)[0], pixels(output / mask.relative_to(path))[0]
        np.testing.assert_array_equal(after, np.roll(before, 1, axis=1))


def test_images_left_as_they_were(kind, make, moved, output_name, tmp_path):
    path, options = make(kind)
    predictions = open_predictions(path, **options)
    with predictions.writer(tmp_path / output_name, "f") as writer:
        writer.write(predictions.keys[0], moved(predictions.read(predictions.keys[0])))
        with pytest.raises(ValueError, match=rf"{len(predictions) - 1} of {len(predictions)} images have not been ref"):
            writer.finish()
        output = writer.finish(keep_missing=True)
    refined = open_predictions(output)
    for key in predictions.keys[1:]:
        assert read_equal(refined, predictions, key)
    assert not read_equal(refined, predictions, predictions.keys[0])


def read_equal(one, other, key):
    coarse, refined = other.read(key), one.read(key)
    if isinstance(coarse, Partition):
        return np.array_equal(coarse.labels, refined.labels) and coarse.categories == refined.categories
    same = coarse.scores == refined.scores and coarse.categories == refined.categories and coarse.size == refined.size
    return same and all(np.array_equal(paste(a, *SIZE), paste(b, *SIZE)) for a, b in zip(coarse.masks, refined.masks))


@pytest.mark.parametrize("name", ["results.json", "sem_seg_predictions.json"])
def test_empty_list(name, tmp_path):
    (tmp_path / name).write_text("[]")
    predictions = open_predictions(tmp_path / name, "semantic" if name[0] == "s" else None)
    assert predictions.keys == () and predictions.task == ("semantic" if name[0] == "s" else "instance")
    assert refined_by(predictions, tmp_path / "out.json", same).read_text() == "[]"


def test_no_panoptic_images(tmp_path):
    (tmp_path / "p.json").write_text('{"images": [], "annotations": [], "categories": []}')
    output = refined_by(open_predictions(tmp_path / "p.json"), tmp_path / "out.json", same)
    assert json.loads(output.read_text()) == {"images": [], "annotations": [], "categories": []}


def test_images_of_one_pixel(tmp_path):
    Image.new("L", (1, 1), 5).save(tmp_path / "one.png")
    (tmp_path / "masks").mkdir()
    shutil.move(tmp_path / "one.png", tmp_path / "masks/one.png")
    predictions = open_predictions(tmp_path / "masks")
    assert pixels(refined_by(predictions, tmp_path / "out", same) / "one.png")[0].tolist() == [[5]]
    entries = [{"image_id": 1, "category_id": 1, "score": 1.0, "segmentation": {"size": [1, 1], "counts": [0, 1]}}]
    (tmp_path / "one.json").write_text(json.dumps(entries))
    predictions = open_predictions(tmp_path / "one.json")
    output = refined_by(predictions, tmp_path / "out.json", lambda coarse: np.zeros((1, 1, 1), bool))
    assert json.loads(output.read_text())[0]["segmentation"] == {"size": [1, 1], "counts": "1"}


def test_real_coco_results(real_data, tmp_path):
    path = real_data / "predictions/coco_val2014_100/instances_val2014_fakesegm100_results.json"
    predictions = open_predictions(path)

    def arrays(coarse):
        return np.stack([paste(mask, *coarse.size) for mask in coarse.masks])

    output = refined_by(predictions, tmp_path / "out.json", arrays)
    assert json.loads(output.read_text()) == json.loads(path.read_text())


def test_real_panoptic(real_data, tmp_path):
    path = real_data / "coco/annotations/panoptic_val2017.json"
    folder = real_data / "coco/panoptic_val2017"
    predictions = open_predictions(path, png_folder=folder)
    output = refined_by(predictions, tmp_path / "out.json", same)
    assert json.loads(output.read_text()) == json.loads(path.read_text())
    copied = as_refined(predictions, tmp_path / "again.json")
    assert json.loads(copied.read_text()) == json.loads(path.read_text())
    for png in folder.glob("*.png"):
        np.testing.assert_array_equal(pixels(tmp_path / "again" / png.name)[0], pixels(png)[0])
    scores = score_panoptic_files(path, folder, copied, tmp_path / "again").quality.by_split()
    assert scores["All"]["pq"] == 1


def test_panoptic_files_of_the_launcher(real_data, tmp_path, moved):
    path, folder = real_data / "coco/annotations/panoptic_val2017.json", real_data / "coco/panoptic_val2017"
    records = [
        {
            "image_id": annotation["image_id"],
            "file_name": annotation["file_name"],
            "segments_info": [{"id": s["id"], "category_id": s["category_id"]} for s in annotation["segments_info"]],
            "png": (folder / annotation["file_name"]).read_bytes(),
        }
        for annotation in json.loads(path.read_text())["annotations"]
    ]
    predictions = open_predictions(write_predictions(tmp_path / "coarse", records, path))
    output = refined_by(predictions, tmp_path / "refined.json", moved)
    for annotation in json.loads(output.read_text())["annotations"]:
        assert {tuple(segment) for segment in annotation["segments_info"]} == {("id", "category_id")}
    quality = score_panoptic_files(path, folder, output, tmp_path / "refined").quality.by_split()["All"]
    assert 0.9 < quality["sq"] < 1


def as_refined(predictions, output):
    """Written by way of a first version in which the last pixel of each image is another segment's."""

    def other(coarse):
        labels = coarse.labels.copy()
        labels[-1, -1] = next(s for s in coarse.segments if s != labels[-1, -1])
        return labels

    between = open_predictions(refined_by(predictions, output.with_name("between.json"), other))
    with between.writer(output, "f") as writer:
        for key in predictions.keys:
            writer.write(key, predictions.read(key).labels, between.read(key))
        return writer.finish()


@pytest.mark.parametrize("name", ["labelIds", "instanceIds"])
def test_real_cityscapes(name, real_data, tmp_path, moved):
    for png in (real_data / "cityscapes/gtFine/val").rglob(f"*{name}.png"):
        target = tmp_path / "coarse" / png.relative_to(real_data / "cityscapes/gtFine/val")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(png, target)
    predictions = open_predictions(tmp_path / "coarse", ignore_labels=(0,))
    output = refined_by(predictions, tmp_path / "refined", moved)
    for key in predictions.keys:
        after = pixels(output / key)[0]
        assert (after != pixels(tmp_path / "coarse" / key)[0]).any()
        np.testing.assert_array_equal(after, moved(predictions.read(key)))
    again = open_predictions(output, ignore_labels=(0,))
    back = tmp_path / "back"
    with again.writer(back, "f") as writer:
        for key in again.keys:
            writer.write(key, np.where(again.read(key).labels > 0, again.read(key).labels, 0))
        writer.finish()
    for key in predictions.keys:
        assert (back / key).read_bytes() == (output / key).read_bytes()


def test_real_cityscapes_instances(real_data, tmp_path, moved, content_of):
    truth = next((real_data / "cityscapes/gtFine/val").rglob("*_gtFine_instanceIds.png"))
    ids = pixels(truth)[0]
    objects = [i for i in np.unique(ids).tolist() if i >= 24000][:6]
    stem, coarse = truth.name.replace("gtFine_instanceIds.png", "leftImg8bit"), tmp_path / "coarse"
    (coarse / "val").mkdir(parents=True)
    for i in objects:
        Image.fromarray(((ids == i) * 255).astype(np.uint8)).save(coarse / "val" / f"{stem}_{i}.png")
    lines = [f"{stem}_{i}.png {i // 1000} 0.{i}0\n" for i in objects]
    (coarse / "val" / f"{stem}_pred.txt").write_text("".join(lines))
    predictions = open_predictions(coarse)
    assert predictions.read(f"val/{stem}_pred.txt").categories == tuple(i // 1000 for i in objects)
    unchanged = refined_by(predictions, tmp_path / "same", same)
    assert as_below(unchanged, content_of(unchanged)) == as_below(coarse, content_of(coarse))
    output = refined_by(predictions, tmp_path / "refined", moved)
    assert (output / "val" / f"{stem}_pred.txt").read_text() == "".join(lines)
    for i in objects:
        refined = pixels(output / "val" / f"{stem}_{i}.png")[0]
        np.testing.assert_array_equal(refined, np.roll((ids == i) * 255, 1, axis=1))


def test_real_voc_palette(real_data, tmp_path, moved):
    (tmp_path / "coarse").mkdir()
    for png in (real_data / "predictions/voc_deeplabv3plus").glob("*_pred.png"):
        colours = np.asarray(Image.open(png).convert("RGB"))
        palette, labels = np.unique(colours.reshape(-1, 3), axis=0, return_inverse=True)
        image = Image.fromarray(labels.reshape(colours.shape[:2]).astype(np.uint8))
        image.putpalette(palette.tobytes())
        image.save(tmp_path / "coarse" / png.name)
    predictions = open_predictions(tmp_path / "coarse")
    output = refined_by(predictions, tmp_path / "refined", moved)
    assert len(predictions) == 3
    for key in predictions.keys:
        before, after = Image.open(tmp_path / "coarse" / key), Image.open(output / key)
        assert after.getpalette() == before.getpalette() and after.mode == "P"
        np.testing.assert_array_equal(np.asarray(after), moved(predictions.read(key)))
