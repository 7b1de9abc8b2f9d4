"""Classification and box regression of regions (Girshick, Fast R-CNN, 2015)."""

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms, cat, cross_entropy
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import nn
from torch.nn import functional as F

from ..box_regression import Box2BoxTransform, box_regression_loss
from ..unsupported_settings import reject_setting

__all__ = ["FastRCNNOutputLayers", "fast_rcnn_inference"]

Predictions = tuple[torch.Tensor, torch.Tensor]


def fast_rcnn_inference(
    boxes: list[torch.Tensor],
    scores: list[torch.Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[torch.Tensor]]:
    """:func:`fast_rcnn_inference_single_image` for each image: detections, and indices of their regions."""
    limits = (score_thresh, nms_thresh, topk_per_image)
    found = [fast_rcnn_inference_single_image(*image, *limits) for image in zip(boxes, scores, image_shapes)]
    return [detections for detections, _ in found], [regions for _, regions in found]


def fast_rcnn_inference_single_image(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, torch.Tensor]:
    """Every (region, class) pair above the score threshold is a candidate; suppression runs within each class.

    Args:
        boxes: (R, 4K) or, when the classes share a box, (R, 4).
        scores: (R, K + 1) probabilities, background last.
        image_shape: (height, width) that boxes are clipped to.
        topk_per_image: best detections to keep; below 0 all.

    Returns:
        ``pred_boxes``, ``scores`` and ``pred_classes``, best first, and the row of each detection in ``boxes``
        (among those rows that are finite).
    """
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    if not finite.all():
        boxes, scores = boxes[finite], scores[finite]
    clipped = Boxes(boxes.reshape(-1, 4))
    clipped.clip(image_shape)
    per_class = clipped.tensor.view(len(scores), -1, 4) if len(scores) else clipped.tensor.view(0, 1, 4)
    scores = scores[:, :-1]
    regions, classes = (scores > score_thresh).nonzero().unbind(1)
    candidates = per_class[regions, classes if per_class.shape[1] > 1 else 0]
    candidate_scores = scores[regions, classes]
    kept = batched_nms(candidates, candidate_scores, classes, nms_thresh)
    kept = kept if topk_per_image < 0 else kept[:topk_per_image]
    fields = {
        "pred_boxes": Boxes(candidates[kept]),
        "scores": candidate_scores[kept],
        "pred_classes": classes[kept],
    }
    return Instances(image_shape, **fields), regions[kept]


def _log_classification_stats(pred_logits: torch.Tensor, gt_classes: torch.Tensor, prefix: str = "fast_rcnn") -> None:
    """Logs accuracy over all regions and over objects, and the share of objects taken for background."""
    background = pred_logits.shape[1] - 1
    predicted = pred_logits.argmax(dim=1)
    objects, right = (gt_classes >= 0) & (gt_classes < background), predicted == gt_classes
    missed = objects & (predicted == background)
    counts = torch.stack([x.sum() for x in (right, objects, right & objects, missed)])
    num_right, num_objects, num_right_objects, num_missed = counts.tolist()
    storage = get_event_storage()
    if len(gt_classes):
        storage.put_scalar(f"{prefix}/cls_accuracy", num_right / len(gt_classes))
    if num_objects:
        storage.put_scalar(f"{prefix}/fg_cls_accuracy", num_right_objects / num_objects)
        storage.put_scalar(f"{prefix}/false_negative", num_missed / num_objects)


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers: class scores (K classes, then background) and box deltas."""

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        box2box_transform: Box2BoxTransform,
        cls_agnostic_bbox_reg: bool = False,
        num_classes: int,
        use_sigmoid_ce: bool = False,
        use_fed_loss: bool = False,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
        loss_weight: float | dict[str, float] = 1.0,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
    ):
        """
        Args:
            input_shape: of the region features, or their number.
            cls_agnostic_bbox_reg: one box for all classes.
            num_classes: K, without background.
            use_sigmoid_ce: independent classes instead of a softmax.
            use_fed_loss: must be False here.
            box_reg_loss_type, smooth_l1_beta: see :func:`detectron2.modeling.box_regression.box_regression_loss`.
            loss_weight: one factor, or factors by loss name.
            test_score_thresh, test_nms_thresh, test_topk_per_image: see :func:`fast_rcnn_inference_single_image`.
        """
        super().__init__()
        if use_fed_loss:
            reject_setting("MODEL.ROI_BOX_HEAD.USE_FED_LOSS True")
        shape = ShapeSpec(channels=input_shape) if isinstance(input_shape, int) else input_shape
        size = shape.channels * (shape.height or 1) * (shape.width or 1)
        self.num_classes = num_classes
        self.cls_score = nn.Linear(size, num_classes + 1)
        self.bbox_pred = nn.Linear(size, 4 if cls_agnostic_bbox_reg else 4 * num_classes)
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.box2box_transform = box2box_transform
        self.test_score_thresh, self.test_nms_thresh = test_score_thresh, test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        self.smooth_l1_beta, self.box_reg_loss_type = smooth_l1_beta, box_reg_loss_type
        if not isinstance(loss_weight, dict):
            loss_weight = dict.fromkeys(("loss_cls", "loss_box_reg"), loss_weight)
        self.loss_weight = loss_weight
        self.use_sigmoid_ce = use_sigmoid_ce

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        head, roi = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS
        return {
            "input_shape": input_shape,
            "num_classes": roi.NUM_CLASSES,
            "test_score_thresh": roi.SCORE_THRESH_TEST,
            "test_nms_thresh": roi.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "box2box_transform": Box2BoxTransform(weights=head.BBOX_REG_WEIGHTS),
            "cls_agnostic_bbox_reg": head.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": head.SMOOTH_L1_BETA,
            "box_reg_loss_type": head.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": head.BBOX_REG_LOSS_WEIGHT},
            "use_fed_loss": head.USE_FED_LOSS,
            "use_sigmoid_ce": head.USE_SIGMOID_CE,
        }

    def forward(self, x: torch.Tensor) -> Predictions:
        """(R, K + 1) class logits and (R, 4K) or (R, 4) deltas from the features of R regions."""
        x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x)

    def losses(self, predictions: Predictions, proposals: list[Instances]) -> dict[str, torch.Tensor]:
        """``loss_cls`` and ``loss_box_reg``, both means over the R regions of this process; 0 without regions.

        Args:
            proposals: with ``proposal_boxes`` and ``gt_classes`` (K for background), and ``gt_boxes`` unless all
                are background.
        """
        logits, deltas = predictions
        if not proposals:
            return {"loss_cls": logits.sum() * 0.0, "loss_box_reg": deltas.sum() * 0.0}
        gt_classes = cat([p.gt_classes for p in proposals])
        _log_classification_stats(logits, gt_classes)
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        # Without ground truth every region is background, and its target is not read.
        targets = cat([(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals])
        losses = {
            "loss_cls": self._classification_loss(logits, gt_classes),
            "loss_box_reg": self.box_reg_loss(boxes, targets, deltas, gt_classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def _classification_loss(self, logits: torch.Tensor, gt_classes: torch.Tensor) -> torch.Tensor:
        if not self.use_sigmoid_ce:
            return cross_entropy(logits, gt_classes, reduction="mean")
        targets = F.one_hot(gt_classes, self.num_classes + 1)[:, :-1].to(logits.dtype)
        total = F.binary_cross_entropy_with_logits(logits[:, :-1], targets, reduction="sum")
        return total / max(len(logits), 1)

    def box_reg_loss(
        self, proposal_boxes: torch.Tensor, gt_boxes: torch.Tensor, pred_deltas: torch.Tensor, gt_classes: torch.Tensor
    ) -> torch.Tensor:
        """Regression loss of the object regions, divided by the number R of all regions.

        Dividing by R gives every object the same influence, however many objects an image has.

        Args:
            proposal_boxes, gt_boxes: (R, 4).
            pred_deltas: (R, 4K) or (R, 4).
            gt_classes: (R,).
        """
        objects = ((gt_classes >= 0) & (gt_classes < self.num_classes)).nonzero()[:, 0]
        per_class = pred_deltas.view(len(pred_deltas), pred_deltas.shape[1] // 4, 4)
        column = gt_classes[objects] if per_class.shape[1] > 1 else 0
        total = box_regression_loss(
            self.box2box_transform,
            per_class[objects, column],
            proposal_boxes[objects],
            gt_boxes[objects],
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return total / max(len(gt_classes), 1)

    def inference(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> tuple[list[Instances], list[torch.Tensor]]:
        """See :func:`fast_rcnn_inference`; ``proposals`` need ``proposal_boxes``."""
        return fast_rcnn_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [image.image_size for image in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )

    def predict_boxes(self, predictions: Predictions, proposals: list[Instances]) -> tuple[torch.Tensor, ...]:
        """Per image (Ri, 4K) or (Ri, 4) decoded boxes."""
        if not proposals:
            return ()
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        return self.box2box_transform.apply_deltas(predictions[1], boxes).split([len(p) for p in proposals])

    def predict_boxes_for_gt_classes(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> tuple[torch.Tensor, ...]:
        """Per image (Ri, 4) boxes decoded for each region's true class; background takes the last class's."""
        per_image = []
        for boxes, image in zip(self.predict_boxes(predictions, proposals), proposals):
            per_class = boxes.view(len(boxes), boxes.shape[1] // 4, 4)
            column = image.gt_classes.clamp(0, per_class.shape[1] - 1)
            per_image.append(per_class[torch.arange(len(boxes), device=boxes.device), column])
        return tuple(per_image)

    def predict_probs(self, predictions: Predictions, proposals: list[Instances]) -> tuple[torch.Tensor, ...]:
        """Per image (Ri, K + 1) class probabilities."""
        logits = predictions[0]
        probs = logits.sigmoid() if self.use_sigmoid_ce else logits.softmax(dim=-1)
        return probs.split([len(p) for p in proposals])
