"""Encoders of segmentation-models-pytorch and timm as Detectron2 backbones."""

import difflib
from typing import Any

import torch
from detectron2.modeling import Backbone
from torch import nn

from pnm.errors import UserError

from .blocks import pretrained_weights_error

NODE = "MODEL.SEMANTIC_NETWORK"
STAGES = ("res2", "res3", "res4", "res5")
FINEST_STRIDE = 4


def _encoder(name: str, weights: str, output_stride: int) -> nn.Module:
    """The library's encoder, with a list of six feature maps: image, stem and four stages."""
    from segmentation_models_pytorch.encoders import get_encoder

    # HRNet's own features instead of those that its ImageNet classifier widens.
    options = {"feature_location": ""} if is_hrnet(name) else {}
    pretrained = (True if name.startswith("tu-") else weights) if weights else None
    return get_encoder(name, depth=5, weights=pretrained, output_stride=output_stride, **options)


def is_hrnet(name: str) -> bool:
    """Whether it keeps all resolutions side by side, as FCN's head on it wants to know."""
    return name.startswith("tu-hrnet")


def _check_encoder_name(name: str) -> None:
    try:
        import segmentation_models_pytorch
        import timm
    except ImportError as error:
        raise UserError(
            f"PNMSemanticNetwork needs segmentation-models-pytorch and timm ({error}): "
            "pip install segmentation-models-pytorch timm"
        ) from error

    known = [*segmentation_models_pytorch.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
    if name.split(".")[0] not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(near)}?" if near else "resnet50, mit_b2 and tu-hrnet_w48 are some"
        raise UserError(f"{NODE}.ENCODER {name!r} is no encoder of segmentation-models-pytorch or timm; {advice}")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _explain(name: str, weights: str, output_stride: int, error: Exception) -> UserError:
    """Which of the three the encoder could not be built with; found out by leaving them away one by one."""
    cause = _one_line(error)
    try:
        _encoder(name, "", output_stride)
    except Exception:  # whatever a library raises for what it doesn't support
        advice = f"set {NODE}.OUTPUT_STRIDE 32" if output_stride != 32 else "take another encoder"
        return UserError(f"{NODE}.ENCODER {name} cannot be built at output stride {output_stride}; {advice} ({cause})")
    of_encoder = f"weights {weights!r} of {NODE}.ENCODER {name}"
    return pretrained_weights_error(of_encoder, error, f"{NODE}.ENCODER_WEIGHTS ''")


def _check_features(backbone: "EncoderBackbone", name: str) -> None:
    """Encoders for one image size, and those without four stages, are told now and not in the first iteration."""
    size = (64, 96)  # no encoder's own, and not square
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, 3, *size))
        shapes: object = {key: tuple(value.shape[1:]) for key, value in features.items()}
    except Exception as error:  # whatever a library raises for an input it cannot take
        shapes = _one_line(error)
    backbone.train()
    expected = {
        key: (s.channels, size[0] // s.stride, size[1] // s.stride) for key, s in backbone.output_shape().items()
    }
    if shapes != expected:
        raise UserError(
            f"{NODE}.ENCODER {name} does not give four stages at strides 4 to 32 (OUTPUT_STRIDE at most) for images "
            f"of any size; take another encoder (expected {expected}, got {shapes})"
        )


class EncoderBackbone(Backbone):
    """An encoder of segmentation-models-pytorch as a Detectron2 backbone with features res2 to res5."""

    encoder: Any

    def __init__(self, name: str, weights: str = "", output_stride: int = 32):
        """
        Args:
            name, weights, output_stride: ``MODEL.SEMANTIC_NETWORK``'s ENCODER, ENCODER_WEIGHTS, OUTPUT_STRIDE.

        Raises:
            UserError: no such encoder, one that cannot be dilated or has other stages, weights that cannot be had.
        """
        super().__init__()
        _check_encoder_name(name)
        try:
            self.encoder = _encoder(name, weights, output_stride)
        except Exception as error:
            raise _explain(name, weights, output_stride, error) from error
        strides = [min(FINEST_STRIDE * 2**index, output_stride) for index in range(len(STAGES))]
        self._out_features, self._out_feature_strides = list(STAGES), dict(zip(STAGES, strides))
        self._out_feature_channels = dict(zip(STAGES, list(self.encoder.out_channels)[2:]))
        _check_features(self, name)

    @property
    def size_divisibility(self) -> int:
        """32: every stage halves a whole number of pixels."""
        return 32

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, 3, H, W) images to the features of the four stages by name."""
        return dict(zip(STAGES, self.encoder(x)[2:]))
