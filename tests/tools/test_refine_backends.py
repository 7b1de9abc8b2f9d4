"""tools/refine.py --backend: another runtime gives the same masks; what has no choice, or isn't there, is told."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image

import pnm
from pnm.network_backends import choice
from pnm.projects.bpr.networks import NETWORKS

SHAPE = (60, 70)


@pytest.fixture
def files(tmp_path):
    """photo.png and mask.png."""
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    Image.fromarray(image).save(tmp_path / "photo.png")
    Image.fromarray((rows - 30) ** 2 + (columns - 33) ** 2 < 225).save(tmp_path / "mask.png")
    return tmp_path / "photo.png", tmp_path / "mask.png"


@pytest.fixture
def bpr(tmp_path):
    """Config and overrides of BPR with random weights."""
    torch.manual_seed(0)
    model = {f"network.{k}": v for k, v in NETWORKS["patch_unet"](False).state_dict().items()}
    torch.save({"model": model}, tmp_path / "unet.pth")
    sizes = ("MODEL.BPR.PATCH_SIZE", 16, "MODEL.BPR.INPUT_SIZE", 32, "MODEL.BPR.PRECISION_TEST", "float32")
    return "quickstart/bpr_instance.yaml", (*sizes, "MODEL.WEIGHTS", tmp_path / "unet.pth")


def needs_onnxruntime():
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


def pixels(path):
    return np.asarray(Image.open(path)) == 255


def test_the_universal_refiner_gives_the_same_mask(run_refine, files, tmp_path):
    needs_onnxruntime()
    wanted = pnm.Refiner(strength=1)(*files)
    run_refine(*files, "--strength", 1, "--backend", "onnxruntime")
    assert (pixels(tmp_path / "mask_refined.png") != wanted).mean() < 0.001


def test_bpr_gives_the_same_mask(run_refine, files, bpr, tmp_path):
    needs_onnxruntime()
    config, opts = bpr
    one = ("--image", files[0], "--mask", files[1], "--output")
    run_refine("--config-file", config, *one, tmp_path / "torch.png", *opts)
    run_refine("--config-file", config, "--backend", "onnxruntime", *one, tmp_path / "onnx.png", *opts)
    assert pixels(tmp_path / "torch.png").any()
    assert (pixels(tmp_path / "torch.png") != pixels(tmp_path / "onnx.png")).mean() < 0.001


def test_each_refiner_of_a_chain_has_its_own(run_refine, files, bpr, monkeypatch):
    config, opts = bpr
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    chain = (*files, "--backend", "torch", "--then", config, "--backend", "onnxruntime", *opts)
    assert "--backend onnxruntime needs onnxruntime, onnx, onnxscript" in run_refine(*chain, fails=True)


def test_what_has_no_choice_is_told(run_refine, files, tmp_path):
    one = ("--image", files[0], "--mask", files[1], "--output", tmp_path / "out.png")
    config = ("--config-file", "quickstart/segfix.yaml", "--backend", "onnxruntime")
    if importlib.util.find_spec("onnxruntime"):
        assert "but SegFix runs on torch alone: leave it out" in run_refine(*config, *one, fails=True)
    stored = ("--offsets", tmp_path, "--backend", "onnxruntime")
    assert "--backend is for a network, and stored offsets need none" in run_refine(*stored, *one, fails=True)


def test_other_names_and_devices_are_told(run_refine, files):
    assert "--backend is 'tensorrt', expected one of torch, openvino" in run_refine(
        *files, "--backend", "tensorrt", fails=True
    )
    words = (*files, "--backend", "onnxruntime", "--device", "cuda")
    assert "--backend onnxruntime runs on the CPU, not on cuda" in run_refine(*words, fails=True)
    with pytest.raises(pnm.UserError, match="backend openvino runs on the CPU, not on cuda"):
        pnm.Refiner(backend="openvino", device="cuda")
