import pytest
import torch
from torch import nn

from pnm.errors import UserError
from pnm.projects.bpr.networks import NETWORKS, build_network, widen_first_convolution

STRIDES = {"fcn_resnet18": 8, "fcn_resnet50": 8, "patch_unet": 2}
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


@pytest.mark.parametrize("name", ["fcn_hrnet_w18s", "patch_unet"])
def test_a_patch_does_not_see_its_neighbours(name):
    torch.manual_seed(0)
    network = build_network(name, pretrained=False).eval()
    x = torch.randn(3, 4, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network(x)[1:2], network(x[1:2]), rtol=1e-3, atol=1e-3)


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
