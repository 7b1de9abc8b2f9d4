"""Quality against time of BPR with a light network before the heavy one (``refine_cpu.py --light``).

By MODEL.BPR.LIGHT_SURE: the share of patches that the heavy network sees, seconds for all scenes, mask AP, and the AP
if as many patches, but any, had gone there (mean of three draws), which says what being sure is worth. Beside it each
network alone, and the heavy one on fewer patches (NMS threshold). In each round everyone runs once; medians.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pnm
from refined_scenes import CONFIG, Probabilities, Scenes, average_precision

from pnm.boundary_patches.extraction import TIES
from pnm.projects.bpr.patch_probabilities import are_sure

SURE = (0.55, 0.6, 0.7, 0.8, 0.9)
FEWER = ["MODEL.BPR.NMS_THRESHOLD_TEST", "0.1"]
DRAWS = 3
HEADERS = ["ties", "network", "sure", "patches an image", "% through heavy", "s", "AP", "AP, any patches"]
Network = tuple[str, Path]  # name and weights


def refiner_of(network: Sequence[Any], words: Sequence[str]) -> Any:
    return pnm.load_refiner(CONFIG, str(network[1]), ["MODEL.BPR.NETWORK", network[0], *words])


def mixed(light: Probabilities, heavy: Probabilities, of_heavy: np.ndarray) -> Probabilities:
    """Heavy ones where ``of_heavy``, (all patches,) bool, says so."""
    rest, result = of_heavy, {}
    for k, of_masks in light.items():
        result[k] = []
        for (corners, a), (_, b) in zip(of_masks, heavy[k], strict=True):
            chosen, rest = rest[: len(a)], rest[len(a) :]
            result[k].append((corners, np.where(chosen[:, None, None], b, a)))
    return result


def any_patches(scenes: Scenes, light: Probabilities, heavy: Probabilities, of_heavy: np.ndarray) -> float:
    """AP if as many patches are the heavy network's, drawn."""
    draws = (np.random.default_rng(seed).permutation(of_heavy) for seed in range(DRAWS))
    return statistics.mean(average_precision(scenes.truth, scenes.reassembled(mixed(light, heavy, d))) for d in draws)


def cascade_curve(scenes: Scenes, heavy: Network, light: Sequence[str], rounds: int) -> list[list[Any]]:
    """Rows of the table, see ``HEADERS``."""
    return [row for ties in TIES for row in _rows_of(scenes, heavy, light, rounds, ties)]


def _rows_of(scenes: Scenes, heavy: Network, light: Sequence[str], rounds: int, ties: str) -> list[list[Any]]:
    order = ["MODEL.BPR.TIES", ties]
    cascade = ["MODEL.BPR.LIGHT_NETWORK", light[0], "MODEL.BPR.LIGHT_WEIGHTS", light[1], "MODEL.BPR.LIGHT_SURE"]
    refiners = {"light": refiner_of(light, order), "heavy": refiner_of(heavy, order)}
    probs = [scenes.probabilities(refiners[name]) for name in ("light", "heavy")]
    refiners |= {str(sure): refiner_of(heavy, [*order, *cascade, str(sure)]) for sure in SURE}
    refiners["heavy, NMS 0.1"] = refiner_of(heavy, [*order, *FEWER])
    seconds: dict[str, list[float]] = {name: [] for name in refiners}
    rows: dict[str, list[Any]] = {}
    for _ in range(rounds):
        for name, refiner in refiners.items():
            results, time, patches = scenes.refined(refiner)
            seconds[name].append(time)
            if name not in rows:
                score = average_precision(scenes.truth, results)
                rows[name] = [patches / len(scenes.images), 100.0 * (name != "light"), 0.0, score, None]
    every = np.concatenate([p for of_masks in probs[0].values() for _, p in of_masks])
    for sure in SURE:
        of_heavy = ~are_sure(every, sure)
        rows[str(sure)][1] = 100 * of_heavy.mean()
        rows[str(sure)][4] = any_patches(scenes, *probs, of_heavy)
    for name, row in rows.items():
        row[2] = statistics.median(seconds[name])
    named = {name: ["cascade", float(name)] if name in map(str, SURE) else [name, None] for name in rows}
    return [[ties, *named[name], *row] for name, row in rows.items()]
