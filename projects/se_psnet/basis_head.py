"""The basis head: what all masks of an image are blended of, and its auxiliary outputs (SE-PSNet, section III-E)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.layers import get_norm
from torch import nn

STRIDE = 4
FEATURES = ("p3", "p4", "p5")


class Bases(NamedTuple):
    """Of N images, at a stride of 4 px.

    Attributes:
        bases: (N, K, H / 4, W / 4), without activation.
        silhouettes: (N, 1, H / 4, W / 4) logits of the silhouettes of things, or None.
        semantics: (N, C + 1, H / 8, W / 8) logits of thing classes after "none", or None.
    """

    bases: torch.Tensor
    silhouettes: torch.Tensor | None
    semantics: torch.Tensor | None


def _block(channels: int, width: int, norm: str) -> nn.Sequential:
    """3 x 3 convolution, normalisation, ReLU."""
    conv = nn.Conv2d(channels, width, 3, padding=1, bias=not norm)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    layers = [conv, get_norm(norm, width), nn.ReLU(inplace=True)]
    return nn.Sequential(*(layer for layer in layers if layer is not None))


class BasisHead(nn.Module):
    """P3 to P5 summed at P3's resolution, enlarged twice; names as in BlendMask's published models."""

    def __init__(
        self,
        channels: int,
        *,
        bases: int = 4,
        width: int = 128,
        norm: str = "GN",
        silhouette: bool = True,
        semantic_classes: int = 0,
        semantic_norm: str = "BN",
    ):
        """
        Args:
            channels: of the features.
            bases: K.
            width: of the head.
            silhouette: whether there is a basis that is a silhouette.
            semantic_classes: C of the auxiliary semantic output, 0 for none.
            semantic_norm: of the auxiliary output.
        """
        super().__init__()
        self.refine = nn.ModuleList([_block(channels, width, norm) for _ in FEATURES])
        blocks: list[nn.Module] = [_block(width, width, norm) for _ in range(3)]
        blocks.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        self.tower = nn.Sequential(*blocks, _block(width, width, norm), nn.Conv2d(width, bases, 1))
        self.silhouette = nn.Conv2d(width, 1, 1) if silhouette else None
        self.seg_head = _semantic_head(channels, width, semantic_classes, semantic_norm) if semantic_classes else None

    def forward(self, features: dict[str, torch.Tensor]) -> Bases:
        """The auxiliary semantics are computed in training only."""
        finest = features[FEATURES[0]]
        summed = self.refine[0](finest)
        for name, refine in zip(FEATURES[1:], list(self.refine)[1:]):
            summed = summed + F.interpolate(
                refine(features[name]), finest.shape[-2:], mode="bilinear", align_corners=False
            )
        last = self.tower[:-1](summed)
        silhouettes = None if self.silhouette is None else self.silhouette(last)
        semantics = self.seg_head(finest) if self.training and self.seg_head is not None else None
        return Bases(self.tower[-1](last), silhouettes, semantics)


def _semantic_head(channels: int, width: int, classes: int, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for k in range(2):
        normalisation = get_norm(norm, width)
        layers.append(nn.Conv2d(width if k else channels, width, 3, padding=1, bias=normalisation is None))
        layers += [normalisation or nn.Identity(), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(width, classes + 1, 1))
