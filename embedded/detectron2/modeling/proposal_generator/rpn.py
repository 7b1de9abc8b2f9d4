"""Region proposal network (Ren et al., Faster R-CNN, 2015)."""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, cat
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry
from torch import nn
from torch.nn import functional as F

from ..anchor_generator import build_anchor_generator
from ..box_regression import Box2BoxTransform, box_regression_loss
from ..matcher import Matcher
from ..sampling import subsample_labels
from ..unsupported_settings import find_registered
from .build import PROPOSAL_GENERATOR_REGISTRY
from .proposal_utils import find_top_rpn_proposals

RPN_HEAD_REGISTRY = Registry("RPN_HEAD")
RPN_HEAD_REGISTRY.__doc__ = "Callables (cfg, list of ShapeSpec) that return an RPN head."


def build_rpn_head(cfg, input_shape: list[ShapeSpec]) -> nn.Module:
    """The head ``cfg.MODEL.RPN.HEAD_NAME`` for features of these shapes."""
    return find_registered(RPN_HEAD_REGISTRY, "MODEL.RPN.HEAD_NAME", cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3×3 convolutions shared by all levels, then objectness and deltas of every anchor by 1×1 convolutions."""

    @configurable
    def __init__(self, *, in_channels: int, num_anchors: int, box_dim: int = 4, conv_dims: Sequence[int] = (-1,)):
        """
        Args:
            num_anchors: per cell.
            conv_dims: widths of the 3×3 convolutions; -1 keeps the width.
        """
        super().__init__()
        convs, width = [], in_channels
        for dim in conv_dims:
            dim = width if dim == -1 else dim
            if dim <= 0:
                raise ValueError(f"MODEL.RPN.CONV_DIMS needs positive widths or -1, got {list(conv_dims)}")
            convs.append(Conv2d(width, dim, 3, padding=1, activation=nn.ReLU()))
            width = dim
        # Checkpoints name a single convolution `conv`, several `conv.conv0`, `conv.conv1`, …
        self.conv = convs[0] if len(convs) == 1 else nn.Sequential()
        if len(convs) != 1:
            for index, conv in enumerate(convs):
                self.conv.add_module(f"conv{index}", conv)
        self.objectness_logits = nn.Conv2d(width, num_anchors, 1)
        self.anchor_deltas = nn.Conv2d(width, num_anchors * box_dim, 1)
        for layer in (*convs, self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]) -> dict:
        anchors = build_anchor_generator(cfg, input_shape)
        channels, counts = {shape.channels for shape in input_shape}, set(anchors.num_anchors)
        if len(channels) != 1 or len(counts) != 1:
            raise ValueError(
                "all levels share the RPN head: they need the same channels and anchors per cell, "
                f"got {channels} channels and {counts} anchors"
            )
        return {
            "in_channels": channels.pop(),
            "num_anchors": counts.pop(),
            "box_dim": anchors.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Per level (N, A, H, W) objectness logits and (N, 4A, H, W) deltas."""
        hidden = [self.conv(feature) for feature in features]
        return [self.objectness_logits(x) for x in hidden], [self.anchor_deltas(x) for x in hidden]


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Proposals from the anchors of several feature maps."""

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        head: nn.Module,
        anchor_generator: nn.Module,
        box2box_transform: Box2BoxTransform,
        anchor_matcher: Matcher,
        anchor_boundary_thresh: float = -1.0,
        batch_size_per_image: int,
        positive_fraction: float,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
        loss_weight: float | dict[str, float] = 1.0,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
    ):
        """
        Args:
            anchor_boundary_thresh: anchors further outside the image than this many pixels are ignored;
                below 0 none is.
            batch_size_per_image, positive_fraction: anchors sampled for the loss, and the share of objects in them.
            loss_weight: one factor, or factors by loss name.
            pre_nms_topk, post_nms_topk: (training, inference), see :func:`find_top_rpn_proposals`.
        """
        super().__init__()
        self.in_features, self.rpn_head, self.anchor_generator = in_features, head, anchor_generator
        self.anchor_matcher, self.box2box_transform = anchor_matcher, box2box_transform
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        self.pre_nms_topk, self.post_nms_topk = (
            dict(zip((True, False), limits)) for limits in (pre_nms_topk, post_nms_topk)
        )
        self.nms_thresh, self.min_box_size = nms_thresh, float(min_box_size)
        self.anchor_boundary_thresh = anchor_boundary_thresh
        if not isinstance(loss_weight, dict):
            loss_weight = dict.fromkeys(("loss_rpn_cls", "loss_rpn_loc"), loss_weight)
        self.loss_weight = loss_weight
        self.box_reg_loss_type, self.smooth_l1_beta = box_reg_loss_type, smooth_l1_beta

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        rpn = cfg.MODEL.RPN
        shapes = [input_shape[name] for name in rpn.IN_FEATURES]
        return {
            "in_features": rpn.IN_FEATURES,
            "head": build_rpn_head(cfg, shapes),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(rpn.IOU_THRESHOLDS, rpn.IOU_LABELS, allow_low_quality_matches=True),
            "anchor_boundary_thresh": rpn.BOUNDARY_THRESH,
            "batch_size_per_image": rpn.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": rpn.POSITIVE_FRACTION,
            "pre_nms_topk": (rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
            "nms_thresh": rpn.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "box2box_transform": Box2BoxTransform(weights=rpn.BBOX_REG_WEIGHTS),
            "box_reg_loss_type": rpn.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": rpn.SMOOTH_L1_BETA,
            "loss_weight": {
                "loss_rpn_cls": rpn.LOSS_WEIGHT,
                "loss_rpn_loc": rpn.LOSS_WEIGHT * rpn.BBOX_REG_LOSS_WEIGHT,
            },
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """Proposals of each image, and in training the losses, for which ``gt_instances`` have ``gt_boxes``."""
        maps = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(maps)
        logits, deltas = self.rpn_head(maps)
        logits = [_anchors_last(x, 1)[..., 0] for x in logits]
        deltas = [_anchors_last(x, self.anchor_generator.box_dim) for x in deltas]
        losses = {}
        if self.training:
            if gt_instances is None:
                raise ValueError("the RPN needs ground-truth instances in training")
            gt_labels, gt_boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, logits, gt_labels, deltas, gt_boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Matches the R anchors of all levels to each image's ground truth and samples them.

        Returns:
            Per image (R,) labels, 1 object, 0 background, -1 not sampled; and (R, 4) matched ground-truth boxes,
            meaningful for objects only.
        """
        anchors = Boxes.cat(anchors)
        labels, matched_boxes = [], []
        for truth in gt_instances:
            quality = retry_if_cuda_oom(pairwise_iou)(truth.gt_boxes, anchors)
            matches, image_labels = retry_if_cuda_oom(self.anchor_matcher)(quality)
            image_labels = image_labels.to(truth.gt_boxes.device)
            if self.anchor_boundary_thresh >= 0:
                image_labels[~anchors.inside_box(truth.image_size, self.anchor_boundary_thresh)] = -1
            labels.append(self._subsample_labels(image_labels))
            has_truth = len(truth.gt_boxes) > 0
            matched_boxes.append(truth.gt_boxes.tensor[matches] if has_truth else torch.zeros_like(anchors.tensor))
        return labels, matched_boxes

    def _subsample_labels(self, label: torch.Tensor) -> torch.Tensor:
        """Labels with -1 for all anchors that are not sampled."""
        objects, background = subsample_labels(label, self.batch_size_per_image, self.positive_fraction, 0)
        sampled = torch.full_like(label, -1)
        sampled[objects] = 1
        sampled[background] = 0
        return sampled

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        gt_labels: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        gt_boxes: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """``loss_rpn_cls`` and ``loss_rpn_loc``: sums over sampled anchors ÷ (images × batch size), of this process.

        Args:
            pred_objectness_logits, pred_anchor_deltas: per level (N, R) and (N, R, 4).
            gt_labels, gt_boxes: see :meth:`label_and_sample_anchors`.
        """
        labels = torch.stack(gt_labels)
        positive, sampled = labels == 1, labels >= 0
        num_images, (num_positive, num_sampled) = len(labels), torch.stack([positive.sum(), sampled.sum()]).tolist()
        storage = get_event_storage()
        storage.put_scalar("rpn/num_pos_anchors", num_positive / num_images)
        storage.put_scalar("rpn/num_neg_anchors", (num_sampled - num_positive) / num_images)

        all_anchors = Boxes.cat(anchors).tensor.expand(num_images, -1, -1)
        localization = box_regression_loss(
            self.box2box_transform,
            cat(pred_anchor_deltas, dim=1)[positive],
            all_anchors[positive],
            torch.stack(gt_boxes)[positive],
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        objectness = F.binary_cross_entropy_with_logits(
            cat(pred_objectness_logits, dim=1)[sampled], labels[sampled].float(), reduction="sum"
        )
        denominator = self.batch_size_per_image * num_images
        sums = {"loss_rpn_cls": objectness, "loss_rpn_loc": localization}
        return {name: value / denominator * self.loss_weight.get(name, 1.0) for name, value in sums.items()}

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decodes and selects proposals; no gradient flows through their coordinates."""
        with torch.no_grad():
            boxes = [self._decode(*level) for level in zip(anchors, pred_anchor_deltas)]
            keep = {
                "nms_thresh": self.nms_thresh,
                "pre_nms_topk": self.pre_nms_topk[self.training],
                "post_nms_topk": self.post_nms_topk[self.training],
                "min_box_size": self.min_box_size,
            }
            return find_top_rpn_proposals(boxes, pred_objectness_logits, image_sizes, **keep, training=self.training)

    def _decode(self, anchors: Boxes, deltas: torch.Tensor) -> torch.Tensor:
        """(N, R, 4) boxes from R anchors and (N, R, 4) deltas."""
        per_image = anchors.tensor.repeat(len(deltas), 1)
        return self.box2box_transform.apply_deltas(deltas.flatten(0, 1), per_image).view(deltas.shape)


def _anchors_last(x: torch.Tensor, box_dim: int) -> torch.Tensor:
    """(N, A · box_dim, H, W) to (N, H · W · A, box_dim)."""
    return x.unflatten(1, (-1, box_dim)).permute(0, 3, 4, 1, 2).flatten(1, 3)
