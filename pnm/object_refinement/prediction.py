"""The network on this machine: what it sees made into tensors, and its maps."""

from collections.abc import Callable

import numpy as np
import torch

from pnm.network_backends.backends import compiled
from pnm.network_backends.precision import is_bfloat16
from pnm.object_refinement.network import STRIDE, RefinementNetwork
from pnm.object_refinement.windows import Seen

PIXEL_MEAN = np.array((123.675, 116.28, 103.53), np.float32)  # of RGB, as ImageNet has it
PIXEL_STD = np.array((58.395, 57.12, 57.375), np.float32)


def network_input(seen: Seen) -> np.ndarray:
    """(4, h, w) float32: normalized colours, 0 outside of the image, and the coarse mask as +1 and -1."""
    colors = (seen.colors - PIXEL_MEAN) / PIXEL_STD * seen.inside[..., None]
    coarse = np.where(seen.coarse, np.float32(1), np.float32(-1))
    return np.concatenate([colors, coarse[..., None]], axis=2).transpose(2, 0, 1)


def network_prediction(
    network: RefinementNetwork, *, backend: str = "torch", precision: str = "float32"
) -> Callable[[Seen], np.ndarray]:
    """A function from what a window shows to maps (2, h / 2, w / 2) float32.

    Args:
        network: later changes of it don't reach the function.
        backend: of a network on the CPU, one of :data:`pnm.network_backends.backends.BACKENDS`.
        precision: on the CPU by torch, one of :data:`pnm.network_backends.precision.PRECISIONS`.

    Raises:
        UserError: another backend or precision, or one that is not installed.
    """
    device = next(network.parameters()).device
    # On a CPU with AVX-512 bfloat16 and no AMX, OpenVINO had not compiled this network in bfloat16 after a minute.
    bfloat16 = is_bfloat16(precision) and backend == "torch" and device.type == "cpu"
    example = torch.zeros(2, 4, 2 * STRIDE, 3 * STRIDE)
    run = compiled(network, example, backend=backend, bfloat16=bfloat16, stride=STRIDE)

    def predict(seen: Seen) -> np.ndarray:
        x = torch.from_numpy(network_input(seen))[None]
        return run(x.to(device) if backend == "torch" else x)[0].cpu().numpy()

    return predict


def torch_prediction(network: RefinementNetwork, *, precision: str = "float32") -> Callable[[Seen], np.ndarray]:
    """:func:`network_prediction` by torch, on the device of the network."""
    return network_prediction(network, precision=precision)
