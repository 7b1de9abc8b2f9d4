"""Auxiliary heads of refinement networks: in training only, on the stage that they are meant for."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.utils.events import EventStorage

from pnm.errors import UserError
from pnm.formats.safe_checkpoint import CheckpointError
from pnm.masks.crops import crop_array
from pnm.projects.bpr import BoundaryPatchRefiner, InferenceSettings, PatchSettings, add_config
from pnm.projects.bpr.networks import (
    NETWORKS,
    WITH_AUXILIARY_HEADS,
    build_auxiliary_heads,
    build_network,
    check_auxiliary,
)
from pnm.projects.launcher.checkpoint import SafeCheckpointer
from pnm.projects.refining import add_config as add_refining_config

# Channels of the features that heads are on, and their strides.
FEATURES = {
    "fcn_resnet18": [(256, 8)],
    "fcn_resnet50": [(1024, 8)],
    "deeplabv3plus_resnet50": [(1024, 16)],
    "fast_scnn": [(64, 8), (128, 32)],
}
# Parameters of the last layer before the first head's feature, and of the first after it, by a part of their names.
AROUND_RES4 = {
    "fcn_resnet18": ("backbone.layer3.1.", "backbone.layer4.0."),
    "fcn_resnet50": ("backbone.layer3.5.", "backbone.layer4.0."),
    "deeplabv3plus_resnet50": ("encoder.model.layer3.5.", "encoder.model.layer4.0."),
}


def config(network="fast_scnn", weight=0.4, norm="BN"):
    cfg = get_cfg()
    add_refining_config(cfg)
    add_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.WEIGHTS = "BoundaryPatchRefiner", ""
    node = cfg.MODEL.BPR
    node.NETWORK, node.PRETRAINED, node.NORM, node.AUX_LOSS_WEIGHT = network, False, norm, weight
    node.PATCH_SIZE, node.INPUT_SIZE, node.NMS_THRESHOLD_TEST = 16, 64, 0.25
    return cfg


def refiner(*args, **kwargs):
    torch.manual_seed(0)
    return BoundaryPatchRefiner(config(*args, **kwargs))


def batch(patches=3, seed=0):
    rng = np.random.default_rng(seed)

    def drawn(most, *shape, dtype=np.uint8):
        return torch.from_numpy(rng.integers(0, most, (patches, *shape, 16, 16)).astype(dtype))

    targets = drawn(2)
    targets[drawn(4) == 0] = 255
    inside = torch.ones(patches, 16, 16, dtype=torch.bool)
    return {
        "patches": drawn(256, 3),
        "inside_patches": inside,
        "mask_patches": drawn(2).bool(),
        "target_patches": targets,
    }


def losses(model, *batches):
    with EventStorage():
        torch.manual_seed(1)  # of dropout
        return model.train()(list(batches) or [batch()])


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("side", [64, 128])
def test_sizes_of_auxiliary_logits(name, side):
    network = build_network(name, False)
    heads = build_auxiliary_heads(network)
    assert list(network.auxiliary_channels) == [channels for channels, _ in FEATURES[name]]
    logits, features = network.logits_and_features(torch.randn(2, 4, side, side))
    assert logits.shape == network(torch.randn(2, 4, side, side)).shape
    for head, feature, (channels, stride) in zip(heads, features, FEATURES[name], strict=True):
        assert feature.shape == (2, channels, side // stride, side // stride)
        assert head(feature).shape == (2, 1, side // stride, side // stride)
        assert head[0][0].out_channels == channels // 4


def test_every_other_network_has_no_heads():
    """And is refused, so that the list in the message is that of the networks."""
    for name in NETWORKS:
        assert len(build_auxiliary_heads(build_network(name, False))) == len(FEATURES.get(name, ()))
    assert set(FEATURES) == set(WITH_AUXILIARY_HEADS)


def touched(model):
    """Names of the network's parameters that the auxiliary loss alone has a gradient for."""
    losses(model)["loss_patch_aux"].backward()
    return {n for n, p in model.network.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize("name", AROUND_RES4)
def test_gradients_reach_the_third_stage_and_not_the_fourth(name):
    names = touched(refiner(name))
    before, after = AROUND_RES4[name]
    assert any(n.startswith(before) for n in names) and not any(n.startswith(after) for n in names)


def test_gradients_of_both_heads_of_fast_scnn():
    names = touched(refiner())
    assert any(n.startswith("backbone.extract.9.fuse") for n in names)  # the end of the global features
    assert not any(n.startswith(("backbone.fuse", "head")) for n in names)
    model = refiner()
    del model.aux_heads[1]
    model.network.auxiliary_levels = [0]
    names = touched(model)
    assert any(n.startswith("backbone.downsample.2") for n in names)
    assert not any(n.startswith("backbone.extract") for n in names)


def independent_loss(logits, targets):
    """The mean over pixels that are counted, pixel by pixel in double precision; logits at the input size."""
    targets = targets.repeat_interleave(4, 1).repeat_interleave(4, 2)
    z, target = logits.double()[targets != 255], targets[targets != 255].double()
    return (-(target * z.sigmoid().log() + (1 - target) * (1 - z.sigmoid()).log())).sum() / len(z)


@pytest.mark.parametrize(("name", "weight"), [("fcn_resnet18", 0.4), ("fast_scnn", 0.4), ("fast_scnn", 1.5)])
def test_loss_is_that_of_each_head(name, weight):
    model, given = refiner(name, weight), [batch(3), batch(2, 1)]
    seen, handles = [], []
    for head in model.aux_heads:
        handles.append(head.register_forward_hook(lambda _, x, logits: seen.append(logits.detach())))
    found = losses(model, *given)
    assert set(found) == {"loss_patch", "loss_patch_aux"} and len(seen) == len(FEATURES[name])
    targets = torch.cat([x["target_patches"] for x in given])
    assert 0.1 < (targets == 255).float().mean() < 0.5
    expected = 0.0
    for logits in seen:
        enlarged = torch.nn.functional.interpolate(logits.double(), (64, 64), mode="bilinear", align_corners=False)
        expected += weight * independent_loss(enlarged[:, 0], targets).item()
    assert found["loss_patch_aux"].item() == pytest.approx(expected, rel=1e-5)


def test_nothing_counted_is_a_zero_with_gradients():
    model, given = refiner(), batch()
    given["target_patches"].fill_(255)
    found = losses(model, given)
    assert found["loss_patch_aux"].item() == 0
    sum(found.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", ["fcn_resnet18", "fast_scnn"])
def test_weight_0_is_the_network_without_heads(name):
    """Names of weights, losses, gradients and refined masks, to the last bit; the heads change none of the others."""
    torch.manual_seed(0)
    cfg = config(name, 0.0)
    plain = BoundaryPatchRefiner(
        build_network(name, False),
        settings=PatchSettings.from_config(cfg, False),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        inference=InferenceSettings.from_config(cfg),
    )
    without, with_heads = refiner(name, 0.0), refiner(name, 0.4)
    names = list(plain.state_dict())
    assert list(without.state_dict()) == names and not any(n.startswith("aux_heads") for n in names)
    assert [n for n in with_heads.state_dict() if not n.startswith("aux_heads.")] == names
    found = [losses(model) for model in (plain, without, with_heads)]
    assert list(found[1]) == ["loss_patch"]
    assert torch.equal(found[0]["loss_patch"], found[1]["loss_patch"])
    for result in found[:2]:
        result["loss_patch"].backward()
    for a, b in zip(plain.parameters(), without.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    assert inference(plain) == inference(without) == inference(with_heads)


def inference(model):
    """Refined pixels of a drawn mask, and what the network gave of its first patches."""
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 70), bool)
    mask[20:32, 15:27] = True
    image = torch.from_numpy(rng.integers(0, 256, (3, 60, 70), dtype=np.uint8))
    refined = model.eval().refine_objects(image, [crop_array(mask)])[0].pixels.tobytes()
    foreground = model._foreground(image, np.array([[12, 7], [30, 40]]), np.ones((2, 16, 16), bool))
    return refined, foreground.tobytes()


def test_heads_are_for_training_alone():
    model = refiner()
    calls = []
    for head in model.aux_heads:
        head.register_forward_hook(lambda *_: calls.append(1))
    inference(model)
    assert not calls and losses(model) and len(calls) == 2


def test_weights_with_heads_are_evaluated_with_the_key_as_it_was_and_with_0(tmp_path):
    trained = refiner()
    for parameter in trained.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.01)
    SafeCheckpointer(trained, str(tmp_path)).save("with_heads")
    expected = inference(trained)
    for weight in (0.4, 1.0, 0.0):
        model = refiner(weight=weight)
        assert inference(model) != expected
        SafeCheckpointer(model, strict=True).load(str(tmp_path / "with_heads.pth"))
        assert inference(model) == expected
    SafeCheckpointer(refiner(weight=0.0), str(tmp_path)).save("without")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        SafeCheckpointer(refiner(), strict=True).load(str(tmp_path / "without.pth"))
    SafeCheckpointer(refiner()).load(str(tmp_path / "without.pth"))  # training adds heads to trained weights


def test_sync_bn_and_channels_last():
    norms = [m for m in refiner(norm="SyncBN").aux_heads.modules() if "BatchNorm" in type(m).__name__]
    assert len(norms) == 2 and all(isinstance(m, torch.nn.SyncBatchNorm) for m in norms)
    cfg = config()
    cfg.MODEL.BPR.CHANNELS_LAST = True
    torch.manual_seed(0)
    model = BoundaryPatchRefiner(cfg)
    assert model.aux_heads[0][0][0].weight.is_contiguous(memory_format=torch.channels_last)
    for name, value in losses(refiner()).items():
        assert losses(model)[name].item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("name", FEATURES)
def test_one_patch(name):
    """DeepLab's image pooling has BatchNorm on one value a patch: it needs two."""
    model = refiner(name)
    if name == "deeplabv3plus_resnet50":
        with pytest.raises(UserError, match="a training step had one patch, .* give each process more images"):
            losses(model, batch(1))
    else:
        sum(losses(model, batch(1)).values()).backward()


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in FEATURES])
def test_networks_without_a_third_stage_are_refused(name):
    with pytest.raises(UserError, match=f"{name} has no third stage .* fcn_resnet18, fcn_resnet50, .*WEIGHT 0"):
        refiner(name, 0.4)
    check_auxiliary(name, 0.0)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_weights_that_are_none(weight):
    with pytest.raises(UserError, match="AUX_LOSS_WEIGHT is .*, expected 0 .* or more"):
        refiner(weight=weight)


def test_an_unknown_network_is_told_as_such():
    with pytest.raises(UserError, match="NETWORK is 'resnet', expected one of"):
        refiner("resnet", 0.4)
