"""From a network's output for one image to a panoptic map (PRN, section 3.5), with bounded memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from pnm.panoptic_grouping.encoding import InstanceFields
from pnm.panoptic_grouping.grouping import GroupingSettings, Instances, group_pixels
from pnm.panoptic_grouping.merging import (
    NO_CLASS,
    PixelVotes,
    instance_classes,
    merge_segments,
    resized_labels,
    small_stuff,
    without_holes,
)
from pnm.panoptic_grouping.panoptic_map import PanopticMap

from ..refining import cpu_precision
from .config import grouping_settings
from .networks import FIRST_STRIDE, Fields, resized_strips

_NEVER = -1e6  # logit of a class that is not to be had; infinity times 0 is no number


@dataclass(frozen=True)
class InferenceSettings:
    """What becomes of a network's output; see the keys."""

    grouping: GroupingSettings
    resize: T.Augmentation
    sigma_px: float = 8.0
    foreground: str = "branch"
    stuff_area_px: int = 4096
    fill_holes: bool = True
    strip_rows: int = 64
    amp: bool = False
    strength: float = 1.0
    precision: str = "float32"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "InferenceSettings":
        node = cfg.MODEL.PRN
        return cls(
            grouping_settings(cfg),
            T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST),
            node.SIGMA,
            node.FOREGROUND,
            node.STUFF_AREA_LIMIT,
            node.FILL_HOLES,
            node.STRIP_ROWS,
            node.AMP_TEST,
            cfg.MODEL.REFINING_STRENGTH,
            cpu_precision(cfg, "PRN"),
        )


class Predicted(NamedTuple):
    """What the network says of one image.

    Attributes:
        fields: of a batch of one, padded.
        logits: (K, h / 4, w / 4) of classes, padded.
        size: (height, width) of the image within them, px.
    """

    fields: Fields
    logits: torch.Tensor
    size: tuple[int, int]


def instances_of(predicted: Predicted, things: int, settings: InferenceSettings) -> tuple[Instances, np.ndarray]:
    """Grouped pixels of an image and its foreground, (h, w) bool, at the network's size."""
    (fields, logits, size), (height, width) = predicted, predicted.size
    foreground = fields.foreground_logits[0, :height, :width] > 0
    if settings.foreground == "semantic":
        strips = resized_strips(logits, (1 / FIRST_STRIDE, 1 / FIRST_STRIDE), size, settings.strip_rows)
        foreground = torch.cat([strip.argmax(0) < things for _, strip in strips])
    heat, offsets = (part[0, ..., :height, :width].cpu().numpy() for part in (fields.heat, fields.offsets))
    mask = foreground.cpu().numpy()
    return group_pixels(InstanceFields(heat, offsets[:2], offsets[2:]), mask, settings.grouping), mask


def merged_map(predicted: Predicted, was_segment: np.ndarray, things: int, settings: InferenceSettings) -> PanopticMap:
    """The panoptic map at the size of the image.

    Args:
        was_segment: (H, W) bool, pixels that are not void in the map that is refined: with ``fill_holes`` they don't
            become it, unless there is no segment at all.
        things: T, number of thing classes.
    """
    grouped, mask = instances_of(predicted, things, settings)
    height, width = was_segment.shape
    output = height, width
    foreground = _foreground_at(predicted, mask, output, settings)
    labels = resized_labels(grouped.labels, foreground, mask)
    votes = _votes(predicted, output, things, settings.strip_rows)
    classes = instance_classes(labels, len(grouped.centers), votes, things=things)
    stuff, dropped = votes.stuff, small_stuff(labels, votes.stuff, settings.stuff_area_px)
    if not settings.fill_holes:
        stuff = np.where(np.isin(stuff, list(dropped)) | (foreground & (labels == 0)), NO_CLASS, stuff)
    elif dropped:
        stuff = _votes(predicted, output, things, settings.strip_rows, without=dropped).stuff
    merged = merge_segments(labels, classes.tolist(), stuff)
    return without_holes(merged, was_segment) if settings.fill_holes else merged


def _foreground_at(
    predicted: Predicted, mask: np.ndarray, output: tuple[int, int], settings: InferenceSettings
) -> np.ndarray:
    """(H, W) bool, the foreground ``mask`` (h, w) of the network's size at that of the image."""
    height, width = predicted.size
    if (height, width) == output:
        return mask
    logits = predicted.fields.foreground_logits[:, :height, :width]
    if settings.foreground == "semantic":
        logits = torch.from_numpy(mask).to(logits)[None] - 0.5
    strips = resized_strips(logits, (height / output[0], width / output[1]), output, settings.strip_rows)
    return torch.cat([strip[0] > 0 for _, strip in strips]).cpu().numpy()


def _votes(
    predicted: Predicted, output: tuple[int, int], things: int, rows: int, without: Iterable[int] = ()
) -> PixelVotes:
    """Most probable thing and stuff class of each pixel of the image, never all logits at that size.

    Args:
        rows: that are looked at together.
        without: stuff classes that are not to be had.
    """
    logits = predicted.logits.clone()
    logits[list(without)] = _NEVER
    scale = [size / other / FIRST_STRIDE for size, other in zip(predicted.size, output)]
    parts = []
    for _, strip in resized_strips(logits, (scale[0], scale[1]), output, rows):
        best, thing = strip[:things].max(0)
        probs = (best - strip.logsumexp(0)).exp()
        has_stuff = strip.shape[0] > things
        stuff = strip[things:].argmax(0) + things if has_stuff else torch.full_like(thing, NO_CLASS)
        parts.append([part.cpu() for part in (thing.short(), probs, stuff.short())])
    return PixelVotes(*(torch.cat(strips).numpy() for strips in zip(*parts, strict=True)))
