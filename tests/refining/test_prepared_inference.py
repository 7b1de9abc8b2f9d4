"""Loaded refiners run a copy of their network that is faster and gives the same, up to a stated share of pixels."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from pnm.errors import UserError
from pnm.masks.crops import crop_array, paste
from pnm.predictions import Partition
from pnm.projects.launcher.config import load_config
from pnm.projects.refining import cpu_precision

SIZE = 64, 96
LABELS = np.where(np.arange(SIZE[1]) < 45, 1, 2) + np.where(np.arange(SIZE[0]) < 28, 0, 4)[:, None]
SEGMENTS, CATEGORIES = (1, 2, 5, 6), (0, 1, -2, -3)
CONFIGS = {
    "SEGFIX": "quickstart/segfix.yaml",
    "PRN": "quickstart/prn.yaml",
    "UNIVERSAL": "universal/universal_small.yaml",
}
# Shares of pixels that may differ, of networks with random weights, which are sure of nothing; trained SegFix and
# universal networks differ by 0.02 and 0.08 % in bfloat16.
FLOAT32_SHARE, BFLOAT16_SHARE = 1e-4, 0.02


def model(node, precision, *overrides):
    torch.manual_seed(0)
    more = ["MODEL.PRN.ENCODER", "resnet10", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    cfg = load_config(
        CONFIGS[node], [f"MODEL.{node}.PRECISION_TEST", precision, "MODEL.WEIGHTS", "", *more, *overrides]
    )
    built = build_model(cfg).eval()
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return built


def image():
    rng = np.random.default_rng(0)
    painted = (40 * LABELS[..., None] + rng.integers(0, 40, (*SIZE, 3))).astype(np.uint8)
    return torch.from_numpy(painted.transpose(2, 0, 1).copy())


def labels_of(built):
    if built.relists_segments:
        built.thing_categories[:], built.stuff_categories[:] = (
            torch.tensor([[k, sign * k - (sign < 0)] for k in range(4)]) for sign in (1, -1)
        )
        return built.refine_segments(image(), Partition(LABELS, SEGMENTS, (0, 1, -2, -3))).labels
    if built.backend_key:
        crops = [crop_array(k == LABELS) for k in SEGMENTS]
        return np.stack([paste(one, *SIZE) for one in built.refine_objects(image(), crops)])
    return built.refine_partition(image(), LABELS, SEGMENTS)


@pytest.mark.parametrize("node", CONFIGS)
def test_the_copy_gives_the_same_until_it_is_trained(node):
    built = model(node, "float32")
    before, names = labels_of(built), list(built.state_dict())
    built.prepare_inference()
    assert (labels_of(built) != before).mean() <= FLOAT32_SHARE
    assert list(built.state_dict()) == names
    for module in built.network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.3)
    assert (labels_of(built) != before).mean() <= FLOAT32_SHARE  # of the loaded weights
    built.train().eval()
    assert (labels_of(built) != before).mean() > FLOAT32_SHARE


@pytest.mark.parametrize("node", ["SEGFIX", "UNIVERSAL"])
def test_bfloat16_changes_few_pixels(node):
    found = {}
    for precision in ("float32", "bfloat16"):
        built = model(node, precision)
        built.prepare_inference()
        found[precision] = labels_of(built)
    assert (found["float32"] != found["bfloat16"]).mean() <= BFLOAT16_SHARE


def test_bfloat16_moves_prns_fields_little():
    given = Partition(LABELS, SEGMENTS, CATEGORIES)
    fields = {}
    for precision in ("float32", "bfloat16"):
        built = model("PRN", precision)
        labels_of(built)  # gives it classes
        built.prepare_inference()
        fields[precision] = built.predict(built.network_input(image(), given)).fields
        assert fields[precision].heat.dtype == torch.float32
    for one, other in zip(fields["float32"], fields["bfloat16"]):
        assert not torch.equal(one, other)
        torch.testing.assert_close(other, one, atol=0.05 * float(one.abs().max()), rtol=0)


@pytest.mark.parametrize("node", CONFIGS)
def test_another_precision_is_told(node):
    with pytest.raises(UserError, match=f"MODEL.{node}.PRECISION_TEST is 'half', expected one of auto"):
        model(node, "half")


@pytest.mark.parametrize("node", ["SEGFIX", "PRN", "BPR"])
def test_two_keys_of_precision_that_contradict_each_other(node, monkeypatch):
    monkeypatch.setitem(CONFIGS, "BPR", "quickstart/bpr_instance.yaml")
    amp = (f"MODEL.{node}.AMP_TEST", "True")
    with pytest.raises(UserError, match=f"MODEL.{node}.AMP_TEST is True, .* MODEL.{node}.PRECISION_TEST is float32"):
        model(node, "float32", *amp)
    for precision in ("auto", "bfloat16"):
        assert is_reduced(model(node, precision, *amp))
    assert not is_reduced(model(node, "float32"))


def test_amp_test_alone():
    """PRN computes in float32 on CPUs unless one of the two keys says otherwise."""
    assert is_reduced(model("PRN", "", "MODEL.PRN.AMP_TEST", "True")) and not is_reduced(model("PRN", ""))
    cfg = load_config(CONFIGS["PRN"], ["MODEL.PRN.AMP_TEST", "True", "MODEL.PRN.PRECISION_TEST", "float32"])
    cfg.MODEL.DEVICE = "cuda"  # where only AMP_TEST counts
    assert cpu_precision(cfg, "PRN") == "bfloat16"


def is_reduced(built):
    """Whether a model computes in half of the bits on CPUs."""
    return built.inference.is_reduced("cpu") if hasattr(built, "cascade") else built.in_bfloat16


def test_another_backend_of_the_universal_network_is_told():
    with pytest.raises(UserError, match="MODEL.UNIVERSAL.BACKEND is 'best', expected one of torch"):
        build_model(load_config(CONFIGS["UNIVERSAL"], ["MODEL.WEIGHTS", "", "MODEL.UNIVERSAL.BACKEND", "best"]))
