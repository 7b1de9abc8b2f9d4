"""tools/pack_refiner.py: from what training wrote to weights that refine, and what it says of too few scenes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import pnm
from pnm.masks.crops import crop_array, crop_rle
from pnm.object_refinement.network import ARCHITECTURES, RefinementNetwork

from .conftest import load_tool

SIZE = 64, 72


@pytest.fixture(scope="module")
def tool():
    return load_tool("pack_refiner")


def scenes(folder, radius):
    """Two images with a disc each; COCO annotations of them."""
    (folder / "images").mkdir()
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    images, annotations = [], []
    for n in (1, 2):
        mask = (rows - 30) ** 2 + (columns - 30 - n) ** 2 < radius**2
        picture = np.where(mask[..., None], np.uint8(200), np.uint8(40)).repeat(3, 2)
        Image.fromarray(picture).save(folder / f"images/{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]})
        rle = crop_rle(crop_array(mask), *SIZE)
        rle = {
            "size": list(SIZE),
            "counts": rle["counts"] if isinstance(rle["counts"], str) else rle["counts"].decode(),
        }
        annotations.append({"id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "segmentation": rle})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}
    (folder / "scenes.json").write_text(json.dumps(content), "utf-8")


@pytest.fixture
def words(tmp_path):
    torch.manual_seed(0)
    network = RefinementNetwork(ARCHITECTURES["universal_small"])
    model = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"model": model, "iteration": 9}, tmp_path / "model_final.pth")
    names = {"weights": "model_final.pth", "annotations": "scenes.json", "images": "images", "output": "mine.pth"}
    return [word for name, file in names.items() for word in (f"--{name}", tmp_path / file)]


def test_few_scenes_are_warned_of_and_the_weights_refine(tool, run_main, words, tmp_path, monkeypatch):
    scenes(tmp_path, 20)
    monkeypatch.setattr("pnm.object_refinement.belief_fitting._STEPS", 5)
    status, out, err = run_main(tool, words)
    assert status == 0 and "8 coarse masks, 2 of them judged; all in percent" in out
    (warning,) = [line for line in err if line.startswith("warning: ")]
    assert "2 objects, 4 coarse masks of each, are few to fit a belief on" in warning and "1000 coarse masks" in warning
    mask = np.zeros(SIZE, np.bool_)
    mask[20:40, 20:40] = True
    assert pnm.Refiner(tmp_path / "mine.pth")(tmp_path / "images/1.png", mask).shape == SIZE


def test_no_object_that_is_large_enough(tool, run_main, words, tmp_path):
    scenes(tmp_path, 5)
    status, _, err = run_main(tool, words)
    assert status == 2 and "scenes.json has no object of 400 pixels or more" in err[-1]
    assert not (tmp_path / "mine.pth").exists()


def test_enough_scenes_are_not_warned_of(tool, tmp_path, capsys):
    scenes(tmp_path, 20)
    tool._check_number(tmp_path / "scenes.json", 500)
    assert not capsys.readouterr().err
