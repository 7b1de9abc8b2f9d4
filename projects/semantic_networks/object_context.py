"""Object-contextual representations (OCR: Yuan et al., "Object-Contextual Representations for Semantic Segmentation",
ECCV 2020): a pixel is described by itself and by the classes' regions that it resembles."""

import torch
from torch import nn

from .attention import precise_softmax
from .blocks import FusedLevels, conv_norm_relu, resize_like
from .encoder_backbone import STAGES
from .semantic_head import SemanticNetworkHead


def region_representations(pixels: torch.Tensor, region_logits: torch.Tensor) -> torch.Tensor:
    """Each region's mean of the pixels, weighted by the softmax over pixels of how much they belong to it (Eq. 3).

    Args:
        pixels: (N, C, H, W).
        region_logits: (N, K, H, W).

    Returns:
        (N, C, K).
    """
    shares = precise_softmax(region_logits.flatten(2)).to(pixels.dtype)
    return pixels.flatten(2) @ shares.transpose(1, 2)


def attend_to_regions(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Each pixel's mean of the regions' values, weighted by the softmax over regions of query times key (Eq. 4, 5).

    The products are divided by the root of the number of channels, as in the authors' code; the paper doesn't say so.

    Args:
        query: (N, c, H, W), of the pixels.
        key: (N, c, K), of the regions.
        value: (N, C, K).

    Returns:
        (N, C, H, W).
    """
    relation = torch.einsum("nchw,nck->nhwk", query, key) * query.shape[1] ** -0.5
    weights = precise_softmax(relation).to(value.dtype)
    return torch.einsum("nhwk,nck->nchw", weights, value)


class ObjectContext(nn.Module):
    """Pixels and what the regions that they resemble say, to ``width`` channels (Sec. 3.2)."""

    def __init__(self, width: int):
        super().__init__()
        inner = max(width // 2, 1)
        self.query = nn.Sequential(conv_norm_relu(width, inner, 1), conv_norm_relu(inner, inner, 1))
        self.key = nn.Sequential(conv_norm_relu(width, inner, 1), conv_norm_relu(inner, inner, 1))
        self.value = conv_norm_relu(width, inner, 1)
        self.context = conv_norm_relu(inner, width, 1)
        self.fuse = conv_norm_relu(2 * width, width, 1)

    def forward(self, pixels: torch.Tensor, region_logits: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) pixels and (N, K, H, W) logits of the regions to (N, width, H, W)."""
        regions = region_representations(pixels, region_logits)[..., None]
        key, value = self.key(regions).squeeze(3), self.value(regions).squeeze(3)
        context = self.context(attend_to_regions(self.query(pixels), key, value))
        return self.fuse(torch.cat([context, pixels], dim=1))


class RegionFeatures(nn.Module):
    """What OCRNet takes of a dilated encoder: regions from its third stage, pixels from its last."""

    def __init__(self, channels: list[int], width: int):
        super().__init__()
        self.region_channels = max(channels[2] // 2, 1)
        self.regions = conv_norm_relu(channels[2], self.region_channels, 3)
        self.pixels = conv_norm_relu(channels[3], width, 3)

    def forward(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, region_channels, H, W) and (N, width, H, W), of the size of the last features."""
        pixels = self.pixels(features[-1])
        return resize_like(self.regions(features[-2]), pixels), pixels


class FusedRegionFeatures(nn.Module):
    """What OCRNet takes of an HRNet: both from all resolutions together, at that of the finest."""

    def __init__(self, channels: list[int], width: int):
        super().__init__()
        self.regions = FusedLevels(channels)
        self.region_channels = self.regions.out_channels
        self.pixels = conv_norm_relu(sum(channels), width, 3)

    def forward(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, region_channels, H / 4, W / 4) and (N, width, H / 4, W / 4)."""
        levels = self.regions.concatenated(features[-len(STAGES) :])
        return self.regions.fuse(levels), self.pixels(levels)


class ObjectContextHead(SemanticNetworkHead):
    """OCRNet's head: an FCN that finds the classes' regions, and pixels classified with what these regions say.

    The FCN is the auxiliary head, trained with ``aux_loss_weight`` and needed in inference, too.
    """

    def __init__(self, features: RegionFeatures | FusedRegionFeatures, *, width: int, **options):
        """
        Args:
            features: what regions and pixels are made of.
            options: see :class:`.semantic_head.SemanticNetworkHead`, but for its ``aux_channels``.
        """
        super().__init__(features, width=width, aux_channels=features.region_channels, aux_convs=0, **options)
        self.object_context = ObjectContext(width)

    def predict(self, features: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of the pixels, and of the regions."""
        regions, pixels = self.decode(features)
        region_logits = self.aux_head(regions)
        return self.predictor(self.object_context(pixels, region_logits)), region_logits
