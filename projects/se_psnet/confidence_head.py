"""The confidence head: how good each mask is, from the image, the bases and the mask (SE-PSNet, section III-G)."""

import torch
import torch.nn.functional as F
from torch import nn

from pnm.region_pooling import roi_align

from .basis_head import STRIDE, Bases
from .pooling import Regions

SIDE = 14
_P3_STRIDE = 8


class ConfidenceHead(nn.Module):
    """Four convolutions and two layers on all of it; says the mask's IoU and the score of its silhouette.

    Its inputs are cut from the graph: what it learns doesn't change what the others do. (In the paper, the model
    that learned the scores but goes by FCOS's, alpha 1 in Table II, has PQ 59.55; the one without this head, 59.83.)
    """

    def __init__(self, channels: int, bases: int, *, width: int = 128, fc_dim: int = 1024):
        """
        Args:
            channels: of P3.
            bases: with the silhouette among them.
            width: of the convolutions.
            fc_dim: of the first layer.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for k in range(4):
            conv = nn.Conv2d(width if k else channels + bases + 1, width, 3, stride=1 + (k == 3), padding=1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*layers)
        self.fc = nn.Linear(width * (SIDE // 2) ** 2, fc_dim)
        self.predictor = nn.Linear(fc_dim, 2)
        for layer in (self.fc, self.predictor):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(
        self, p3: torch.Tensor, bases: Bases, regions: Regions, mask_logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(R,) float32 IoU and silhouette scores in [0, 1], of masks (R, M, M) in regions.

        Args:
            p3: (N, C, H / 8, W / 8).
        """
        rois = regions.rois
        maps = bases.bases if bases.silhouettes is None else torch.cat([bases.bases, bases.silhouettes], 1)
        pooled = [
            roi_align(features.detach(), rois, SIDE, 1 / stride, 2)
            for features, stride in ((p3, _P3_STRIDE), (maps, STRIDE))
        ]
        masks = mask_logits.detach()
        masks = F.adaptive_avg_pool2d(masks, SIDE) if len(masks) else masks.new_zeros(0, SIDE, SIDE)
        hidden = self.convs(torch.cat([*pooled, masks[:, None]], 1))
        scores = self.predictor(F.relu(self.fc(hidden.flatten(1)))).float().sigmoid()
        return scores[:, 0], scores[:, 1]
