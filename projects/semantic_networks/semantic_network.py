"""Semantic networks over segmentation-models-pytorch and timm, whose loss can be weighted by pixel.

One meta-architecture for what the tables of the PNM paper compare: FCN (Long et al., 2015), PSPNet (Zhao et al.,
2017), DeepLabV3 and V3+ (Chen et al., 2017, 2018), UPerNet (Xiao et al., 2018) and SegFormer (Xie et al., 2021), on any
encoder of the two libraries with four stages, among them ResNet, Mix Transformer (MiT-B0 to B5) and HRNet. The
libraries give encoders and decoders; classifier, auxiliary head and losses are here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from pnm.errors import UserError
from pnm.null_model.settings import PNMSettings
from pnm.null_model.weighted_losses import pixel_cross_entropy, weighted_mean

from .blocks import check_norm, conv_norm_relu
from .encoder_backbone import FINEST_STRIDE, NODE, STAGES, EncoderBackbone, is_hrnet
from .meta_arch import PixelWeightedSegmentor
from .pixel_loss import PixelWeightedHead
from .semantic_decoders import MultiResolutionFCN, find_decoder


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
        aux_loss_weight: float = 0.0,
        pnm: PNMSettings | None = None,
    ):
        """
        Args:
            decoder: takes a list of six feature maps and returns one of ``width`` channels.
            aux_channels: channels of res4; read with ``aux_loss_weight`` above 0.
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
            aux_width = max(aux_channels // 4, 16)
            self.aux_head = nn.Sequential(
                conv_norm_relu(aux_channels, aux_width, 3), _classifier(aux_width, num_classes, dropout)
            )

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
        return _resize(self.predictor(self._decode(features)), _image_size(features))

    def _decode(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        height, width = _image_size(features)
        finest = features[STAGES[0]]
        # Decoders read the size of image and stem, but none of their channels.
        empty = [finest.new_empty((len(finest), 0, height // stride, width // stride)) for stride in (1, 2)]
        try:
            return self.decoder([*empty, *(features[name] for name in STAGES)])
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
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
        weights = self.weights_of(targets, pixel_weights)  # once for both losses
        losses = {"loss_sem_seg": self.pixel_loss(self.logits(features), targets, weights) * self.loss_weight}
        if self.aux_loss_weight:
            logits = _resize(self.aux_head(features["res4"]), _image_size(features))
            pixels, valid = pixel_cross_entropy(logits, targets, ignore_label=self.ignore_value)
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


def _build_head(cfg: CfgNode, channels: list[int], pnm: PNMSettings | None) -> SemanticNetworkHead:
    node, head = cfg.MODEL.SEMANTIC_NETWORK, cfg.MODEL.SEM_SEG_HEAD
    width = node.DECODER_CHANNELS
    if node.ARCH == "fcn" and is_hrnet(node.ENCODER):
        decoder: nn.Module = MultiResolutionFCN(channels)
        width = sum(channels)
    else:
        decoder = find_decoder(node.ARCH, node.OUTPUT_STRIDE).build(channels, width, node.OUTPUT_STRIDE)
    return SemanticNetworkHead(
        decoder,
        width=width,
        num_classes=head.NUM_CLASSES,
        ignore_value=head.IGNORE_VALUE,
        loss_weight=head.LOSS_WEIGHT,
        dropout=node.DROPOUT,
        aux_channels=channels[2],
        aux_loss_weight=node.AUX_LOSS_WEIGHT,
        pnm=pnm,
    )


def _with_norm(module: nn.Module, norm: str) -> nn.Module:
    check_norm(f"{NODE}.NORM", norm)
    if norm == "BN":
        return module
    from timm.layers import convert_sync_batchnorm  # knows timm's BatchNorm with an activation, too

    return convert_sync_batchnorm(module)


@META_ARCH_REGISTRY.register()
class SemanticNetwork(PixelWeightedSegmentor):
    """The network ``MODEL.SEMANTIC_NETWORK``; inputs and outputs are ``SemanticSegmentor``'s.

    In training it returns ``loss_sem_seg`` and, with an auxiliary head, ``loss_sem_seg_aux``.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, pnm: PNMSettings | None = None) -> dict:
        """Arguments of ``SemanticSegmentor``; ``pnm`` weights the losses.

        Raises:
            UserError: an architecture, encoder, output stride or norm that doesn't exist or doesn't go together.
        """
        node = cfg.MODEL.SEMANTIC_NETWORK
        find_decoder(node.ARCH, node.OUTPUT_STRIDE)
        weights = "" if cfg.MODEL.WEIGHTS else node.ENCODER_WEIGHTS
        backbone = EncoderBackbone(node.ENCODER, weights, node.OUTPUT_STRIDE)
        channels = [shape.channels for shape in backbone.output_shape().values()]
        return {
            "backbone": _with_norm(backbone, node.NORM),
            "sem_seg_head": _with_norm(_build_head(cfg, channels, pnm), node.NORM),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }
