"""Semantic networks over segmentation-models-pytorch and timm, whose loss can be weighted by pixel.

One meta-architecture for what the tables of the PNM paper compare: FCN (Long et al., 2015), NLNet (Wang et al., 2018),
CCNet (Huang et al., 2019), PSPNet (Zhao et al., 2017), DeepLabV3 and V3+ (Chen et al., 2017, 2018), UPerNet (Xiao et
al., 2018), OCRNet (Yuan et al., 2020) and SegFormer (Xie et al., 2021), on any encoder of the two libraries with four
stages, among them ResNet, Mix Transformer (MiT-B0 to B5) and HRNet. The libraries give the encoders and half of the
decoders; the other decoders, classifier, auxiliary head and losses are here.
"""

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from pnm.errors import UserError
from pnm.null_model.settings import PNMSettings

from .blocks import check_norm
from .encoder_backbone import NODE, EncoderBackbone, is_hrnet
from .meta_arch import PixelWeightedSegmentor
from .object_context import FusedRegionFeatures, ObjectContextHead, RegionFeatures
from .semantic_decoders import MultiResolutionFCN, find_decoder
from .semantic_head import SemanticNetworkHead


def _build_head(cfg: CfgNode, channels: list[int], pnm: PNMSettings | None) -> SemanticNetworkHead:
    node, head = cfg.MODEL.SEMANTIC_NETWORK, cfg.MODEL.SEM_SEG_HEAD
    fused, width = is_hrnet(node.ENCODER), node.DECODER_CHANNELS
    options = {
        "num_classes": head.NUM_CLASSES,
        "ignore_value": head.IGNORE_VALUE,
        "loss_weight": head.LOSS_WEIGHT,
        "dropout": node.DROPOUT,
        "aux_loss_weight": node.AUX_LOSS_WEIGHT,
        "pnm": pnm,
    }
    if node.ARCH == "ocrnet":
        if node.AUX_LOSS_WEIGHT <= 0:
            raise UserError(
                f"{NODE}.AUX_LOSS_WEIGHT is {node.AUX_LOSS_WEIGHT}, but it trains the regions that ocrnet looks at: "
                "set it above 0, to 0.4 as in its paper"
            )
        regions = FusedRegionFeatures(channels, width) if fused else RegionFeatures(channels, width)
        return ObjectContextHead(regions, width=width, **options)
    if node.ARCH == "fcn" and fused:
        decoder: nn.Module = MultiResolutionFCN(channels)
        width = sum(channels)
    else:
        decoder = find_decoder(node.ARCH, node.OUTPUT_STRIDE).build(channels, width, node.OUTPUT_STRIDE)
    return SemanticNetworkHead(decoder, width=width, aux_channels=channels[2], **options)


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
