"""Networks whose output is known, in place of trained ones."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import nn

from pnm.projects.bpr.networks import NETWORKS


class KnownNetwork(nn.Module):
    """Gives back what it is shown of the mask channel; ``seen`` counts the patches of each call."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        return self.scale * x[:, 3:]


class ColorNetwork(KnownNetwork):
    """Foreground where the first channel is above its mean: an oracle, if the truth is painted into the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        return self.scale * x[:, :1]


@pytest.fixture(autouse=True)
def known_networks(monkeypatch):
    """``MODEL.BPR.NETWORK`` "identity" and "color"."""
    monkeypatch.setitem(NETWORKS, "identity", lambda pretrained: KnownNetwork())
    monkeypatch.setitem(NETWORKS, "color", lambda pretrained: ColorNetwork())


def _shift(array, rows, columns):
    return np.roll(array, (rows, columns), (0, 1))


def _coco_results(root, split, folder):
    content = json.loads((root / f"annotations/instances_{split}.json").read_text())
    rows = []
    for n, annotation in enumerate(content["annotations"]):
        mask = _shift(coco_mask.decode(annotation["segmentation"]), 2, -1)
        rle = coco_mask.encode(np.asfortranarray(mask))
        rows.append({
            "image_id": annotation["image_id"],
            "category_id": annotation["category_id"],
            "bbox": [0.5, 0.5, 3, 3],
            "score": 1 - n / 1000,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        })  # fmt: skip
    path = folder / f"{split}_instances.json"
    path.write_text(json.dumps(rows))
    return path


def _label_pngs(root, split, folder):
    output = folder / f"{split}_labels"
    output.mkdir()
    for file in sorted((root / f"semantic_{split}").glob("*.png")):
        Image.fromarray(_shift(np.asarray(Image.open(file)), 2, -1)).save(output / file.name)
    return output


def _panoptic(root, split, folder):
    content = json.loads((root / f"annotations/panoptic_{split}.json").read_text())
    output = folder / f"{split}_panoptic"
    output.mkdir()
    for file in sorted((root / f"panoptic_{split}").glob("*.png")):
        Image.fromarray(_shift(np.asarray(Image.open(file)), 2, -1)).save(output / file.name)
    path = folder / f"{split}_panoptic.json"
    path.write_text(json.dumps({"annotations": content["annotations"]}))
    return path


@pytest.fixture(scope="session")
def coarse_files(shapes_root, tmp_path_factory):
    """``{task: {"train": path, "val": path}}``: ground truth of ``shapes_root`` that is off by (2, -1) pixels."""
    folder = tmp_path_factory.mktemp("coarse")
    make = {"instance": _coco_results, "semantic": _label_pngs, "panoptic": _panoptic}
    root, splits = shapes_root / "shapes", ("train", "val")
    return {task: {split: function(root, split, folder) for split in splits} for task, function in make.items()}
