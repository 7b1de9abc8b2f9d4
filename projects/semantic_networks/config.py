"""Config keys of the semantic networks."""

from detectron2.config import CfgNode


def add_semantic_network_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.SEMANTIC_NETWORK``, and the keys of the DeepLab heads and the atrous ResNet.

    NUM_CLASSES, IGNORE_VALUE and LOSS_WEIGHT are those of ``MODEL.SEM_SEG_HEAD``.
    """
    node = cfg.MODEL.SEMANTIC_NETWORK = CfgNode()
    # "fcn", "nlnet", "ccnet", "pspnet", "deeplabv3", "deeplabv3plus", "upernet", "ocrnet" or "segformer".
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
    # OCRNet's finds its regions, and has to be there.
    node.AUX_LOSS_WEIGHT = 0.0
    # "BN", or "SyncBN" for statistics over all processes.
    node.NORM = "BN"

    head = cfg.MODEL.SEM_SEG_HEAD
    # DeepLab heads: "cross_entropy", or "hard_pixel_mining" over the hardest fifth of the labelled pixels.
    head.LOSS_TYPE = "hard_pixel_mining"
    # DeepLabV3+: widths that the features before the last are projected to, one for each.
    head.PROJECT_CHANNELS = [48]
    head.ASPP_CHANNELS = 256
    # Rates of ASPP's three dilated convolutions: [6, 12, 18] at stride 16, twice that at stride 8.
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1
    head.USE_DEPTHWISE_SEPARABLE_CONV = False
    # Atrous ResNet: dilation of res4, factors on res5's dilation for each of its blocks, "basic" or "deeplab" stem.
    cfg.MODEL.RESNETS.RES4_DILATION = 1
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 2, 4]
    cfg.MODEL.RESNETS.STEM_TYPE = "deeplab"
