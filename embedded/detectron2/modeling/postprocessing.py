"""From the network's resolution back to the image's."""

import torch
from detectron2.structures import Boxes, Instances, ROIMasks
from torch.nn import functional as F


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Scales boxes to the output size, drops those that are empty there, and pastes masks into the image.

    Args:
        results: with ``pred_boxes`` or ``proposal_boxes``, and ``pred_masks`` (N, 1, M, M) or ROIMasks if any.
            Its boxes are not changed.
        mask_threshold: see :func:`detectron2.layers.paste_masks_in_image`.

    Returns:
        New Instances of image size (output_height, output_width); ``pred_masks`` are (N, H, W) booleans.

    Raises:
        ValueError: when there are no boxes.
    """
    in_height, in_width = results.image_size
    scaled = Instances((output_height, output_width), **results.get_fields())
    name = next((name for name in ("pred_boxes", "proposal_boxes") if results.has(name)), None)
    if name is None:
        raise ValueError(f"detections need pred_boxes or proposal_boxes, got {sorted(results.get_fields())}")
    boxes: Boxes = results.get(name).clone()
    boxes.scale(output_width / in_width, output_height / in_height)
    boxes.clip((output_height, output_width))
    scaled.set(name, boxes)
    scaled = scaled[boxes.nonempty()]
    if scaled.has("pred_masks"):
        masks = scaled.pred_masks
        masks = masks if isinstance(masks, ROIMasks) else ROIMasks(masks[:, 0])
        scaled.pred_masks = masks.to_bitmasks(scaled.get(name), output_height, output_width, mask_threshold).tensor
    return scaled


def sem_seg_postprocess(
    result: torch.Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> torch.Tensor:
    """Cuts the padding off (C, H, W) logits, leaving ``img_size`` = (height, width), and resizes them bilinearly."""
    unpadded = result[None, :, : img_size[0], : img_size[1]]
    return F.interpolate(unpadded, size=(output_height, output_width), mode="bilinear", align_corners=False)[0]
