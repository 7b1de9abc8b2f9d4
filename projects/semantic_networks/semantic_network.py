"""Semantic networks over segmentation-models-pytorch and timm, with a pixel-weighted loss.

One meta-architecture for what the tables of the PNM paper compare: FCN (Long et al., 2015), PSPNet (Zhao et al.,
2017), DeepLabV3 and V3+ (Chen et al., 2017, 2018), UPerNet (Xiao et al., 2018) and SegFormer (Xie et al., 2021), on any
encoder of the two libraries with four stages, among them ResNet, Mix Transformer (MiT-B0 to B5) and HRNet. The
libraries give encoders and decoders; classifier, auxiliary head and losses are here.
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from torch import nn

from pnm.errors import UserError
from pnm.null_model.weighted_losses import weighted_cross_entropy

from ..pnm_heads.config import PNMSettings
from ..pnm_heads.meta_arch import PassesPixelWeights
from ..pnm_heads.semantic_head import PixelWeightedHead
from .encoder_backbone import FINEST_STRIDE, NODE, STAGES, EncoderBackbone, is_hrnet
from .semantic_decoders import MultiResolutionFCN, conv_norm_relu, find_decoder


def add_semantic_network_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.SEMANTIC_NETWORK``.

    NUM_CLASSES, IGNORE_VALUE and LOSS_WEIGHT are those of ``MODEL.SEM_SEG_HEAD``.
    """
    node = cfg.MODEL.SEMANTIC_NETWORK = CfgNode()
    # "fcn", "pspnet", "deeplabv3", "deeplabv3plus", "upernet" or "segformer".
    node.ARCH = "deeplabv3"
    # Encoder by its name in segmentation-models-pytorch: resnet50, mit_b2, or "tu-" and a timm model: tu-hrnet_w48.
    node.ENCODER = "resnet50"
    # Pretrained encoder: "imagenet" downloads it, "" starts from scratch. Not read when MODEL.WEIGHTS names a file.
    node.ENCODER_WEIGHTS = "imagenet"
    # Stride of the encoder's last features, px: 8 or 16 by dilation, 32 without. UPerNet, SegFormer and HRNet: 32.
    node.OUTPUT_STRIDE = 8
    # Width of the decoder.
    node.DECODER_CHANNELS = 256
    # Probability that a channel is dropped before a classifier.
    node.DROPOUT = 0.1
    # Weight of the loss of an FCN head on the third of the encoder's four stages, in training only; 0 = no such head.
    node.AUX_LOSS_WEIGHT = 0.0
    # "BN", or "SyncBN" for statistics over all processes.
    node.NORM = "BN"


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

    def forward(self, features: dict[str, torch.Tensor], targets: torch.Tensor | None = None):
        """(None, losses) in training; ((N, K, H, W) logits at the images' resolution, {}) in inference."""
        if not self.training:
            return self.logits(features), {}
        assert targets is not None
        return None, self.losses(features, targets)

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

    def losses(self, features: dict[str, torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """``loss_sem_seg`` and, with an auxiliary head, ``loss_sem_seg_aux``: means over this process's valid pixels.

        Without a valid pixel both are zeros that can be differentiated.
        """
        given = self.pixel_weights
        if self.pnm is not None:
            self.pixel_weights = self._weights(targets)  # once for both losses
        try:
            found = {"loss_sem_seg": self.pixel_loss(self.logits(features), targets) * self.loss_weight}
            if self.aux_loss_weight:
                found["loss_sem_seg_aux"] = self._aux_loss(features, targets) * self.aux_loss_weight
        finally:
            self.pixel_weights = given
        return found

    def _aux_loss(self, features: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        logits = _resize(self.aux_head(features["res4"]), _image_size(features))
        weights = self.pixel_weights if self.pnm is not None else None
        if weights is None:
            weights = torch.ones_like(targets, dtype=torch.float32)
        return weighted_cross_entropy(logits, targets, weights, ignore_label=self.ignore_value)


def _classifier(width: int, num_classes: int, dropout: float) -> nn.Sequential:
    conv = nn.Conv2d(width, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(nn.Dropout2d(dropout), conv)


def _image_size(features: dict[str, torch.Tensor]) -> tuple[int, int]:
    height, width = features[STAGES[0]].shape[-2:]
    return height * FINEST_STRIDE, width * FINEST_STRIDE


def _resize(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)


def _build_head(cfg: CfgNode, channels: list[int]) -> SemanticNetworkHead:
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
        pnm=PNMSettings.semantic(cfg),
    )


def _with_norm(module: nn.Module, norm: str) -> nn.Module:
    if norm not in ("BN", "SyncBN"):
        raise UserError(f"{NODE}.NORM is {norm!r}, expected BN or SyncBN")
    if norm == "BN":
        return module
    from timm.layers import convert_sync_batchnorm  # knows timm's BatchNorm with an activation, too

    return convert_sync_batchnorm(module)


@META_ARCH_REGISTRY.register()
class PNMSemanticNetwork(PassesPixelWeights, SemanticSegmentor):
    """The network ``MODEL.SEMANTIC_NETWORK``; inputs and outputs are ``SemanticSegmentor``'s.

    In training it returns ``loss_sem_seg`` and, with an auxiliary head, ``loss_sem_seg_aux``, weighted by pixel with
    ``MODEL.PNM.ENABLED`` and plain cross-entropy without.
    """

    weights_its_own_loss = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Arguments of ``SemanticSegmentor``.

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
            "sem_seg_head": _with_norm(_build_head(cfg, channels), node.NORM),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }
