"""Coordinates, strips and shapes of PRN's network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet18, resnet50

from pnm.errors import UserError
from pnm.projects.prn.coord_conv import CoordConv2d, Coordinates
from pnm.projects.prn.encoder import CoordResNet, load_imagenet
from pnm.projects.prn.grid_mask import grid_mask, hide_squares
from pnm.projects.prn.networks import (
    NetworkInput,
    PanopticRefinementNetwork,
    resized_strips,
    upsampled_rows,
)

SMALL = {"encoder_width": 16, "input_width": 8, "decoder_width": 16, "head_width": 8}


def network(seed=0, **options):
    torch.manual_seed(seed)
    model = PanopticRefinementNetwork("resnet10", 5, **SMALL | options).eval()
    for name, parameter in model.named_parameters():  # heads and coordinates begin at almost nothing
        if "predictor" in name or "coord_weight" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def batch(sizes, seed=0):
    """Random input of images of some sizes, padded to the largest in multiples of 32."""
    rng = torch.Generator().manual_seed(seed)
    height, width = (-(-max(size[k] for size in sizes) // 32) * 32 for k in (0, 1))
    parts = [torch.zeros(len(sizes), c, height, width) for c in (3, 7)] + [torch.zeros(len(sizes), 5, height, width)]
    for n, (h, w) in enumerate(sizes):
        for part in parts:
            part[n, :, :h, :w] = torch.rand(part.shape[1], h, w, generator=rng)
    return NetworkInput(parts[0], parts[1], F.avg_pool2d(parts[2], 4), sizes)


def outputs(model, given):
    with torch.no_grad():
        features, coordinates = model.features(given)
        return model.class_logits(features), *model.fields(features, coordinates)


def test_coordinates_are_those_of_the_image_not_of_the_batch():
    coordinates = Coordinates([(64, 96), (32, 64)], torch.device("cpu"))
    at = coordinates.at(torch.zeros(2, 3, 16, 24), 4)
    assert at.shape == (2, 2, 16, 24)
    assert at[0, 0, :, 0].tolist() == pytest.approx([2 * (i + 0.5) * 4 / 64 - 1 for i in range(16)])
    assert at[0, 1, 0].tolist() == pytest.approx([2 * (j + 0.5) * 4 / 96 - 1 for j in range(24)])
    alone = Coordinates([(32, 64)], torch.device("cpu")).at(torch.zeros(1, 3, 8, 16), 4)
    assert torch.equal(at[1:, :, :8, :16], alone)
    assert torch.equal(coordinates.at(torch.zeros(2, 1, 4, 24), 4, first_row=5), at[:, :, 5:9])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_coord_conv_is_a_convolution_of_features_and_coordinates(size):
    torch.manual_seed(0)
    conv = CoordConv2d(3, 4, size, with_coords=True, padding=size // 2)
    x, coords = torch.rand(2, 3, 9, 11), torch.rand(2, 2, 9, 11)
    plain = F.conv2d(x, conv.weight, conv.bias, padding=size // 2)
    torch.testing.assert_close(conv(x, coords), plain)  # coordinates' weights begin at 0
    torch.nn.init.normal_(conv.coord_weight)
    torch.testing.assert_close(
        conv(x, coords), plain + F.conv2d(coords, conv.coord_weight, padding=size // 2), rtol=1e-4, atol=1e-5
    )
    assert CoordConv2d(3, 4, size, with_coords=False, bias=False).coord_weight is None


@pytest.mark.parametrize(("name", "peer"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_stages_are_torchvisions(name, peer):
    """Same names, same numbers: all that ImageNet's weights have beyond the stem, but for the first block's input."""
    torch.manual_seed(0)
    theirs, ours = peer().eval(), CoordResNet(name, 64, with_coords=True).eval()
    stages = {k: v for k, v in theirs.state_dict().items() if k.startswith("layer")}
    missing, unexpected = ours.load_state_dict(stages, strict=False)
    assert not unexpected and all(key.endswith("coord_weight") for key in missing)
    x = torch.rand(2, 64, 16, 24)
    wanted, y = [], x
    for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        y = stage(y)
        wanted.append(y)
    with torch.no_grad():
        levels = ours(x, Coordinates([(64, 96)] * 2, torch.device("cpu")))
    torch.testing.assert_close(levels, wanted, rtol=1e-3, atol=1e-4)


def test_imagenet_weights_fit_all_but_the_first_input(monkeypatch):
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("resnet50", pretrained=False)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: theirs)
    ours = CoordResNet("resnet50", 194, with_coords=True)
    load_imagenet(ours, "resnet50")
    state, wanted = ours.state_dict(), theirs.state_dict()
    other = [k for k in state if k not in wanted or not torch.equal(state[k].float(), wanted[k].float())]
    assert {k for k in other if "coord_weight" not in k} == {
        "layer1.0.conv1.weight",
        "layer1.0.downsample.0.weight",
    }
    with pytest.raises(UserError, match="set MODEL.PRN.PRETRAINED False"):
        load_imagenet(CoordResNet("resnet50", 194, with_coords=True, width=32), "resnet50")


def test_zero_weights_of_coordinates_are_the_network_without_them():
    model, given = network(), batch([(64, 96)])
    without = network(coord_encoder=False, coord_decoder=False)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for name in state:
        if "coord_weight" in name:
            state[name].zero_()
    inputs = 3 * SMALL["input_width"]  # what follows in the encoder's input is the coordinate map
    first = ("encoder.layer1.0.conv1.weight", "encoder.layer1.0.downsample.0.weight")
    for name in first:
        if name in state:
            state[name][:, inputs:] = 0
    model.load_state_dict(state)
    plain = {k: v[:, :inputs] if k in first else v for k, v in state.items() if "coord_weight" not in k}
    without.load_state_dict(plain)
    for got, wanted in zip(outputs(model, given), outputs(without, given), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


def test_an_image_does_not_depend_on_its_batch_mates():
    model, sizes = network(), [(64, 96), (64, 96), (64, 96)]
    together = outputs(model, batch(sizes))
    for n in range(3):
        given = NetworkInput(*(part[n : n + 1] for part in batch(sizes)[:3]), sizes[n : n + 1])
        for got, wanted in zip(outputs(model, given), together, strict=True):
            torch.testing.assert_close(got[0], wanted[n], rtol=1e-3, atol=1e-3)


def test_a_larger_batch_mate_changes_borders_at_most():
    """Padding is zeros, as beyond the frame, but for what batch norm adds."""
    model = network()
    alone, padded = batch([(64, 96)]), batch([(64, 96), (128, 160)])
    for part in range(3):
        padded[part][0] = 0
        height, width = alone[part].shape[2:]
        padded[part][0, :, :height, :width] = alone[part][0]
    coords = [given.sizes[0] for given in (alone, padded)]
    assert coords[0] == coords[1]
    got, wanted = model.image_branch(padded.images)[0], model.image_branch(alone.images)[0]
    torch.testing.assert_close(got[:, :8, :8], wanted[:, :8, :8], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 32, 64, 1000])
@pytest.mark.parametrize("conv", ["light", "separable", "full"])
def test_strips_give_what_the_whole_gives(rows, conv):
    model, given = network(head_conv=conv), batch([(60, 90)])
    with torch.no_grad():
        features, coordinates = model.features(given)
        whole, strips = model.fields(features, coordinates), model.fields(features, coordinates, rows)
    for got, wanted in zip(strips, whole, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-3)


def test_rows_of_an_enlarged_map():
    x = torch.rand(1, 2, 9, 5)
    whole = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    for first in range(0, 36, 3):
        for last in range(first + 1, 37, 5):
            torch.testing.assert_close(upsampled_rows(x, first, last), whole[..., first:last, :])


@pytest.mark.parametrize("size", [(36, 20), (90, 50), (17, 13)])
@pytest.mark.parametrize("rows", [1, 5, 100])
def test_strips_of_resized_logits(size, rows):
    x = torch.rand(3, 9, 5)
    whole = F.interpolate(x[None], size, mode="bilinear", align_corners=False)[0]
    strips = list(resized_strips(x, (9 / size[0], 5 / size[1]), size, rows))
    assert [top for top, _ in strips] == list(range(0, size[0], rows))
    torch.testing.assert_close(torch.cat([strip for _, strip in strips], 1), whole, rtol=1e-4, atol=1e-5)


def test_every_parameter_has_a_gradient():
    model = network().train()
    features, coordinates = model.features(batch([(64, 64), (50, 60)]))
    parts = (model.class_logits(features), *model.fields(features, coordinates))
    sum((part**2).sum() for part in parts).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_fields_are_in_pixels_whatever_the_unit():
    one, other = network(unit_px=1.0), network(unit_px=64.0)
    other.load_state_dict(one.state_dict())
    given = batch([(32, 32)])
    scaled = given._replace(instances=given.instances * torch.tensor([1.0] + [64.0] * 6).view(1, -1, 1, 1))
    for k, factor in enumerate((1, 1, 64, 1)):
        torch.testing.assert_close(outputs(other, scaled)[k], factor * outputs(one, given)[k], rtol=1e-3, atol=1e-3)


def test_grid_mask_hides_squares_of_a_quarter_of_the_image():
    torch.manual_seed(0)
    shares = []
    for _ in range(200):
        mask = grid_mask(60, 80)
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns)
        shares.append(mask.float().mean().item())
    assert np.mean(shares) == pytest.approx(0.25, abs=0.03)
    assert grid_mask(1, 1).shape == (1, 1)


def test_hidden_squares_lie_in_the_image_and_are_as_often_as_asked_for():
    torch.manual_seed(0)
    images = torch.ones(4, 3, 32, 64)
    assert torch.equal(hide_squares(images, [(32, 64)] * 4, 0.0), images)
    sizes = [(20, 30)] * 4
    always = hide_squares(images, sizes, 1.0)
    assert all((image == 0).any() for image in always) and (images == 1).all()
    assert (always[:, :, 20:] == 1).all() and (always[:, :, :, 30:] == 1).all()
    often = sum(bool((hide_squares(images[:1], [(32, 64)], 0.7) == 0).any()) for _ in range(300))
    assert 180 < often < 240
