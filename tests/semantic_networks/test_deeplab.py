"""DeepLab heads and atrous ResNet: against Detectron2's project where that is installed, and through the launcher."""

import math

import pytest
import torch
from detectron2.modeling import build_model

from pnm.projects.launcher.config import load_config

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
    plain = build_model(small(config))
    weighted = build_model(small(f"{config}_PNM"))
    weighted.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(weighted.eval()(batch())[0]["sem_seg"], plain.eval()(batch())[0]["sem_seg"])
    losses = [model.train()(batch())["loss_sem_seg"] for model in (plain, weighted)]
    assert all(math.isfinite(float(loss.detach())) for loss in losses) and losses[1] > losses[0]


@pytest.mark.parametrize("config", CONFIGS)
def test_trains_through_the_launcher(train_net, config):
    settings = f"{SMALL} DATASETS.TRAIN \"('shapes_train_sem_seg',)\" DATASETS.TEST \"('shapes_val_sem_seg',)\""
    settings += " SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN (96,) INPUT.MIN_SIZE_TEST 96"
    # Pooling takes whole windows of 64 x 96 px: evaluation images have to be multiples.
    settings += " INPUT.MIN_SIZE_TEST 192 INPUT.MAX_SIZE_TEST 256 INPUT.CROP.SIZE (96,128)"
    done = train_net(settings, config=f"{FOLDER}/{config}_PNM.yaml")
    assert done.returncode == 0, done.stdout[-3000:]
