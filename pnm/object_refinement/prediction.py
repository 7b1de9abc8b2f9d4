"""The network on this machine: what it sees made into tensors, and its maps."""

from collections.abc import Callable

import numpy as np
import torch

from pnm.object_refinement.network import RefinementNetwork
from pnm.object_refinement.windows import Seen

PIXEL_MEAN = np.array((123.675, 116.28, 103.53), np.float32)  # of RGB, as ImageNet has it
PIXEL_STD = np.array((58.395, 57.12, 57.375), np.float32)


def network_input(seen: Seen) -> np.ndarray:
    """(4, h, w) float32: normalized colours, 0 outside of the image, and the coarse mask as +1 and -1."""
    colors = (seen.colors - PIXEL_MEAN) / PIXEL_STD * seen.inside[..., None]
    coarse = np.where(seen.coarse, np.float32(1), np.float32(-1))
    return np.concatenate([colors, coarse[..., None]], axis=2).transpose(2, 0, 1)


def torch_prediction(network: RefinementNetwork, *, bfloat16: bool = False) -> Callable[[Seen], np.ndarray]:
    """A function from what a window shows to maps (2, h / 2, w / 2) float32, by torch."""
    network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = next(network.parameters()).device

    @torch.inference_mode()
    def predict(seen: Seen) -> np.ndarray:
        x = torch.from_numpy(network_input(seen))[None].to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            maps = network(x)
        return maps[0].float().cpu().numpy()

    return predict
