"""Offsets that a SegFix model makes of images, kept in a folder."""

import hashlib
from pathlib import Path
from typing import Protocol

import torch
from detectron2.config import CfgNode

from pnm.interior_offsets.field import InteriorOffsets
from pnm.interior_offsets.stored import OffsetSource, open_offsets
from pnm.predictions.offset_refiner import OffsetRefiner


class PredictsOffsets(Protocol):
    """A model that makes offsets of an image (3, H, W) uint8."""

    def offsets(self, image: torch.Tensor) -> InteriorOffsets: ...


def offset_source(cfg: CfgNode, weights: str) -> OffsetSource:
    """What tells the offsets of a config from others, and how it uses them.

    Args:
        weights: digest of the model's weights.
    """
    node, model = cfg.MODEL.SEGFIX, cfg.MODEL
    parts = (
        weights,
        node.NETWORK,
        node.HEAD_CHANNELS,
        node.AMP_TEST,
        node.PRECISION_TEST,
        model.PIXEL_MEAN,
        model.PIXEL_STD,
    )
    digest = hashlib.sha256(repr((*parts, cfg.INPUT.FORMAT)).encode()).hexdigest()
    return OffsetSource(digest, node.BINS, node.BOUNDARY_THRESHOLD, node.SCALE, node.STEPS)


class OffsetStore:
    """See :class:`..refining.model.ImageStore`.

    Raises:
        UserError: the folder has offsets of another model.
    """

    def __init__(self, model: PredictsOffsets, folder: Path, source: OffsetSource):
        self._model, self._source = model, source
        self._stored = open_offsets(folder, source)

    def has(self, image_file: Path) -> bool:
        return self._stored.has(image_file)

    def make(self, image_file: Path, image: torch.Tensor) -> None:
        self._stored.add(image_file, self._model.offsets(image))

    def step(self) -> OffsetRefiner:
        return OffsetRefiner(self._stored, self._source)
