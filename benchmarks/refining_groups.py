"""Coarse masks of real photographs in groups, and what a refiner makes of each group.

A refiner is a function ``(image (H, W, 3) uint8 RGB, mask (H, W) bool) -> (H, W) bool``.
"""

import functools
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from coarsening import KINDS
from real_masks import SOURCES, RealMask, boundary_px, read_rgb
from tqdm import tqdm

from pnm.errors import UserError

SEED = 16
QUICK_OBJECTS = 12  # of each source
NOTABLE = 0.005  # an IoU that changes by more has got better or worse
VOC_VOID = (224, 224, 192)
Refiner = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Case(NamedTuple):
    """A mask to refine: a rectangle of an image.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        coarse, truth, ignored: (H, W) bool; no truth is known where ``ignored``.
        name: of the object.
        boundary_px: width of the boundary that Boundary IoU counts.
    """

    image: np.ndarray
    coarse: np.ndarray
    truth: np.ndarray
    ignored: np.ndarray
    name: str
    boundary_px: int


class Scores(NamedTuple):
    """How well a mask agrees with the truth, 0 to 1.

    Attributes:
        iou, boundary_iou: pixels that are ignored don't count; there, the truth has no object.
        lenient: Boundary IoU if the truth is what the mask says wherever it isn't known. Where a band along the whole
            contour is ignored, as in PASCAL VOC, the other one asks for a mask that ends before the band.
    """

    iou: float
    boundary_iou: float
    lenient: float


class Row(NamedTuple):
    """A group in percent: means over objects, and shares of objects; ``seconds`` of all of them."""

    group: str
    objects: int
    iou: float
    boundary_iou: float
    boundary_iou_refined: float
    boundary_iou_gain: float
    iou_gain: float
    loses_iou: float
    loses_boundary_iou: float
    gains_boundary_iou: float
    lenient: float
    lenient_gain: float
    seconds: float


def _ratio(a: np.ndarray, b: np.ndarray, counted: np.ndarray) -> float:
    """1 if neither has a pixel that counts."""
    union = np.count_nonzero((a | b) & counted)
    return np.count_nonzero(a & b & counted) / union if union else 1.0


def boundary(mask: np.ndarray, px: int) -> np.ndarray:
    """(H, W) bool: what an erosion by a square of 2 px + 1 takes away (Cheng et al., "Boundary IoU", CVPR 2021)."""
    square = np.ones((2 * px + 1, 2 * px + 1), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (inside == 0)


def scores(case: Case, mask: np.ndarray) -> Scores:
    counted = ~case.ignored
    edge, known = boundary(mask, case.boundary_px), case.truth & counted
    strict = _ratio(edge, boundary(known, case.boundary_px), counted)
    lenient = strict
    if case.ignored.any():
        lenient = _ratio(edge, boundary(np.where(case.ignored, mask, known), case.boundary_px), counted)
    return Scores(_ratio(mask, known, counted), strict, lenient)


def coarse_case(one: RealMask, kind: str) -> Case:
    """The same coarse mask whichever other objects there are."""
    rng = np.random.default_rng((SEED, zlib.crc32(f"{one.name} {kind}".encode())))
    return Case(one.image, KINDS[kind](one.truth, rng), one.truth, one.ignored, one.name, one.boundary_px)


def drawn(objects: Sequence[RealMask], most: int) -> list[RealMask]:
    if len(objects) <= most:
        return list(objects)
    chosen = np.random.default_rng(SEED).permutation(len(objects))[:most]
    return [objects[n] for n in sorted(chosen.tolist())]


def predicted_cases(data: Path) -> list[Case]:
    """Each class of the colour-coded predictions of PASCAL VOC that the target has, too."""
    cases = []
    for path in sorted((data / "predictions/voc_deeplabv3plus").glob("*_pred.png")):
        stem = path.name.removesuffix("_pred.png")
        image, target = (read_rgb(path.with_name(f"{stem}_{kind}.png")) for kind in ("image", "target"))
        prediction = read_rgb(path)
        ignored = (target == VOC_VOID).all(axis=2)
        for color in np.unique(target[~ignored], axis=0):
            masks = [(labels == color).all(axis=2) for labels in (prediction, target)]
            if color.any() and masks[0].any():
                cases.append(Case(image, *masks, ignored, f"{stem}/{'-'.join(map(str, color))}", boundary_px(image)))
    return cases


@functools.cache
def groups(data_dir: str | Path, quick: bool = False) -> dict[str, list[Case]]:
    """Cases by group, "voc" and "SOURCE/KIND"; built once.

    Args:
        data_dir: folder with the data sets; sources that aren't there are left out.
        quick: a few objects of each source.

    Raises:
        UserError: none of the sources is there.
    """
    data = Path(data_dir)
    cases = {"voc": predicted_cases(data)}
    for source, (objects, most) in SOURCES.items():
        masks = drawn(list(objects(data)), QUICK_OBJECTS if quick else most)
        cases |= {f"{source}/{kind}": [coarse_case(one, kind) for one in masks] for kind in KINDS}
    cases = {group: members for group, members in cases.items() if members}
    if not cases:
        raise UserError(
            f"{data} has none of {', '.join(('predictions/voc_deeplabv3plus', *SOURCES))}: name their folder"
        )
    return cases


def summary(group: str, before: Sequence[Scores], after: Sequence[Scores], seconds: float) -> Row:
    a, b = np.array(before, np.float64), np.array(after, np.float64)
    gains = b - a
    mean, gain = 100 * a.mean(axis=0), 100 * gains.mean(axis=0)
    worse, better = 100 * (gains < -NOTABLE).mean(axis=0), 100 * (gains > NOTABLE).mean(axis=0)
    columns = (mean[0], mean[1], mean[1] + gain[1], gain[1], gain[0], worse[0], worse[1], better[1], mean[2], gain[2])
    return Row(group, len(a), *map(float, columns), seconds)


def measure(refiner: Refiner, cases: Mapping[str, Sequence[Case]], name: str = "") -> list[Row]:
    """A row for each group; ``name`` stands at the progress bar.

    Raises:
        UserError: the refiner returned something else than an (H, W) mask of bool.
    """
    rows = []
    with tqdm(total=sum(map(len, cases.values())), desc=name, unit="mask", mininterval=2) as bar:
        for group, members in cases.items():
            after, seconds = [], 0.0
            for case in members:
                start = time.perf_counter()
                mask = refiner(case.image, case.coarse.copy())
                seconds += time.perf_counter() - start
                if mask.shape != case.coarse.shape or mask.dtype != np.bool_:
                    raise UserError(
                        f"{name or 'the refiner'} returned {mask.shape} {mask.dtype}, expected {case.coarse.shape} bool"
                    )
                after.append(scores(case, mask))
                bar.update()
            rows.append(summary(group, [scores(case, case.coarse) for case in members], after, seconds))
    return rows
