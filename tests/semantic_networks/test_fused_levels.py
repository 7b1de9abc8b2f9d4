"""Levels of features fused by a convolution that is done before they are enlarged."""

import pytest
import torch

from pnm.projects.semantic_networks.blocks import FusedLevels, convolved_levels
from pnm.projects.semantic_networks.semantic_decoders import DECODERS


@pytest.mark.parametrize("bias", [False, True])
def test_levels_convolved_before_they_are_resized_are_the_concatenated_ones(bias):
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3 + 5 + 2, 4, 1, bias=bias).double()
    levels = [torch.randn(2, c, *size, dtype=torch.double) for c, size in ((3, (9, 12)), (5, (5, 6)), (2, (2, 3)))]
    gradients = []
    for convolve in (
        lambda: convolution(FusedLevels.concatenated(levels)),
        lambda: convolved_levels(convolution, levels, (9, 12)),
    ):
        convolution.zero_grad()
        x = convolve()
        (x * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)).sum().backward()
        gradients.append([x.detach(), *(parameter.grad for parameter in convolution.parameters())])
    assert all(torch.allclose(*pair) for pair in zip(*gradients, strict=True))


def test_fused_levels_are_the_same_in_training_and_inference():
    torch.manual_seed(0)
    head = FusedLevels([3, 5, 2], 6)
    levels = [torch.randn(2, c, 16 >> k, 24 >> k) for k, c in enumerate((3, 5, 2))]
    for layer in head.fuse:
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()  # the batch's statistics would tell them apart
    head.training = True
    trained = head(levels)
    assert torch.allclose(trained, head.eval()(levels), atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_segformers_decoder_is_the_librarys(training):
    decoders = pytest.importorskip("segmentation_models_pytorch.decoders.segformer.decoder")
    torch.manual_seed(0)
    channels = [8, 16, 24, 32]
    ours = DECODERS["segformer"].build(channels, 12, 32).train(training)
    library = decoders.SegformerDecoder([3, 0, *channels], encoder_depth=5, segmentation_channels=12).train(training)
    library.load_state_dict(ours.state_dict())
    features = [torch.randn(2, 3, 64, 96), torch.zeros(2, 0, 32, 48)]
    features += [torch.randn(2, c, 16 >> k, 24 >> k) for k, c in enumerate(channels)]
    assert torch.allclose(ours(features), library(features), atol=1e-5)
