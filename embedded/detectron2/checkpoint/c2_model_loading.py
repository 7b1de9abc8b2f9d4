"""Foreign checkpoints: parameter names of Caffe2's Detectron, and names that lack the model's prefixes.

A Caffe2 name is a layer and a kind of parameter, joined by ``_``: ``res2_0_branch2a_bn_s`` is the scale of
the first convolution's norm in the first block of stage 2. Both halves are translated by tables of patterns.
"""

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

__all__ = ["align_and_update_state_dicts", "convert_basic_c2_names", "convert_c2_detectron_names"]

logger = logging.getLogger(__name__)

# how a name ends -> parameter within the layer
_KINDS = [
    (r"_w", "weight"),
    (r"_b", "bias"),
    (r"_[bg]n_(s|gamma)", "norm.weight"),
    (r"_[bg]n_(b|beta)", "norm.bias"),
    (r"_bn_(rm|running_mean)", "norm.running_mean"),
    (r"_bn_(riv|running_var)", "norm.running_var"),
]

_BACKBONE = [
    (r"(res_)?conv1", "stem.conv1"),
    (r"res(\d+)_(\d+)_branch1", r"res\1.\2.shortcut"),
    (r"res(\d+)_(\d+)_branch2a", r"res\1.\2.conv1"),
    (r"res(\d+)_(\d+)_branch2b", r"res\1.\2.conv2"),
    (r"res(\d+)_(\d+)_branch2c", r"res\1.\2.conv3"),
    (r"pred", "linear"),
]

# RPN weights carry the name of level 2 and serve all levels
_DETECTOR = [
    (r"fpn_inner_res(\d+)_\d+_sum(_lateral)?", r"fpn_lateral\1"),
    (r"fpn_res(\d+)_\d+_sum", r"fpn_output\1"),
    (r"conv_rpn(_fpn2)?", "proposal_generator.rpn_head.conv"),
    (r"rpn_bbox_pred(_fpn2)?", "proposal_generator.rpn_head.anchor_deltas"),
    (r"rpn_cls_logits(_fpn2)?", "proposal_generator.rpn_head.objectness_logits"),
    (r"bbox_pred", "bbox_pred"),
    (r"cls_score", "cls_score"),
    (r"fc6", "box_head.fc1"),
    (r"fc7", "box_head.fc2"),
    (r"head_conv(\d+)", r"box_head.conv\1"),
    (r"_(?:\[mask\]|mask)_fcn(\d+)", r"mask_head.mask_fcn\1"),
    (r"mask_fcn_logits", "mask_head.predictor"),
    (r"conv5_mask", "mask_head.deconv"),
]


def _first_match(text: str, rules: list[tuple[str, str]]) -> str | None:
    matches = ((re.fullmatch(pattern, text), target) for pattern, target in rules)
    return next((match.expand(target) for match, target in matches if match), None)


def _translate(name: str, layers: list[tuple[str, str]]) -> str:
    """A Caffe2 name in Detectron2's terms; what no rule knows keeps its words, joined by dots."""
    for ending, kind in sorted(_KINDS, key=lambda rule: -len(rule[0])):
        match = re.fullmatch(rf"(?P<layer>.+?){ending}", name)
        if match:
            layer = match["layer"]
            return f"{_first_match(layer, layers) or layer.replace('_', '.')}.{kind}"
    return name.replace("_", ".")


def convert_basic_c2_names(original_keys: list[str]) -> list[str]:
    """Translates the names of a Caffe2 classification network (ResNet or ResNeXt)."""
    return [_translate(key, _BACKBONE) for key in original_keys]


def _background_last(scores: torch.Tensor) -> torch.Tensor:
    return torch.roll(scores, -1, dims=0)


# Caffe2 puts background first and also gives it a box (4 rows) and a mask (1 row)
_REORDERED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls_score.": _background_last,
    "bbox_pred.": lambda rows: rows[4:],
    "mask_head.predictor.": lambda rows: rows[1:],
}


def convert_c2_detectron_names(
    weights: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Translates names and class order of a Caffe2 detector.

    Returns:
        The weights by Detectron2 name, and the Caffe2 name of each.

    Raises:
        ValueError: two weights would get the same name.
    """
    converted: dict[str, torch.Tensor] = {}
    origin: dict[str, str] = {}
    for old in sorted(weights):
        new = _translate(old, _DETECTOR + _BACKBONE)
        if new in origin:
            raise ValueError(f"Caffe2 weights {origin[new]} and {old} would both be called {new}")
        reorder = next((change for start, change in _REORDERED.items() if new.startswith(start)), None)
        converted[new] = reorder(weights[old]) if reorder else weights[old]
        origin[new] = old
    return converted, origin


def _suffixes(name: str) -> Iterator[str]:
    """``a.b.c``, ``b.c``, ``c``."""
    while name:
        yield name
        name = name.partition(".")[2]


def align_and_update_state_dicts(
    model_state_dict: dict[str, torch.Tensor], ckpt_state_dict: dict[str, Any], c2_conversion: bool = True
) -> dict[str, Any]:
    """Renames checkpoint weights to the model's names by their endings.

    A model weight takes the checkpoint weight with the longest name that is a whole-word ending of its own
    (``backbone.bottom_up.res2.0.conv1.weight`` takes ``res2.0.conv1.weight`` before ``conv1.weight``). Weights of
    another shape are left under their old names, and so are unused ones.

    Args:
        c2_conversion: the names are Caffe2's and are translated first.

    Raises:
        ValueError: one checkpoint weight fits two model weights.
    """
    origin: dict[str, str] = {}
    if c2_conversion:
        ckpt_state_dict, origin = convert_c2_detectron_names(ckpt_state_dict)
    taken: dict[str, str] = {}
    aligned: dict[str, Any] = {}
    for wanted in sorted(model_state_dict):
        found = next((ending for ending in _suffixes(wanted) if ending in ckpt_state_dict), None)
        if found is None:
            continue
        shapes = tuple(ckpt_state_dict[found].shape), tuple(model_state_dict[wanted].shape)
        if shapes[0] != shapes[1]:
            logger.warning("%s has shape %s and does not fit %s of shape %s", found, shapes[0], wanted, shapes[1])
            continue
        if found in taken:
            raise ValueError(f"{found} of the checkpoint fits both {taken[found]} and {wanted} of the model")
        taken[found] = wanted
        aligned[wanted] = ckpt_state_dict[found]
    if not taken:
        logger.warning("not one of the checkpoint's %d weights fits the model by name", len(ckpt_state_dict))
        return ckpt_state_dict
    for old, new in taken.items():
        logger.debug("%s <- %s", new, origin.get(old, old))
    logger.info("%d of the checkpoint's %d weights fit the model by name", len(taken), len(ckpt_state_dict))
    return aligned | {key: value for key, value in ckpt_state_dict.items() if key not in taken}
