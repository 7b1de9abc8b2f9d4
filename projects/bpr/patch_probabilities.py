"""Probabilities of foreground that networks give to patches, in inference.

With a light network beside it, the heavy one sees only patches of which the light one is not sure (a cascade: Viola and
Jones, "Rapid Object Detection using a Boosted Cascade of Simple Features", 2001).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pnm.network_backends.backends import Compiled, compiled
from pnm.object_refinement.network import RefinementNetwork
from pnm.object_refinement.prediction import with_fast_evidence

from .config import WHOLE_CALL, InferenceSettings, PatchSettings

# From numbers of patches (n,) to what networks see of them, (n, 4, s', s') on the device of the networks.
Seen = Callable[[np.ndarray], torch.Tensor]

# Of a patch's pixels. On the quick start's scenes 98 % told as well which patches need the heavy network; 80 and 90 %,
# and the mean probability of the labels, told it less well.
_CERTAIN_SHARE = 0.95


def resize(logits: torch.Tensor, side: int) -> torch.Tensor:
    """(N, 1, h, w) to (N, side, side), bilinear."""
    return F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)[:, 0]


def are_sure(probs: np.ndarray, least: float) -> np.ndarray:
    """(N,) bool: patches (N, s, s) of whose pixels all but 5 % have a label that is more probable than ``least``."""
    certain = np.maximum(probs, 1 - probs) > least
    return np.asarray(np.count_nonzero(certain, axis=(1, 2)) >= _CERTAIN_SHARE * probs.shape[1] * probs.shape[2])


class PatchNetwork:
    """One network in inference. It doesn't own the network, and follows it until :meth:`prepare`."""

    def __init__(self, network: nn.Module, patches: PatchSettings, inference: InferenceSettings):
        """
        Args:
            network: see :func:`.networks.build_network`.
        """
        self.network, self.patches, self.inference = network, patches, inference
        self._compiled: Compiled | None = None

    def prepare(self) -> None:
        """From now on until :meth:`release` the network is run on the CPU as it is now, by ``inference.backend``, its
        BatchNorms folded."""
        own, network = self.inference, self.network
        bfloat16 = own.is_reduced("cpu")
        if isinstance(network, RefinementNetwork):
            if own.backend == "torch":
                network = with_fast_evidence(network)
            bfloat16 = bfloat16 and own.backend != "openvino"  # which doesn't compile it in minutes
        example = torch.zeros(2, 4, *(self.patches.input_size,) * 2)
        self._compiled = compiled(network, example, backend=own.backend, bfloat16=bfloat16)

    def release(self) -> None:
        """The network is run as it is at each call."""
        self._compiled = None

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        """Of (n, 4, s', s'), float32."""
        filled = F.pad(x, (0, 0, 0, 0, 0, 0, 0, -len(x) % WHOLE_CALL))
        if self.inference.channels_last:
            filled = filled.contiguous(memory_format=torch.channels_last)
        if self._compiled is not None:
            return self._compiled(filled)[: len(x)]
        self.network.to(x.device)  # the light one, which is no part of the model that was moved there
        with torch.autocast(x.device.type, enabled=self.inference.is_reduced(x.device.type)):
            logits: torch.Tensor = self.network(filled)
        return logits[: len(x)].float()

    @torch.no_grad()
    def __call__(self, seen: Seen, chosen: np.ndarray) -> np.ndarray:
        """Probabilities (n, size, size) float32 of the patches of these numbers, some at a time."""
        size, pad = self.patches.size, self.patches.padding
        probs = np.empty((len(chosen), size, size), np.float32)
        for first in range(0, len(chosen), self.inference.max_patches_per_batch):
            batch = slice(first, first + self.inference.max_patches_per_batch)
            logits = resize(self._logits(seen(chosen[batch])), self.patches.side)
            probs[batch] = logits[:, pad : pad + size, pad : pad + size].sigmoid().cpu().numpy()
        return probs


@dataclass(frozen=True)
class Cascade:
    """A network, and one before it that spares it patches.

    Attributes:
        heavy: whose probabilities are wanted.
        light: sees all patches first; None: there is none.
        sure: how sure ``light`` must be of a patch to decide it, see :func:`are_sure`: 0, it decides all; 1, none.
    """

    heavy: PatchNetwork
    light: PatchNetwork | None = None
    sure: float = 1.0

    @property
    def networks(self) -> list[PatchNetwork]:
        return [self.heavy] if self.light is None else [self.light, self.heavy]

    def __call__(self, seen: Seen, number: int) -> np.ndarray:
        """Probabilities (number, size, size) float32."""
        chosen = np.arange(number)
        if self.light is None or self.sure == 1:
            return self.heavy(seen, chosen)
        probs = self.light(seen, chosen)
        unsure = np.flatnonzero(~are_sure(probs, self.sure))
        probs[unsure] = self.heavy(seen, unsure)
        return probs
