"""ResNet (He et al., 2016) and ResNeXt (Xie et al., 2017), with the parameter names of Detectron2's model zoo."""

from collections.abc import Callable, Sequence

import torch
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn
from torch.nn import functional as F

from ..unsupported_settings import reject_setting
from .backbone import Backbone
from .build import BACKBONE_REGISTRY

__all__ = [
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "ResNet",
    "ResNetBlockBase",
    "build_resnet_backbone",
    "make_stage",
]

ResNetBlockBase = CNNBlockBase

_BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
Norm = str | Callable


def _conv(in_channels: int, out_channels: int, size: int, norm: Norm, rate: int = 1, **kwargs) -> Conv2d:
    """A convolution without bias that keeps the size at stride 1, with its normalisation."""
    kwargs.update(padding=rate * (size // 2), dilation=rate, norm=get_norm(norm, out_channels))
    return Conv2d(in_channels, out_channels, size, bias=False, **kwargs)


class _ResidualBlock(CNNBlockBase):
    """``relu(branch(x) + shortcut(x))``, where the branch is a chain of convolutions with ReLU in between."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm):
        super().__init__(in_channels, out_channels, stride)
        widens = in_channels != out_channels
        self.shortcut = _conv(in_channels, out_channels, 1, norm, stride=stride) if widens else None

    def _set_branch(self, *convs: Conv2d) -> None:
        """Registers the chain as conv1, conv2, … and initialises it, then the shortcut."""
        for number, conv in enumerate(convs, 1):
            self.add_module(f"conv{number}", conv)
        self._branch_names = [f"conv{number + 1}" for number in range(len(convs))]
        for conv in filter(None, (*convs, self.shortcut)):
            c2_msra_fill(conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *inner, last = self._branch_names
        branch = x
        for name in inner:
            branch = F.relu_(self._modules[name](branch))
        branch = self._modules[last](branch)
        branch += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(branch)


class BasicBlock(_ResidualBlock):
    """Two 3×3 convolutions, as in ResNet-18 and -34. The first has the stride."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm = "BN"):
        super().__init__(in_channels, out_channels, stride, norm)
        self._set_branch(
            _conv(in_channels, out_channels, 3, norm, stride=stride), _conv(out_channels, out_channels, 3, norm)
        )


class BottleneckBlock(_ResidualBlock):
    """1×1, 3×3 and 1×1 convolutions, as in ResNet-50 and deeper, and in ResNeXt."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ):
        """
        Args:
            bottleneck_channels: width of the 3×3 convolution.
            num_groups: its groups (above 1 in ResNeXt).
            stride_in_1x1: the first 1×1 convolution has the stride (MSRA's models) instead of the 3×3.
            dilation: of the 3×3 convolution.
        """
        super().__init__(in_channels, out_channels, stride, norm)
        first_stride, middle_stride = (stride, 1) if stride_in_1x1 else (1, stride)
        width = bottleneck_channels
        self._set_branch(
            _conv(in_channels, width, 1, norm, stride=first_stride),
            _conv(width, width, 3, norm, rate=dilation, stride=middle_stride, groups=num_groups),
            _conv(width, out_channels, 1, norm),
        )


class BasicStem(CNNBlockBase):
    """A 7×7 convolution and a max pooling, each of stride 2."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: Norm = "BN"):
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv(in_channels, out_channels, 7, norm, stride=2)
        c2_msra_fill(self.conv1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """A stem and stages ``res2`` … ``res5``, optionally with a classifier ``linear``."""

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Sequence[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ):
        """
        Args:
            stages: blocks of each stage; stages behind the last output feature are dropped.
            num_classes: width of the classifier; None for none.
            out_features: names among stem, res2 … res5, linear; by default the last.
            freeze_at: see :meth:`freeze`.

        Raises:
            ValueError: for an unknown output feature.
        """
        super().__init__()
        self.stem = stem
        self.num_classes = num_classes
        names = [f"res{number}" for number in range(2, 2 + len(stages))]
        if out_features is not None:
            depth = max((names.index(name) + 1 for name in out_features if name in names), default=0)
            names = names[:depth]
        self.stage_names = tuple(names)
        self._out_feature_strides, self._out_feature_channels = {"stem": stem.stride}, {"stem": stem.out_channels}
        self.stages = [self._add_stage(name, blocks) for name, blocks in zip(names, stages)]
        self._add_classifier()

        available = [name for name, _ in self.named_children() if name != "avgpool"]
        self._out_features = list(out_features or available[-1:])
        if not set(self._out_features) <= set(available):
            raise ValueError(f"this ResNet has the features {available}, got out_features {self._out_features}")
        self.freeze(freeze_at)

    def _add_stage(self, name: str, blocks: Sequence[CNNBlockBase]) -> nn.Sequential:
        stride = list(self._out_feature_strides.values())[-1]
        for block in blocks:
            stride *= block.stride
        self._out_feature_strides[name], self._out_feature_channels[name] = stride, blocks[-1].out_channels
        self.add_module(name, nn.Sequential(*blocks))
        return self._modules[name]

    def _add_classifier(self) -> None:
        if self.num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.linear = nn.Linear(list(self._out_feature_channels.values())[-1], self.num_classes)
            nn.init.normal_(self.linear.weight, std=0.01)  # Goyal et al., 2017, Sec. 5.1

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) images to the output features by name.

        Raises:
            ValueError: when ``x`` has no 4 axes.
        """
        if x.dim() != 4:
            raise ValueError(f"ResNet needs images of shape (N, C, H, W), got {tuple(x.shape)}")
        features = {}
        for name, layer in zip(("stem", *self.stage_names), (self.stem, *self.stages)):
            x = features[name] = layer(x)
        if self.num_classes is not None:
            features["linear"] = self.linear(self.avgpool(x).flatten(1))
        return {name: value for name, value in features.items() if name in self._out_features}

    def freeze(self, freeze_at: int = 0) -> "ResNet":
        """Freezes the stem (from 1 on), ``res2`` (from 2 on) and so forth; see :meth:`CNNBlockBase.freeze`."""
        parts = [[self.stem], *self.stages]
        for part in parts[: max(freeze_at, 0)]:
            for block in part:
                block.freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase], num_blocks: int, *, in_channels: int, out_channels: int, **kwargs
    ) -> list[CNNBlockBase]:
        """Blocks of one stage, all ``out_channels`` wide.

        Args:
            kwargs: for every block alike; an argument ``<name>_per_block`` is a list with one ``<name>`` for each.

        Raises:
            ValueError: for such a list of another length, or given together with its plain name.
        """
        per_block = {
            key.removesuffix("_per_block"): kwargs.pop(key) for key in list(kwargs) if key.endswith("_per_block")
        }
        for name, values in per_block.items():
            if len(values) != num_blocks or name in kwargs:
                raise ValueError(f"{name}_per_block needs {num_blocks} values and excludes {name}, got {values}")
        widths = [in_channels] + [out_channels] * (num_blocks - 1)
        return [
            block_class(
                in_channels=width,
                out_channels=out_channels,
                **kwargs,
                **{name: values[index] for name, values in per_block.items()},
            )
            for index, width in enumerate(widths)
        ]

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs
    ) -> list[list[CNNBlockBase]]:
        """The four stages of a standard ResNet of that depth; ``kwargs`` go to every block."""
        basic = depth < 50
        block_class = block_class or (BasicBlock if basic else BottleneckBlock)
        stages, width = [], 64
        for index, num_blocks in enumerate(_BLOCKS_PER_STAGE[depth]):
            out_width = 64 * 2**index * (1 if basic else 4)
            bottleneck = {} if basic else {"bottleneck_channels": out_width // 4}
            strides = [1 if index == 0 else 2] + [1] * (num_blocks - 1)
            options = {**kwargs, **bottleneck, "stride_per_block": strides}
            stages.append(
                ResNet.make_stage(block_class, num_blocks, in_channels=width, out_channels=out_width, **options)
            )
            width = out_width
        return stages


def make_stage(*args, **kwargs) -> list[CNNBlockBase]:
    """:meth:`ResNet.make_stage`."""
    return ResNet.make_stage(*args, **kwargs)


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg, input_shape: ShapeSpec) -> ResNet:
    """A ResNet or ResNeXt from ``cfg.MODEL.RESNETS``, frozen up to ``cfg.MODEL.BACKBONE.FREEZE_AT``."""
    options = cfg.MODEL.RESNETS
    _check_resnet_options(options)
    basic, width = options.DEPTH < 50, options.STEM_OUT_CHANNELS
    stem = BasicStem(in_channels=input_shape.channels, out_channels=width, norm=options.NORM)
    stages = []
    for index, num_blocks in enumerate(_BLOCKS_PER_STAGE[options.DEPTH]):
        dilation = options.RES5_DILATION if index == 3 else 1
        first_stride = 1 if index == 0 or dilation == 2 else 2
        kwargs = {"norm": options.NORM, "stride_per_block": [first_stride] + [1] * (num_blocks - 1)}
        if not basic:
            kwargs |= {
                "bottleneck_channels": options.NUM_GROUPS * options.WIDTH_PER_GROUP * 2**index,
                "num_groups": options.NUM_GROUPS,
                "stride_in_1x1": options.STRIDE_IN_1X1,
                "dilation": dilation,
            }
        out_width = options.RES2_OUT_CHANNELS * 2**index
        block_class = BasicBlock if basic else BottleneckBlock
        stages.append(make_stage(block_class, num_blocks, in_channels=width, out_channels=out_width, **kwargs))
        width = out_width
    return ResNet(stem, stages, out_features=options.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)


def _check_resnet_options(options) -> None:
    if options.DEPTH not in _BLOCKS_PER_STAGE:
        raise ValueError(f"MODEL.RESNETS.DEPTH is one of {sorted(_BLOCKS_PER_STAGE)}, got {options.DEPTH}")
    if options.RES5_DILATION not in (1, 2):
        raise ValueError(f"MODEL.RESNETS.RES5_DILATION is 1 or 2, got {options.RES5_DILATION}")
    if any(options.DEFORM_ON_PER_STAGE):
        reject_setting(f"MODEL.RESNETS.DEFORM_ON_PER_STAGE {list(options.DEFORM_ON_PER_STAGE)}")
    if options.DEPTH < 50:
        for key, only in (("RES2_OUT_CHANNELS", 64), ("RES5_DILATION", 1), ("NUM_GROUPS", 1)):
            if options[key] != only:
                raise ValueError(f"ResNet-{options.DEPTH} needs MODEL.RESNETS.{key} {only}, got {options[key]}")
