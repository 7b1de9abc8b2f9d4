"""The head of a semantic network: decoder, classifier, auxiliary classifier, and their losses."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pnm.errors import UserError
from pnm.null_model.settings import PNMSettings
from pnm.null_model.weighted_losses import pixel_cross_entropy, weighted_mean

from .blocks import conv_norm_relu
from .encoder_backbone import FINEST_STRIDE, NODE, STAGES
from .pixel_loss import PixelWeightedHead


class SemanticNetworkHead(PixelWeightedHead):
    """Decoder, classifier and, in training, an auxiliary FCN head on the encoder's third stage."""

    def __init__(
        self,
        decoder: nn.Module,
        *,
        width: int,
        num_classes: int,
        ignore_value: int,
        loss_weight: float = 1.0,
        dropout: float = 0.1,
        aux_channels: int = 0,
        aux_convs: int = 1,
        aux_loss_weight: float = 0.0,
        pnm: PNMSettings | None = None,
    ):
        """
        Args:
            decoder: takes a list of six feature maps and returns one of ``width`` channels.
            aux_channels: of the features that the auxiliary head takes; read with ``aux_loss_weight`` above 0.
            aux_convs: 3x3 convolutions before the auxiliary classifier.
            pnm: None leaves the losses unweighted.
        """
        super().__init__()
        self.decoder, self.predictor = decoder, _classifier(width, num_classes, dropout)
        self.ignore_value, self.loss_weight, self.aux_loss_weight, self.pnm = (
            ignore_value,
            loss_weight,
            aux_loss_weight,
            pnm,
        )
        if aux_loss_weight:
            convs = []
            for _ in range(aux_convs):
                convs.append(conv_norm_relu(aux_channels, max(aux_channels // 4, 16), 3))
                aux_channels = max(aux_channels // 4, 16)
            self.aux_head = nn.Sequential(*convs, _classifier(aux_channels, num_classes, dropout))

    def forward(
        self,
        features: dict[str, torch.Tensor],
        targets: torch.Tensor | None = None,
        pixel_weights: torch.Tensor | None = None,
    ):
        """(None, losses) in training; ((N, K, H, W) logits at the images' resolution, {}) in inference."""
        if not self.training:
            return self.logits(features), {}
        assert targets is not None
        return None, self.losses(features, targets, pixel_weights)

    def logits(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, K, H, W) at the size of the padded images."""
        return _resize(self.predict(features)[0], _image_size(features))

    def predict(self, features: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of classifier and, in training, auxiliary head, at their own resolutions."""
        logits = self.predictor(self.decode(features))
        has_aux = self.training and self.aux_loss_weight
        return logits, self.aux_head(features["res4"]) if has_aux else None

    def decode(self, features: dict[str, torch.Tensor]) -> Any:
        """What the decoder makes of the encoder's features."""
        height, width = _image_size(features)
        finest = features[STAGES[0]]
        # Decoders read the size of image and stem, but none of their channels.
        empty = [finest.new_empty((len(finest), 0, height // stride, width // stride)) for stride in (1, 2)]
        return self.decoder([*empty, *(features[name] for name in STAGES)])

    def _predict_in_training(self, features: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        try:
            return self.predict(features)
        except ValueError as error:
            if len(features[STAGES[0]]) > 1:
                raise
            raise UserError(
                "this network pools an image to one value, and BatchNorm cannot train on one value: give each process "
                f"two images or more (SOLVER.IMS_PER_BATCH), or set {NODE}.NORM SyncBN on several processes"
            ) from error

    def losses(
        self, features: dict[str, torch.Tensor], targets: torch.Tensor, pixel_weights: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """``loss_sem_seg`` and, with an auxiliary head, ``loss_sem_seg_aux``: means over this process's valid pixels.

        Without a valid pixel both are zeros that can be differentiated.
        """
        size = _image_size(features)
        logits, aux_logits = self._predict_in_training(features)
        weights = self.weights_of(targets, pixel_weights)  # once for both losses
        losses = {"loss_sem_seg": self.pixel_loss(_resize(logits, size), targets, weights) * self.loss_weight}
        if aux_logits is not None:
            pixels, valid = pixel_cross_entropy(_resize(aux_logits, size), targets, ignore_label=self.ignore_value)
            losses["loss_sem_seg_aux"] = weighted_mean(pixels, weights, valid) * self.aux_loss_weight
        return losses


def _classifier(width: int, num_classes: int, dropout: float) -> nn.Sequential:
    conv: Any = nn.Conv2d(width, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(nn.Dropout2d(dropout), conv)


def _image_size(features: dict[str, torch.Tensor]) -> tuple[int, int]:
    height, width = features[STAGES[0]].shape[-2:]
    return height * FINEST_STRIDE, width * FINEST_STRIDE


def _resize(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
