"""PRN's inputs, intermediate maps and output as pictures, the paper's Fig. 4. All are (h, w, 3) uint8, RGB."""

import cv2
import numpy as np
import torch

from pnm.errors import UserError
from pnm.masks.colours import colour_heat, colour_labels
from pnm.panoptic_grouping.panoptic_map import numbered
from pnm.predictions import Partition
from pnm.predictions.relisting import with_kept_ids

from ..refining import TrainedRefiner
from .refiner import PanopticRefiner

_GREY = 230  # where nothing is said


def colour_vectors(offsets: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Offsets (2, h, w), (dy, dx) px: the hue is their direction, the saturation their length; grey outside."""
    length = np.hypot(*offsets)
    longest = max(1.0, float(np.percentile(length[inside], 95))) if inside.any() else 1.0
    hue = (np.arctan2(*offsets) / (2 * np.pi) % 1) * 179
    parts = [hue, np.clip(length / longest, 0, 1) * 255, np.full(hue.shape, 255.0)]
    picture = cv2.cvtColor(np.nan_to_num(np.stack(parts, -1)).astype(np.uint8), cv2.COLOR_HSV2RGB)
    return np.where(inside[..., None], picture, _GREY).astype(np.uint8)


def colour_box_sizes(boxes: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Height and width of the boxes (4, h, w) that pixels say they are in: one colour an instance, if they agree."""
    sizes = np.stack([boxes[0] + boxes[1], boxes[2] + boxes[3]])
    most = max(1.0, float(np.percentile(sizes[:, inside], 99))) if inside.any() else 1.0
    red, blue = np.clip(np.nan_to_num(sizes) / most, 0, 1) * 255
    picture = np.stack([red, np.full_like(red, 110), blue], -1)
    return np.where(inside[..., None], picture, _GREY).astype(np.uint8)


def pictures_of(refiner: TrainedRefiner, image: np.ndarray, before: Partition) -> dict[str, np.ndarray]:
    """Titled pictures of one image's way through a model.

    Args:
        image: (H, W, 3) uint8, RGB.
        before: read from a file.

    Raises:
        UserError: the refiner is no PRN; sizes that differ; a category that the model doesn't know.
    """
    model = refiner.model
    if not isinstance(model, PanopticRefiner):
        raise UserError(f"the config is of {type(model).__name__}, whose maps are others: expected one of PRN")
    before = refiner.as_in_data(before)
    given = model.network_input(refiner.image_tensor(image, before.size), before)
    predicted = model.predict(given)
    after = with_kept_ids(before, model.merged(predicted, before))
    height, width = predicted.size
    coarse = given.instances[0, :, :height, :width].cpu().numpy()
    fields = torch.cat([predicted.fields.heat[:, None], predicted.fields.offsets], 1)[0, :, :height, :width]
    was_inside = (coarse[3:] != 0).any(0) | (coarse[0] == 1)
    probs = predicted.fields.foreground_logits[0, :height, :width].sigmoid().cpu().numpy()
    new, inside = fields.cpu().numpy(), probs > 0.5
    classes = predicted.logits.argmax(0).cpu().numpy()[: -(-height // 4), : -(-width // 4)]
    segments = tuple(dict.fromkeys((*before.segments, *after.segments)))
    return {
        "before": colour_labels(numbered(before.labels, segments)),
        "centres before": colour_heat(coarse[0]),
        "offsets before": colour_vectors(coarse[1:3], was_inside),
        "centres": colour_heat(new[0]),
        "offsets": colour_vectors(new[1:3], inside),
        "sizes of boxes": colour_box_sizes(new[3:], inside),
        "foreground": colour_heat(probs),
        "classes": colour_labels(classes + 1),
        "after": colour_labels(numbered(after.labels, segments)),
    }
