"""From small masks inside boxes to masks of the whole image."""

import math

import torch
from torch.nn import functional as F

# Bounds the memory of the floating-point masks that are sampled together on a GPU.
_BYTES_AT_ONCE = 2**30


def paste_masks_in_image(
    masks: torch.Tensor, boxes, image_shape: tuple[int, int], threshold: float = 0.5
) -> torch.Tensor:
    """Samples each mask bilinearly at the pixel centres of its box; outside the mask lies 0.

    Args:
        masks: (N, M, M) probabilities.
        boxes: Boxes or an (N, 4) tensor, corners in pixels.
        image_shape: (height, width) of the image.
        threshold: a pixel belongs to the mask from this probability on. Below 0 the probabilities
            themselves are returned, as uint8 up to 255.

    Returns:
        (N, height, width) booleans, or uint8 for a negative threshold.
    """
    if masks.shape[-1] != masks.shape[-2]:
        raise ValueError(f"masks must be square, got shape {tuple(masks.shape)}")
    boxes = boxes if isinstance(boxes, torch.Tensor) else boxes.tensor
    if len(boxes) != len(masks):
        raise ValueError(f"{len(masks)} masks need as many boxes, got {len(boxes)}")
    masks = masks if masks.dtype.is_floating_point else masks.float()
    canvas = torch.zeros(
        len(masks), *image_shape, dtype=torch.bool if threshold >= 0 else torch.uint8, device=boxes.device
    )
    for rows, (x0, y0, x1, y1) in _work_units(boxes, image_shape):
        probs = _sample(masks[rows], boxes[rows], torch.arange(x0, x1), torch.arange(y0, y1))
        canvas[rows, y0:y1, x0:x1] = probs >= threshold if threshold >= 0 else (probs * 255).to(torch.uint8)
    return canvas


def _work_units(boxes: torch.Tensor, image_shape: tuple[int, int]):
    """Yields (slice of masks, window x0, y0, x1, y1 to fill).

    A CPU takes masks singly, each within a window one pixel wider than its box; a GPU takes many over the whole image.
    """
    height, width = image_shape
    if boxes.device.type != "cpu":
        per_unit = max(1, _BYTES_AT_ONCE // max(1, 4 * height * width))
        for start in range(0, len(boxes), per_unit):
            yield slice(start, start + per_unit), (0, 0, width, height)
        return
    for row, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        window = (
            min(max(math.floor(x0) - 1, 0), width),
            min(max(math.floor(y0) - 1, 0), height),
            max(min(math.ceil(x1) + 1, width), 0),
            max(min(math.ceil(y1) + 1, height), 0),
        )
        if window[0] < window[2] and window[1] < window[3]:
            yield slice(row, row + 1), window


def _sample(masks: torch.Tensor, boxes: torch.Tensor, columns: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(n, len(rows), len(columns)) values of n masks at pixel centres."""
    axes = []
    for pixels, low, high in ((columns, boxes[:, 0:1], boxes[:, 2:3]), (rows, boxes[:, 1:2], boxes[:, 3:4])):
        centres = pixels.to(boxes.device, torch.float32) + 0.5
        axes.append((centres - low) / (high - low) * 2 - 1)
    x, y = axes
    shape = (len(masks), len(rows), len(columns))
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
    return F.grid_sample(masks[:, None], grid.to(masks.dtype), align_corners=False)[:, 0]
