"""Whether an object's refinement is believed: what the evidence all along its contour says of candidates.

Of the network's logits several candidates are made, each by another probability from which on pixels change. Of each,
a few numbers tell how much changes, outwards and inwards, on how much of the contour, and how sure the network is: an
offset that is the same everywhere is more likely an error of the mask than scattered disagreement is. A small network,
fitted on scenes that were held back (:mod:`pnm.object_refinement.belief_fitting`), tells from them how much IoU a
candidate gains and how probably it loses.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np

from pnm.object_refinement.decision import Decision

# Probabilities of the other label from which on a pixel changes.
THRESHOLDS = (0.15, 0.25, 0.35, 0.5, 0.65, 0.8)
LOSS = 0.003  # of IoU, from which on a candidate is worse
LEAST_GAIN = 0.5  # percent of IoU that a candidate has to promise
FEATURES = 15

_NEIGHBOURS = np.ones((3, 3), np.uint8)
_LEAST_LOGIT = -6.0  # pixels below it are passed over: they are right


class Candidate(NamedTuple):
    """A refinement of an object.

    Attributes:
        threshold: see ``THRESHOLDS``.
        gain: of IoU that is expected, in percent.
        risk: probability that it loses more than ``LOSS``.
        change: pixels that change, as a share of the object's.
    """

    threshold: float
    gain: float
    risk: float
    change: float


def change_logits(logits: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """(h, w) float32: the logit of each pixel's other label."""
    return np.where(coarse, -logits, logits)


def candidate_features(logits: np.ndarray, coarse: np.ndarray, scale: float) -> np.ndarray:
    """(len(THRESHOLDS), FEATURES) float32, see the module's head.

    Args:
        logits: (h, w) of foreground around an object.
        coarse: (h, w) bool, not empty.
        scale: that the network saw it at.
    """
    area = float(np.count_nonzero(coarse))
    extent = float(np.sqrt(area))
    inner = cv2.erode(coarse.astype(np.uint8), _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    rim = coarse & (inner == 0)
    perimeter = float(max(1, int(np.count_nonzero(rim))))
    other = change_logits(logits, coarse)
    uncertain = other > _LEAST_LOGIT
    probs = np.zeros(coarse.shape, np.float32)
    probs[uncertain] = 1 / (1 + np.exp(-np.clip(other[uncertain], -30, 30)))
    soft_in, soft_out = float(probs[coarse].sum()) / perimeter, float(probs[~coarse].sum()) / perimeter
    doubt = float(np.minimum(probs, 1 - probs).sum()) / perimeter
    common = [np.log1p(soft_in), np.log1p(soft_out), np.log1p(doubt), _one_sided(soft_in, soft_out)]
    common += [np.log(extent), np.log(perimeter**2 / (4 * np.pi * area)), np.log(scale)]
    rows = []
    for threshold in THRESHOLDS:
        changes = probs > threshold
        added, removed = (np.count_nonzero(changes & side) / perimeter for side in (~coarse, coarse))
        near = cv2.dilate(changes.astype(np.uint8), _NEIGHBOURS)[rim]
        sure = float(probs[changes].mean()) if added or removed else threshold
        widths = [np.log1p(added), np.log1p(removed), np.log1p(100 * added / extent), np.log1p(100 * removed / extent)]
        covered = float(near.mean()) if near.size else 0.0
        rows.append([*widths, _one_sided(added, removed), sure, covered, np.log(threshold / (1 - threshold)), *common])
    return np.array(rows, np.float32)


def _one_sided(a: float, b: float) -> float:
    """0 if both are equal, 1 if only one is there."""
    return abs(a - b) / (a + b + 1e-3)


class Belief:
    """The fitted network: two hidden layers, averaged over a few fits.

    Args:
        weights: "mean", "deviation" (F,) of the features, and of each layer 0 to 2 "layer<k>.weight" (fits, out, in)
            and "layer<k>.bias" (fits, out); the last one gives the gain in percent and the logit of the risk.

    Raises:
        ValueError: arrays that don't fit together.
    """

    def __init__(self, weights: Mapping[str, Any]):
        self.weights = {name: np.asarray(value, np.float32) for name, value in weights.items()}
        wanted = {"mean", "deviation"} | {f"layer{k}.{part}" for k in range(3) for part in ("weight", "bias")}
        if set(self.weights) != wanted or self.weights["mean"].shape != (FEATURES,):
            raise ValueError(f"a belief has {sorted(self.weights)}, expected {sorted(wanted)} of {FEATURES} features")

    def __call__(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected gains in percent and risks, (..., ), of features (..., F)."""
        w = self.weights
        x = ((features - w["mean"]) / w["deviation"])[..., None, :]  # (..., fits, F)
        for k in range(3):
            x = np.einsum("...fi,foi->...fo", x, w[f"layer{k}.weight"]) + w[f"layer{k}.bias"]
            x = np.maximum(x, 0) if k < 2 else x
        gain, risk = x.mean(axis=-2)[..., 0], x.mean(axis=-2)[..., 1]
        return gain, 1 / (1 + np.exp(-np.clip(risk, -30, 30)))

    def candidates(self, logits: np.ndarray, coarse: np.ndarray, scale: float) -> list[Candidate]:
        """All refinements of an object, see :func:`candidate_features`."""
        gains, risks = self(candidate_features(logits, coarse, scale))
        other, area = change_logits(logits, coarse), np.count_nonzero(coarse)
        changes = [np.count_nonzero(other > np.log(t / (1 - t))) / area for t in THRESHOLDS]
        return [Candidate(*map(float, row)) for row in zip(THRESHOLDS, gains, risks, changes)]


def best_candidate(candidates: list[Candidate], decision: Decision) -> Candidate | None:
    """The candidate of the highest gain among those that a decision allows; None if there is none that gains as much
    as ``LEAST_GAIN``."""
    allowed = [
        one
        for one in candidates
        if one.risk <= decision.risk and one.change <= decision.change and one.gain >= LEAST_GAIN
    ]
    return max(allowed, key=lambda one: one.gain, default=None)
