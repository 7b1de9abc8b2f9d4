"""The network on this machine: what it sees made into tensors, and its maps."""

import copy
from collections.abc import Callable

import cv2
import numpy as np
import torch

from pnm.network_backends.backends import compiled
from pnm.network_backends.precision import is_bfloat16
from pnm.object_refinement.cpu_local_regression import color_evidence
from pnm.object_refinement.network import STRIDE, RefinementNetwork
from pnm.object_refinement.windows import Seen

PIXEL_MEAN = np.array((123.675, 116.28, 103.53), np.float32)  # of RGB, as ImageNet has it
PIXEL_STD = np.array((58.395, 57.12, 57.375), np.float32)

_NORMALIZED = ((np.arange(256, dtype=np.float32)[:, None] - PIXEL_MEAN) / PIXEL_STD)[:, None]  # of each value
_SIGNS = np.full(256, 1, np.float32)
_SIGNS[0] = -1


def network_input(seen: Seen) -> np.ndarray:
    """(4, h, w) float32: normalized colours, 0 outside of the image, and the coarse mask as +1 and -1; in memory the
    last axes come first, as convolutions have it fastest."""
    colors = cv2.LUT(np.ascontiguousarray(seen.colors), _NORMALIZED)
    if not seen.inside.all():
        colors[~seen.inside] = 0
    out = np.empty((*seen.coarse.shape, 4), np.float32)
    cv2.mixChannels([colors, cv2.LUT(seen.coarse.view(np.uint8), _SIGNS)], [out], [0, 0, 1, 1, 2, 2, 3, 3])
    return out.transpose(2, 0, 1)


def with_fast_evidence(network: RefinementNetwork) -> RefinementNetwork:
    """A copy for inference on the CPU, by :mod:`pnm.object_refinement.cpu_local_regression`."""
    network = copy.deepcopy(network)
    network.color_evidence = _evidence_on_cpu
    return network


def _evidence_on_cpu(x: torch.Tensor) -> torch.Tensor:
    pixels = x.permute(0, 2, 3, 1).contiguous().numpy()
    return torch.from_numpy(np.stack([color_evidence(one) for one in pixels])).permute(0, 3, 1, 2)


def network_prediction(
    network: RefinementNetwork, *, backend: str = "torch", precision: str = "auto"
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
    if backend == "torch" and device.type == "cpu":
        network = with_fast_evidence(network)
    example = torch.zeros(2, 4, 2 * STRIDE, 3 * STRIDE)
    run = compiled(network, example, backend=backend, bfloat16=bfloat16, stride=STRIDE)

    def predict(seen: Seen) -> np.ndarray:
        x = torch.from_numpy(network_input(seen))[None]
        return run(x.to(device) if backend == "torch" else x)[0].cpu().numpy()

    return predict


def torch_prediction(network: RefinementNetwork, *, precision: str = "auto") -> Callable[[Seen], np.ndarray]:
    """:func:`network_prediction` by torch, on the device of the network."""
    return network_prediction(network, precision=precision)
