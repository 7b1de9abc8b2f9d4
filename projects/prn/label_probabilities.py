"""How probable the class of each pixel's segment is, by what PRN's network says of the image."""

import numpy as np
import torch

from .inference import InferenceSettings, Predicted
from .networks import FIRST_STRIDE, resized_strips


def label_probabilities(
    predicted: Predicted, classes: np.ndarray, things: int, settings: InferenceSettings
) -> np.ndarray:
    """(H, W) float32: of each pixel's class, that it is a thing or not, times that it is this one of them.

    Whether a pixel is a thing is told by the foreground branch, or by the sum over the classes of things if that is
    where the foreground comes from; which one, by the softmax over things or over stuff. Of two things of a class
    nothing is told.

    Args:
        classes: (H, W) integers, indices of classes, things first; others, as void, have probability 0.
        things: T, number of thing classes.
    """
    output = classes.shape[0], classes.shape[1]
    scale = [size / other for size, other in zip(predicted.size, output)]
    height, width = predicted.size
    foreground = predicted.fields.foreground_logits[:, :height, :width]
    rows = settings.strip_rows
    pairs = zip(
        resized_strips(predicted.logits, (scale[0] / FIRST_STRIDE, scale[1] / FIRST_STRIDE), output, rows),
        resized_strips(foreground, (scale[0], scale[1]), output, rows),
        strict=True,
    )
    parts = []
    for (top, logits), (_, of_things) in pairs:
        own = torch.from_numpy(classes[top : top + logits.shape[1]].astype(np.int64)).to(logits.device)
        both = _strip(logits, own, things, None if settings.foreground == "semantic" else of_things[0])
        parts.append(both.cpu().numpy())
    return np.nan_to_num(np.concatenate(parts), nan=0.0).astype(np.float32)


def _strip(
    logits: torch.Tensor, classes: torch.Tensor, things: int, foreground_logits: torch.Tensor | None
) -> torch.Tensor:
    """(h, w): see :func:`label_probabilities`; without foreground, softmax over all classes."""
    is_known = (classes >= 0) & (classes < len(logits))
    own = logits.gather(0, classes.clamp(0, len(logits) - 1)[None])[0]
    if foreground_logits is None:
        return torch.where(is_known, (own - logits.logsumexp(0)).exp(), 0.0)
    is_thing = classes < things
    of_kind = torch.where(is_thing, logits[:things].logsumexp(0), logits[things:].logsumexp(0))
    is_kind = torch.where(is_thing, foreground_logits, -foreground_logits).sigmoid()
    return torch.where(is_known, (own - of_kind).exp() * is_kind, 0.0)
