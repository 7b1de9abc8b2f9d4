"""The belief of a trained network fitted on objects that it has not learned from: truths made coarse, refined by every
candidate, and what that gained."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pnm.masks.crops import MaskCrop
from pnm.masks.edgeless_masks import edgeless, sloppy
from pnm.object_refinement.belief import FEATURES, LOSS, THRESHOLDS, Belief, candidate_features, change_logits
from pnm.object_refinement.refining import Predict, object_box, pass_logits, scales_of
from pnm.object_refinement.training_windows import made_coarse
from pnm.object_refinement.windows import mask_pixels

_FITS, _WIDTH = 3, 32
_STEPS, _BATCH, _RATE, _DECAY = 1500, 512, 0.006, 0.02
_FEATURE_NOISE = 0.03  # deviation of what is added to normalized features
_MOST_GAIN = 6.0  # percent of IoU; more counts as that
_LEAST_AREA = 400  # px
UNCHANGED, LEAST_ERROR, EDGELESS, SLOPPY = 0.35, 0.008, 0.4, 0.5  # of masks that are made coarse


class Outcomes(NamedTuple):
    """What candidates made of N objects.

    Attributes:
        features: (N, thresholds, F) float32.
        gains: (N, thresholds) float32, of IoU.
        coarse_ious: (N,) float32.
    """

    features: np.ndarray
    gains: np.ndarray
    coarse_ious: np.ndarray


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 1.0


def outcome(predict: Predict, image: np.ndarray, truth: MaskCrop, coarse: MaskCrop) -> tuple[np.ndarray, ...]:
    """Features, gains and coarse IoU of one object in its first pass, see :class:`Outcomes`."""
    box = object_box(coarse, *image.shape[:2])
    scale = scales_of(box)[0]
    logits = pass_logits(predict, image, coarse, box, scale)
    before, true = (mask_pixels(crop, box[0], box[1], *logits.shape) for crop in (coarse, truth))
    other, own = change_logits(logits, before), _iou(before, true)
    gains = [_iou(before ^ (other > np.log(t / (1 - t))), true) - own for t in THRESHOLDS]
    return candidate_features(logits, before, scale), np.array(gains, np.float32), np.float32(own)


def outcomes(
    predict: Predict, scenes: Iterable[tuple[np.ndarray, list[MaskCrop]]], rng: np.random.Generator, draws: int = 2
) -> Outcomes:
    """Outcomes of objects in scenes.

    Args:
        scenes: image (H, W, 3) uint8 RGB and true masks.
        draws: coarse masks made of each true one.
    """
    rows = list(_each(predict, scenes, rng, draws))
    return Outcomes(*(np.stack(part) for part in zip(*rows)))


def _each(
    predict: Predict, scenes: Iterable[tuple[np.ndarray, list[MaskCrop]]], rng: np.random.Generator, draws: int
) -> Iterator[tuple[np.ndarray, ...]]:
    for image, truths in scenes:
        height, width = image.shape[:2]
        for n, own in enumerate(truths):
            if np.count_nonzero(own.pixels) < _LEAST_AREA:
                continue
            others = [*truths[:n], *truths[n + 1 :]]
            for _ in range(draws):
                truth = edgeless(own, others, (height, width), rng) if rng.random() < EDGELESS else own
                truth = sloppy(truth, (height, width), rng) if rng.random() < SLOPPY else truth
                coarse = made_coarse(image, truth, rng, unchanged=UNCHANGED, least_share=LEAST_ERROR)
                yield outcome(predict, image, truth, coarse)


def fitted_belief(seen: Outcomes, seed: int = 0) -> Belief:
    """A belief by the gains of candidates (smooth L1) and whether they are worse (cross-entropy)."""
    features = seen.features.reshape(-1, FEATURES)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
    x = torch.from_numpy((features - mean) / deviation)
    gains = torch.from_numpy(100 * seen.gains.reshape(-1)).float().clamp(-_MOST_GAIN, _MOST_GAIN)
    worse = (gains < -100 * LOSS).float()
    fits = [_fit(x, gains, worse, seed + k) for k in range(_FITS)]
    weights = {"mean": mean, "deviation": deviation}
    for k in range(3):
        for part in ("weight", "bias"):
            weights[f"layer{k}.{part}"] = torch.stack([getattr(fit[2 * k], part).detach() for fit in fits]).numpy()
    return Belief(weights)


def _fit(x: torch.Tensor, gains: torch.Tensor, worse: torch.Tensor, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (FEATURES, _WIDTH, _WIDTH, 2)
        layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.ReLU())]
        network = nn.Sequential(*layers[:-1])
        optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, _STEPS)
        for _ in range(_STEPS):
            rows = torch.randint(len(x), (_BATCH,))
            said = network(x[rows] + _FEATURE_NOISE * torch.randn(_BATCH, FEATURES))
            loss = F.smooth_l1_loss(said[:, 0], gains[rows])
            loss = loss + F.binary_cross_entropy_with_logits(said[:, 1], worse[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network


class Reliability(NamedTuple):
    """How often candidates of a predicted risk are worse: bins of equal numbers, means in each."""

    predicted: np.ndarray
    measured: np.ndarray
    numbers: np.ndarray


def reliability(belief: Belief, seen: Outcomes, bins: int = 10) -> Reliability:
    """Of candidates that change something, of objects that the belief was not fitted on."""
    _, risks = belief(seen.features)
    changed = np.abs(seen.gains) > 0
    risks, worse = risks[changed], (seen.gains < -LOSS)[changed]
    parts = np.array_split(np.argsort(risks, kind="stable"), bins)
    parts = [part for part in parts if len(part)]
    return Reliability(
        np.array([risks[part].mean() for part in parts]),
        np.array([worse[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )
