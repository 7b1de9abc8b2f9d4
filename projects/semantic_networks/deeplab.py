"""DeepLabV3 and DeepLabV3+ (Chen et al., 2017 and 2018): heads with a pixel-weighted loss, and their atrous ResNet.

State dicts have the names of Detectron2's DeepLab project, so that its checkpoints load. Two things differ: hard-pixel
mining takes a share of the *labelled* pixels, not of all, and images may have any size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ASPP, CNNBlockBase, Conv2d, DepthwiseSeparableConv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import nn

from pnm.errors import UserError
from pnm.null_model.settings import PNMSettings

from .pixel_loss import PixelWeightedHead

HARD_PIXEL_SHARE = {"cross_entropy": 1.0, "hard_pixel_mining": 0.2}
_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class _DeepLabHead(PixelWeightedHead):
    """What both heads share: classification, upsampling, loss."""

    def __init__(
        self,
        *,
        width: int,
        num_classes: int,
        common_stride: int,
        loss_weight: float,
        loss_type: str,
        ignore_value: int,
        pnm: PNMSettings | None = None,
    ):
        super().__init__()
        if loss_type not in HARD_PIXEL_SHARE:
            raise UserError(f"MODEL.SEM_SEG_HEAD.LOSS_TYPE is {loss_type!r}, expected one of {list(HARD_PIXEL_SHARE)}")
        self.hard_pixel_share = HARD_PIXEL_SHARE[loss_type]
        self.common_stride, self.loss_weight, self.ignore_value, self.pnm = (
            common_stride,
            loss_weight,
            ignore_value,
            pnm,
        )
        self.predictor = Conv2d(width, num_classes, 1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    @staticmethod
    def common_arguments(cfg) -> dict:
        """Keyword arguments of this class from the config, but for ``width``."""
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "num_classes": head.NUM_CLASSES,
            "common_stride": head.COMMON_STRIDE,
            "loss_weight": head.LOSS_WEIGHT,
            "loss_type": head.LOSS_TYPE,
            "ignore_value": head.IGNORE_VALUE,
        }

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, K, H / common_stride, W / common_stride) logits."""
        raise NotImplementedError

    def forward(
        self,
        features: dict[str, torch.Tensor],
        targets: torch.Tensor | None = None,
        pixel_weights: torch.Tensor | None = None,
    ):
        """(None, losses) in training; ((N, K, H, W) logits at the images' resolution, {}) in inference."""
        logits = F.interpolate(
            self.layers(features).float(), scale_factor=self.common_stride, mode="bilinear", align_corners=False
        )
        if not self.training:
            return logits, {}
        assert targets is not None
        height, width = targets.shape[-2:]  # less than whole strides, where an image is smaller than the crop
        loss = self.pixel_loss(logits[..., :height, :width], targets, pixel_weights, self.hard_pixel_share)
        return None, {"loss_sem_seg": loss * self.loss_weight}


def _pool_window(cfg, stride: int) -> tuple[int, int] | None:
    """Window of ASPP's image pooling, in features: a training crop, or with no fixed crop (None) the whole image."""
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return None
    if crop.TYPE != "absolute" or any(side % stride for side in crop.SIZE):
        raise UserError(
            f"DeepLab pools over a training crop: INPUT.CROP must be absolute and a multiple of {stride} px, "
            f"got {crop.TYPE} {tuple(crop.SIZE)}"
        )
    height, width = crop.SIZE
    return height // stride, width // stride


class AnySizeASPP(ASPP):
    """Detectron2's ASPP, which takes features of any size, not of whole pooling windows alone.

    The window of the image pooling is cut where the features are smaller. On whole windows it is Detectron2's.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        height, width = x.shape[-2:]
        if self.pool_kernel_size is None:
            return super().forward(x)
        *local, (_, after_pooling) = self.convs
        window = min(self.pool_kernel_size[0], height), min(self.pool_kernel_size[1], width)
        pooled = after_pooling(F.avg_pool2d(x, window, stride=1))
        pooled = F.interpolate(pooled, size=(height, width), mode="bilinear", align_corners=False)
        joined = self.project(torch.cat([*(view(x) for view in local), pooled], dim=1))
        return F.dropout(joined, self.dropout, training=self.training)


def _aspp(cfg, channels: int, stride: int) -> ASPP:
    head = cfg.MODEL.SEM_SEG_HEAD
    return AnySizeASPP(
        channels,
        head.ASPP_CHANNELS,
        head.ASPP_DILATIONS,
        norm=head.NORM,
        activation=F.relu,
        pool_kernel_size=_pool_window(cfg, stride),
        dropout=head.ASPP_DROPOUT,
        use_depthwise_separable_conv=head.USE_DEPTHWISE_SEPARABLE_CONV,
    )


class DeepLabV3Head(_DeepLabHead):
    """Atrous spatial pyramid pooling and a classifier, on one feature map."""

    @configurable
    def __init__(self, *, in_feature: str, aspp: ASPP, **kwargs):
        """
        Args:
            in_feature: name of the feature map.
            kwargs: width (of the classifier's input), num_classes, common_stride, loss_weight, loss_type,
                ignore_value, pnm.
        """
        super().__init__(**kwargs)
        self.in_feature, self.aspp = in_feature, aspp

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.SEM_SEG_HEAD
        if len(head.IN_FEATURES) != 1:
            raise UserError(f"DeepLabV3 takes one of MODEL.SEM_SEG_HEAD.IN_FEATURES, got {list(head.IN_FEATURES)}")
        (name,) = head.IN_FEATURES
        aspp = _aspp(cfg, input_shape[name].channels, head.COMMON_STRIDE)
        return {**cls.common_arguments(cfg), "in_feature": name, "aspp": aspp, "width": head.ASPP_CHANNELS}

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.predictor(self.aspp(features[self.in_feature]))


class DeepLabV3PlusHead(_DeepLabHead):
    """ASPP on the coarsest feature map, joined by finer ones from coarse to fine."""

    @configurable
    def __init__(self, *, in_features: Sequence[str], decoder: nn.ModuleDict, **kwargs):
        """
        Args:
            in_features: names from fine to coarse.
            decoder: for each a ModuleDict of ``project_conv`` (ASPP for the last) and, but for the last, ``fuse_conv``.
            kwargs: as for :class:`DeepLabV3Head`.
        """
        super().__init__(**kwargs)
        self.in_features = list(in_features)
        self.decoder: Any = decoder  # stages that are indexed by name, twice

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.SEM_SEG_HEAD
        names = sorted(head.IN_FEATURES, key=lambda name: input_shape[name].stride)
        if len(head.PROJECT_CHANNELS) != len(names) - 1:
            raise UserError(
                f"MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS is {list(head.PROJECT_CHANNELS)}, expected one width for each of "
                f"{names[:-1]}"
            )
        shape = input_shape[names[-1]]
        stages = {names[-1]: nn.ModuleDict({"project_conv": _aspp(cfg, shape.channels, shape.stride)})}
        coarser = head.ASPP_CHANNELS
        for name, width in zip(reversed(names[:-1]), reversed(list(head.PROJECT_CHANNELS))):
            project = _conv(input_shape[name].channels, width, 1, head.NORM)
            fuse = _fuse(width + coarser, head.CONVS_DIM, head.NORM, head.USE_DEPTHWISE_SEPARABLE_CONV)
            stages[name] = nn.ModuleDict({"project_conv": project, "fuse_conv": fuse})
            coarser = head.CONVS_DIM
        decoder = nn.ModuleDict({name: stages[name] for name in names})
        return {**cls.common_arguments(cfg), "in_features": names, "decoder": decoder, "width": coarser}

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        *finer, coarsest = self.in_features
        x = self.decoder[coarsest]["project_conv"](features[coarsest])
        for name in reversed(finer):
            own = self.decoder[name]["project_conv"](features[name])
            x = F.interpolate(x, size=own.shape[-2:], mode="bilinear", align_corners=False)
            x = self.decoder[name]["fuse_conv"](torch.cat([own, x], dim=1))
        return self.predictor(x)


def _conv(channels: int, width: int, size: int, norm: str | Callable) -> Conv2d:
    conv = Conv2d(
        channels,
        width,
        size,
        padding=size // 2,
        bias=not norm,
        norm=get_norm(norm, width),
        activation=F.relu,
    )
    c2_xavier_fill(conv)
    return conv


def _fuse(channels: int, width: int, norm: str | Callable, separable: bool) -> nn.Module:
    """Two 3x3 convolutions, or one separable 5x5 with the same field of view."""
    if not separable:
        return nn.Sequential(_conv(channels, width, 3, norm), _conv(width, width, 3, norm))
    options = {"norm1": norm, "activation1": F.relu, "norm2": norm, "activation2": F.relu}
    return DepthwiseSeparableConv2d(channels, width, 5, padding=2, **options)


class DeepLabStem(CNNBlockBase):
    """Three 3x3 convolutions and max pooling, in place of a ResNet's 7x7 one; stride 4."""

    def __init__(self, in_channels: int = 3, out_channels: int = 128, norm: str | Callable = "BN"):
        super().__init__(in_channels, out_channels, 4)
        half = out_channels // 2
        for number, (channels, width) in enumerate(((in_channels, half), (half, half), (half, out_channels)), 1):
            stride = 2 if number == 1 else 1
            conv = Conv2d(channels, width, 3, stride=stride, padding=1, bias=False, norm=get_norm(norm, width))
            c2_msra_fill(conv)
            self.add_module(f"conv{number}", conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, out_channels, H / 4, W / 4)."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


@BACKBONE_REGISTRY.register()
def build_atrous_resnet_backbone(cfg, input_shape: ShapeSpec) -> ResNet:
    """ResNet-50, -101 or -152 that keeps its resolution by dilation; Detectron2's "build_resnet_deeplab_backbone".

    Output stride 16 with ``MODEL.RESNETS.RES5_DILATION`` 2, and 8 with ``RES4_DILATION`` 2 and ``RES5_DILATION`` 4.

    Raises:
        UserError: another depth or combination of dilations, or another stem.
    """
    options = cfg.MODEL.RESNETS
    dilations = (1, 1, options.RES4_DILATION, options.RES5_DILATION)
    stems = {"basic": BasicStem, "deeplab": DeepLabStem}
    if dilations[2:] not in ((1, 1), (1, 2), (2, 4)) or options.DEPTH not in _BLOCKS or options.STEM_TYPE not in stems:
        raise UserError(
            f"the atrous ResNet takes DEPTH {sorted(_BLOCKS)}, (RES4_DILATION, RES5_DILATION) (1, 1), (1, 2) or "
            f"(2, 4), STEM_TYPE {sorted(stems)}; got {options.DEPTH}, {dilations[2:]}, {options.STEM_TYPE!r}"
        )
    width = options.STEM_OUT_CHANNELS
    stem = stems[options.STEM_TYPE](in_channels=input_shape.channels, out_channels=width, norm=options.NORM)
    last = max(int(name.removeprefix("res")) for name in options.OUT_FEATURES if name != "stem")
    stages = []
    for index, (blocks, dilation) in enumerate(zip(_BLOCKS[options.DEPTH][: last - 1], dilations)):
        grid = list(options.RES5_MULTI_GRID) if index == 3 else [1] * blocks
        first_stride = 1 if index == 0 or dilation > 1 else 2
        out_width = options.RES2_OUT_CHANNELS * 2**index
        stages.append(
            ResNet.make_stage(
                BottleneckBlock,
                blocks,
                in_channels=width,
                out_channels=out_width,
                bottleneck_channels=options.NUM_GROUPS * options.WIDTH_PER_GROUP * 2**index,
                num_groups=options.NUM_GROUPS,
                norm=options.NORM,
                stride_in_1x1=options.STRIDE_IN_1X1,
                stride_per_block=[first_stride] + [1] * (blocks - 1),
                dilation_per_block=[dilation * factor for factor in grid],
            )
        )
        width = out_width
    return ResNet(stem, stages, out_features=options.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
