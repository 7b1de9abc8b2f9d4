"""The parametrisation of box regression (Girshick et al., R-CNN, 2014) and its losses."""

import math

import torch
from detectron2.layers import ciou_loss, diou_loss
from fvcore.nn import giou_loss, smooth_l1_loss

__all__ = ["Box2BoxTransform", "box_regression_loss"]

_OVERLAP_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


class Box2BoxTransform:
    """Deltas (dx, dy, dw, dh) from one box to another: centre shifts in box sizes, and logarithms of size ratios.

    Attributes:
        weights: factors on the four deltas.
        scale_clamp: largest dw, dh that is decoded. The default takes a box of 16 pixels to 1000.
    """

    def __init__(self, weights: tuple[float, float, float, float], scale_clamp: float = math.log(1000.0 / 16)):
        self.weights = tuple(weights)
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4) deltas that take (N, 4) source boxes to their targets.

        Raises:
            ValueError: when a source box has no width; the deltas would be infinite.
        """
        (centre, size), (target_centre, target_size) = _centre_and_size(src_boxes), _centre_and_size(target_boxes)
        if not (size[:, 0] > 0).all():
            raise ValueError("boxes to regress from must have positive width")
        weights = src_boxes.new_tensor(self.weights)
        shift = weights[:2] * (target_centre - centre) / size
        return torch.cat([shift, weights[2:] * torch.log(target_size / size)], dim=1)

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Decodes in float32.

        Args:
            deltas: (N, 4k), k predictions (for instance one per class) for each box.
            boxes: (N, 4).

        Returns:
            (N, 4k) boxes.
        """
        steps = deltas.float().reshape(len(deltas), deltas.shape[1] // 4, 4)
        centre, size = (part[:, None] for part in _centre_and_size(boxes.float()))
        weights = steps.new_tensor(self.weights)
        new_centre = steps[..., :2] / weights[:2] * size + centre
        half_size = torch.exp((steps[..., 2:] / weights[2:]).clamp(max=self.scale_clamp)) * size * 0.5
        return torch.cat([new_centre - half_size, new_centre + half_size], dim=-1).reshape(deltas.shape)


def _centre_and_size(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + 0.5 * size, size


def box_regression_loss(
    transform: Box2BoxTransform,
    pred_deltas: torch.Tensor,
    src_boxes: torch.Tensor,
    target_boxes: torch.Tensor,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> torch.Tensor:
    """Sum over N foreground boxes of the regression loss; no boxes give a differentiable 0.

    Args:
        pred_deltas, src_boxes, target_boxes: (N, 4).
        box_reg_loss_type: ``smooth_l1`` between deltas, or ``giou``, ``diou``, ``ciou`` between boxes.
        smooth_l1_beta: from this difference on the loss is linear; 0 gives L1.

    Raises:
        ValueError: for another loss type.
    """
    if box_reg_loss_type == "smooth_l1":
        targets = transform.get_deltas(src_boxes, target_boxes)
        return smooth_l1_loss(pred_deltas, targets, beta=smooth_l1_beta, reduction="sum")
    if box_reg_loss_type not in _OVERLAP_LOSSES:
        known = ", ".join(["smooth_l1", *_OVERLAP_LOSSES])
        raise ValueError(f"unknown BBOX_REG_LOSS_TYPE {box_reg_loss_type!r}: choose from {known}")
    pred_boxes = transform.apply_deltas(pred_deltas, src_boxes)
    return _OVERLAP_LOSSES[box_reg_loss_type](pred_boxes, target_boxes, reduction="sum")
