"""The network adapted to somebody's own pictures without labels: it learns to undo errors that are put into their
masks.

The masks are not right, but their errors are random: made worse, and asked for as they were, they teach where contours
of these objects lie on the average. Belief in refinements stays as it was fitted.
"""

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch

from pnm.errors import UserError
from pnm.masks.crops import EMPTY, MaskCrop
from pnm.object_refinement.network import RefinementNetwork
from pnm.object_refinement.prediction import network_input
from pnm.object_refinement.training_windows import TrainingWindow, made_coarse, refinement_loss, training_window

_SIDE, _BATCH = 160, 24
_RATE, _DECAY = 5e-4, 0.01
_WARM_UP = 20  # steps
_ERROR_WEIGHT, _UNCHANGED, _LEAST_ERROR = 5.0, 0.2, 0.012  # as configs/universal/universal_small.yaml has them
_LEAST_AREA = 64  # px of a mask

Pictures = Sequence[tuple[Callable[[], np.ndarray], Sequence[MaskCrop]]]  # how each is read, and its masks


def _drawn(pictures: Pictures, rng: np.random.Generator) -> list[TrainingWindow]:
    """A batch of windows, several of each picture that is read."""
    windows: list[TrainingWindow] = []
    while len(windows) < _BATCH:
        read, crops = pictures[int(rng.integers(len(pictures)))]
        image = read()
        for _ in range(min(6, _BATCH - len(windows))):
            truth = crops[int(rng.integers(len(crops)))]
            coarse = made_coarse(image, truth, rng, unchanged=_UNCHANGED, least_share=_LEAST_ERROR)
            windows.append(training_window(image, truth, coarse, EMPTY, _SIDE, rng))
    return windows


def _step(network: RefinementNetwork, windows: Sequence[TrainingWindow]) -> torch.Tensor:
    device = next(network.parameters()).device
    x, target, counted = (
        torch.from_numpy(np.stack(part)).to(device)
        for part in zip(*((network_input(one.seen), one.target, one.counted) for one in windows))
    )
    maps = network(x.contiguous(memory_format=torch.channels_last))
    return refinement_loss(maps, x[:, 3] > 0, target, counted, _ERROR_WEIGHT)


def adapted(
    network: RefinementNetwork,
    pictures: Pictures,
    seconds: float,
    *,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> RefinementNetwork:
    """A copy of the network that has learned from pictures with their own coarse masks.

    Args:
        pictures: how each is read, (H, W, 3) uint8 RGB, and masks of it.
        seconds: how long to learn; the learning rate falls to 0 over that time.
        progress: is told the share of the time that has passed.

    Raises:
        UserError: no time, or no mask of at least some pixels.
    """
    if not 0 < seconds < math.inf:
        raise UserError(f"--adapt is {seconds / 60} minutes, expected more than 0, like 4")
    fit = [(read, [c for c in crops if np.count_nonzero(c.pixels) >= _LEAST_AREA]) for read, crops in pictures]
    fit = [(read, crops) for read, crops in fit if crops]
    if not fit:
        raise UserError(f"--adapt has no mask of {_LEAST_AREA} pixels or more to learn from: leave it away")
    network = deepcopy(network).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
    rng, start, steps, passed = np.random.default_rng(seed), time.monotonic(), 0, 0.0
    while passed < 1:
        rate = _RATE * min(1, (steps + 1) / _WARM_UP) * (1 + math.cos(math.pi * passed)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        _step(network, _drawn(fit, rng)).backward()
        optimizer.step()
        steps, passed = steps + 1, min(1.0, (time.monotonic() - start) / seconds)
        if progress is not None:
            progress(passed)
    return network.eval()
