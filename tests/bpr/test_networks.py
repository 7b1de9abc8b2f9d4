import pytest
import torch
from torch import nn

from pnm.errors import UserError
from pnm.projects.bpr.fast_scnn import Bottleneck, FeatureFusion, PyramidPooling
from pnm.projects.bpr.networks import NETWORKS, build_network, widen_first_convolution

STRIDES = {"fcn_resnet18": 8, "fcn_resnet50": 8, "fast_scnn": 8, "patch_unet": 2, "universal_small": 1, "universal": 1}
REAL = [name for name in NETWORKS if name not in ("identity", "color")]


@pytest.mark.parametrize("name", REAL)
def test_every_pixel_gets_a_logit_and_every_parameter_a_gradient(name):
    torch.manual_seed(0)
    network = build_network(name, pretrained=False)
    x = torch.randn(2, 4, 64, 64)
    logits = network(x)
    stride = STRIDES.get(name, 4)
    assert logits.shape == (2, 1, 64 // stride, 64 // stride)
    logits.square().mean().backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None]
    # HRNet's timm features leave out what its classifier alone would use.
    assert not unused
    first = next(p for n, p in network.named_parameters() if p.ndim == 4)
    assert first.shape[1] == 4 and first.grad[:, 3].abs().sum() > 0  # the mask is seen


@pytest.mark.parametrize("name", ["fcn_hrnet_w18s", "fast_scnn", "patch_unet"])
def test_a_patch_does_not_see_its_neighbours(name):
    torch.manual_seed(0)
    network = build_network(name, pretrained=False).eval()
    x = torch.randn(3, 4, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network(x)[1:2], network(x[1:2]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("side", [32, 64, 96, 128, 256])
def test_fast_scnn_at_any_input_size(side):
    network = build_network("fast_scnn", pretrained=True).eval()  # there are no weights to download
    with torch.no_grad():
        logits, (high, coarse) = network.logits_and_features(torch.randn(2, 4, side, side))
    assert logits.shape == (2, 1, side // 8, side // 8)
    assert high.shape == (2, 64, side // 8, side // 8) and coarse.shape == (2, 128, side // 32, side // 32)


def test_fast_scnn_is_as_large_as_the_papers():
    """1.11 M of the paper (section 4.1), which has three channels and 19 classes, and doesn't tell the width of pyramid
    pooling: within 3 %."""
    parameters = sum(parameter.numel() for parameter in build_network("fast_scnn", False).parameters())
    of_mask, of_other_classes = 9 * 32, 18 * (128 + 1)
    assert parameters - of_mask + of_other_classes == pytest.approx(1.11e6, rel=0.03)


def test_fast_scnn_trains_on_one_patch():
    torch.manual_seed(0)
    network = build_network("fast_scnn", False)
    network(torch.randn(1, 4, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_fast_scnn_sees_the_whole_patch_and_its_details():
    """A pixel far away matters, by pyramid pooling; without the global features only its neighbourhood does."""
    torch.manual_seed(0)
    network = build_network("fast_scnn", False).eval()
    x = torch.randn(1, 4, 256, 256, requires_grad=True)
    network(x)[0, 0, 0, 0].backward()
    assert x.grad[0, :, -8:, -8:].abs().sum() > 0
    nn.init.zeros_(network.backbone.fuse.of_global[-1].weight)  # the norm's factor: what is added is a constant
    x.grad = None
    network(x)[0, 0, 0, 0].backward()
    assert x.grad[0, :, :8, :8].abs().sum() > 0 and not x.grad[0, :, 64:, 64:].any()


def test_parts_of_fast_scnn():
    torch.manual_seed(0)
    x = torch.randn(2, 12, 24, 24)
    for stride, width in ((1, 12), (1, 16), (2, 12)):
        block = Bottleneck(12, width, stride).eval()
        nn.init.zeros_(block.layers[-1].weight)  # of the norm: only the way around the layers is left
        assert torch.equal(block(x), x) if (stride, width) == (1, 12) else not block(x).any()
    assert [branch(x).shape[1:] for branch in PyramidPooling(12).branches] == [(3, k, k) for k in (1, 2, 3, 6)]
    image = torch.zeros(1, 12, 24, 24, requires_grad=True)
    FeatureFusion(6, 12, 5).eval().of_global[0](image)[0, :, 12, 12].sum().backward()
    taps = image.grad.abs().sum((0, 1)).nonzero().tolist()
    assert taps == [[y, x] for y in (8, 12, 16) for x in (8, 12, 16)]  # a coarse pixel apart


def test_widening_keeps_the_image_filters():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False))
    old = model[0]
    image, mask = torch.randn(1, 3, 8, 8), torch.randn(1, 1, 8, 8)
    before = old(image)
    widen_first_convolution(model, "0")
    of_mask = nn.functional.conv2d(mask, model[0].weight[:, 3:], stride=2, padding=1)
    # The authors' HRNet adds a convolution of the mask to the image's.
    assert torch.allclose(model(torch.cat([image, mask], 1)), before + of_mask, atol=1e-6)


def test_sync_bn():
    network = build_network("patch_unet", False, "SyncBN")
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(m, nn.SyncBatchNorm) for m in norms)


def test_errors():
    with pytest.raises(UserError, match="NETWORK is 'resnet', expected one of fcn_hrnet_w18s"):
        build_network("resnet", False)
    with pytest.raises(UserError, match="NORM is 'GN', expected BN or SyncBN"):
        build_network("patch_unet", False, "GN")


def test_weights_that_cannot_be_had(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("Connection refused")

    monkeypatch.setattr("timm.create_model", no_network)
    with pytest.raises(UserError, match="ImageNet weights of MODEL.BPR.NETWORK fcn_resnet18 cannot be had"):
        build_network("fcn_resnet18", True)
