"""ResNet with a feature pyramid P2 to P7, where P6 and P7 are made of P5 (SE-PSNet, section III-A; FCOS)."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_p2_to_p7_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Strides 4 to 128. (Detectron2's pyramid with P6 and P7 makes them of the ResNet's last features.)"""
    node = cfg.MODEL.FPN
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=node.IN_FEATURES,
        out_channels=node.OUT_CHANNELS,
        norm=node.NORM,
        top_block=LastLevelP6P7(node.OUT_CHANNELS, node.OUT_CHANNELS, "p5"),
        fuse_type=node.FUSE_TYPE,
    )
