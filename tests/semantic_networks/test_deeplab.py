"""DeepLab heads and atrous ResNet: against Detectron2's project where that is installed, and through the launcher."""

import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ASPP
from detectron2.modeling import build_model

from pnm.null_model.batched import pixel_null_model_torch
from pnm.null_model.pixel_weights import pixel_weights
from pnm.projects.launcher.config import load_config
from pnm.projects.semantic_networks.deeplab import AnySizeASPP

FOLDER = "configs/Cityscapes-SemanticSegmentation"
CONFIGS = ("deeplab_v3_R_103_90k", "deeplab_v3_plus_R_103_90k")
SMALL = """MODEL.DEVICE cpu MODEL.WEIGHTS "" MODEL.RESNETS.DEPTH 50 MODEL.RESNETS.NORM BN MODEL.SEM_SEG_HEAD.NORM BN
    MODEL.RESNETS.RES2_OUT_CHANNELS 16 MODEL.RESNETS.WIDTH_PER_GROUP 4 MODEL.RESNETS.STEM_OUT_CHANNELS 16
    MODEL.SEM_SEG_HEAD.CONVS_DIM 16 MODEL.SEM_SEG_HEAD.ASPP_CHANNELS 16 MODEL.SEM_SEG_HEAD.NUM_CLASSES 8
    MODEL.SEM_SEG_HEAD.ASPP_DROPOUT 0.0 INPUT.CROP.SIZE (64,96)"""


def small(config: str, *overrides: str):
    words = [part for part in SMALL.split()]
    words[words.index('""')] = ""
    return load_config(f"{FOLDER}/{config}.yaml", [*words, *overrides])


def batch():
    torch.manual_seed(2)
    labels = torch.randint(0, 8, (2, 64, 96))
    labels[:, :9, :20] = 255
    return [{"image": torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8), "sem_seg": one} for one in labels]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("separable", ["False", "True"])
def test_equals_detectron2s_project(config, separable):
    pytest.importorskip("detectron2.projects.deeplab")
    separable = ("MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV", separable)
    cross_entropy = ("MODEL.SEM_SEG_HEAD.LOSS_TYPE", "cross_entropy")
    ours_cfg = small(config, *separable, *cross_entropy)
    theirs_cfg = ours_cfg.clone()
    theirs_cfg.MODEL.BACKBONE.NAME = "build_resnet_deeplab_backbone"
    theirs_cfg.MODEL.SEM_SEG_HEAD.NAME = ours_cfg.MODEL.SEM_SEG_HEAD.NAME.removeprefix("PNM")
    ours, theirs = build_model(ours_cfg), build_model(theirs_cfg)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    losses = [model.train()(batch())["loss_sem_seg"] for model in (ours, theirs)]
    torch.testing.assert_close(*losses)
    with torch.no_grad():
        outputs = [model.eval()(batch())[0]["sem_seg"] for model in (ours, theirs)]
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_change_the_loss_alone(config):
    """The same network and parameters, with the loss weighted or not."""
    plain = build_model(small(f"{config}_PNM", "MODEL.PNM.ENABLED", "False"))
    weighted = build_model(small(f"{config}_PNM"))
    weighted.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(weighted.eval()(batch())[0]["sem_seg"], plain.eval()(batch())[0]["sem_seg"])
    losses = [model.train()(batch())["loss_sem_seg"] for model in (plain, weighted)]
    assert all(math.isfinite(float(loss.detach())) for loss in losses) and losses[1] > losses[0]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("hard_pixels", [False, True])
def test_the_weighted_config_is_equation_6_and_its_sibling_mines(config, hard_pixels):
    """Of the model's own logits, pixel by pixel: the mean over all labelled pixels, or over the largest fifth."""
    model = build_model(small(f"{config}_hard_pixels_PNM" if hard_pixels else f"{config}_PNM")).eval()
    images = batch()
    with torch.no_grad():
        logits = torch.stack([model([x])[0]["sem_seg"] for x in images])
        model.training = model.sem_seg_head.training = True  # losses with BatchNorm as in evaluation
        for aspp in (m for m in model.modules() if isinstance(m, ASPP)):
            assert not aspp.training
        loss = model(images)["loss_sem_seg"]
    labels = torch.stack([x["sem_seg"] for x in images])
    weights = pixel_weights(pixel_null_model_torch(labels, 35, ignore_label=255))
    pixels = (F.cross_entropy(logits, labels, ignore_index=255, reduction="none") * weights)[labels != 255]
    kept = pixels.sort(descending=True).values[: int(0.2 * pixels.numel())] if hard_pixels else pixels
    torch.testing.assert_close(loss, kept.mean(), rtol=1e-4, atol=1e-6)


def test_pooling_takes_any_size_and_equals_detectron2s_on_whole_windows():
    torch.manual_seed(0)
    options = {"norm": "BN", "activation": F.relu, "pool_kernel_size": (4, 6), "dropout": 0.1}
    ours, theirs = (kind(5, 7, [1, 2, 3], **options).eval() for kind in (AnySizeASPP, ASPP))
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        for size in ((4, 6), (8, 6), (8, 12)):
            x = torch.randn(2, 5, *size)
            torch.testing.assert_close(ours(x), theirs(x))
        for size in ((5, 7), (3, 9), (1, 1)):
            assert ours(torch.randn(2, 5, *size)).shape == (2, 7, *size)
        # Where the window covers the image, its mean is what pooling over everything gives.
        x = torch.randn(2, 5, 3, 5)
        whole = ASPP(5, 7, [1, 2, 3], **{**options, "pool_kernel_size": None}).eval()
        whole.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x), whole(x))


@pytest.mark.parametrize("config", CONFIGS)
def test_takes_images_of_any_size(config):
    model = build_model(small(config)).train()
    for size in ((64, 87), (50, 96), (33, 33)):  # a crop of 64 x 96 of an image that is smaller
        losses = model([{key: x[key][..., : size[0], : size[1]] for key in x} for x in batch()])
        losses["loss_sem_seg"].backward()
        assert torch.isfinite(losses["loss_sem_seg"])
    model.eval()
    with torch.no_grad():
        (found,) = model([{"image": torch.zeros(3, 50, 71, dtype=torch.uint8), "height": 33, "width": 90}])
    assert found["sem_seg"].shape == (8, 33, 90) and torch.isfinite(found["sem_seg"]).all()


@pytest.mark.parametrize("config", CONFIGS)
def test_trains_through_the_launcher(train_net, config):
    settings = f"{SMALL} DATASETS.TRAIN \"('shapes_train_sem_seg',)\" DATASETS.TEST \"('shapes_val_sem_seg',)\""
    settings += " SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN (96,) INPUT.MIN_SIZE_TEST 96"
    settings += " INPUT.CROP.SIZE (96,128)"
    done = train_net(settings, config=f"{FOLDER}/{config}_PNM.yaml")
    assert done.returncode == 0, done.stdout[-3000:]
