"""tools/refine.py --shard and --merge: eight shards make what one run makes, and what is asked wrongly is told."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

ROOT = Path(__file__).resolve().parents[2]
SIZE, IMAGES, OF = (40, 52), 11, 8


def _module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


networks = _module("universal_networks", ROOT / "tests/pnm/object_refinement/conftest.py")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    networks.save_random_network(path)
    return path


def labels_of(n):
    """(H, W) of 1 and 2, a disc that moves."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.where((rows - 20) ** 2 + (columns - 10 - 3 * n) ** 2 < 80, 2, 1).astype(np.uint8)


def write_instances(folder):
    entries = []
    for n in [*range(IMAGES), 3, 0]:  # entries of an image needn't stand together
        mask = coco_mask.encode(np.asfortranarray((labels_of(n) == 2).astype(np.uint8)))
        segmentation = {"size": mask["size"], "counts": mask["counts"].decode()}
        entries.append({"image_id": n, "category_id": 1, "score": 0.5 + n / 99, "segmentation": segmentation})
    (folder / "results.json").write_text(json.dumps(entries), "utf-8")
    return folder / "results.json"


def write_panoptic(folder):
    (folder / "panoptic").mkdir()
    annotations = []
    for n in range(IMAGES):
        ids = labels_of(n)
        Image.fromarray(np.stack([ids, ids * 0, ids * 0], -1)).save(folder / f"panoptic/{n:03}.png")
        segments = [{"id": k, "category_id": k, "area": int((ids == k).sum())} for k in (2, 1)]
        annotations.append({"image_id": n, "file_name": f"{n:03}.png", "segments_info": segments})
    (folder / "predictions.json").write_text(json.dumps({"annotations": annotations}), "utf-8")
    return folder / "predictions.json"


def write_labels(folder):
    (folder / "labels").mkdir()
    for n in range(IMAGES):
        Image.fromarray(labels_of(n)).save(folder / f"labels/{n:03}.png")
    return folder / "labels"


WRITERS = {"instance": write_instances, "panoptic": write_panoptic, "semantic": write_labels}


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for n in range(IMAGES):
        image = np.random.default_rng(n).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"photos/{n:03}.png")
    return tmp_path / "photos"


@pytest.fixture
def refine(run_refine, weights):
    def run(*words, **options):
        return run_refine(*words, "--weights", weights, "--strength", 1, **options)

    return run


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("task", WRITERS)
def test_shards_of_result_files(task, photos, refine, tmp_path):
    predictions = WRITERS[task](tmp_path)
    words = ("--images", photos, "--predictions", predictions)
    name = f"refined{predictions.suffix}"
    refine(*words, "--output", tmp_path / "one" / name)
    words = (*words, "--output", tmp_path / "split" / name)
    for number in (5, 1, 2, 8, 7, 6, 3):
        told = refine(*words, "--shard", f"{number}/{OF}")
        assert f"{2 if number < 4 else 1} images refined in shard {number}/8; when all are through: --merge 8" in told
    assert "1 of 8 shards are not whole, see above: run the same command with --shard 4/8 in the place of --merge" in (
        refine(*words, "--merge", OF, fails=True)
    )
    refine(*words, "--shard", "4/8")
    assert f"{name}: 11 images that 8 shards refined" in refine(*words, "--merge", OF)
    assert content(tmp_path / "split") == content(tmp_path / "one") and content(tmp_path / "one")
    assert "exists already" in refine(*words, "--merge", OF, fails=True)


def test_shards_of_two_folders_need_no_merge(photos, refine, tmp_path):
    masks = write_labels(tmp_path)
    refine(photos, masks, "--output", tmp_path / "one")
    words = (photos, masks, "--output", tmp_path / "split")
    for number in (2, 1):
        assert f"{7 - number} masks" in refine(*words, "--shard", f"{number}/2")
    assert "2 masks" not in refine(*words, "--shard", "12/12", "--resume")  # there are eleven
    (tmp_path / "split/004.png").unlink()
    assert "1 masks, of which" in refine(*words, "--resume")
    assert content(tmp_path / "split") == content(tmp_path / "one")
    assert "need no --merge: run without --shard, but with --resume" in refine(*words, "--merge", 2, fails=True)


def test_details_and_fields_of_shards(photos, refine, tmp_path):
    predictions = write_instances(tmp_path)
    words = ["--images", photos, "--predictions", predictions, "--details-in-results"]
    refine(*words, "--output", tmp_path / "one.json", "--details", tmp_path / "one")
    words += ["--output", tmp_path / "split.json", "--details", tmp_path / "split"]
    for number in (1, 2):
        refine(*words, "--shard", f"{number}/2")
    without = [word for word in words if word != "--details-in-results"]
    assert "2 of 2 shards are not whole" in refine(*without, "--merge", 2, fails=True)
    refine(*words, "--merge", 2)
    assert (tmp_path / "split.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert content(tmp_path / "split") == content(tmp_path / "one")


@pytest.mark.parametrize(
    "more, message",
    [
        (["--shard", "9/8"], "--shard is '9/8', expected K/N with K from 1 to N"),
        (["--shard", "0/8"], "--shard is '0/8', expected K/N"),
        (["--shard", "three"], "--shard is 'three', expected K/N"),
        (["--merge", "0"], "--merge is 0, expected the number of shards, from 1 to"),
        (["--merge", "8", "--shard", "1/8"], "--shard and --merge both came: give --shard K/N until"),
        (["--adapt", "1", "--shard", "1/8"], "--adapt would learn something else in each shard"),
        (["--merge", "2"], "2 of 2 shards are not whole"),
    ],
)
def test_what_is_asked_wrongly(more, message, photos, refine, tmp_path):
    words = ["--images", photos, "--predictions", write_labels(tmp_path), "--output", tmp_path / "out"]
    assert message in refine(*words, *more, fails=True)
    assert not (tmp_path / "out").exists()


def test_one_mask_has_no_shards(photos, refine, tmp_path):
    mask = write_labels(tmp_path) / "000.png"
    assert "--shard and --merge are for many images" in refine(photos / "000.png", mask, "--shard", "1/2", fails=True)
