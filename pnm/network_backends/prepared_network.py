"""A network of any inputs and outputs on the CPU by torch, as fast as it is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pnm.network_backends.folding import inference_copy


class PreparedNetwork:
    """A network's copy for inference, see :func:`pnm.network_backends.folding.inference_copy`; no module, so that the
    module which holds it has no more weights.

    Args:
        network: later changes of it don't reach the copy.
        bfloat16: compute in it.
    """

    def __init__(self, network: nn.Module, bfloat16: bool):
        self._network, self._bfloat16 = inference_copy(network), bfloat16

    @contextmanager
    def running(self) -> Iterator[Any]:
        """The copy, without gradients, and in bfloat16 if that was wanted: outputs may be of that type."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            yield self._network
