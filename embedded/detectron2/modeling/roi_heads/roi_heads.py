"""Everything that happens per region: sampling of proposals for training, and the heads."""

import inspect
from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry
from torch import nn

from ..matcher import Matcher
from ..poolers import ROIPooler
from ..proposal_generator.proposal_utils import add_ground_truth_to_proposals
from ..sampling import subsample_labels
from ..unsupported_settings import find_registered, reject_setting
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers
from .mask_head import build_mask_head

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_HEADS_REGISTRY.__doc__ = "Callables (cfg, ShapeSpecs by feature name) that return ROIHeads."

Features = dict[str, torch.Tensor]


def build_roi_heads(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """The heads ``cfg.MODEL.ROI_HEADS.NAME``."""
    return find_registered(ROI_HEADS_REGISTRY, "MODEL.ROI_HEADS.NAME", cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


def select_foreground_proposals(
    proposals: list[Instances], bg_label: int
) -> tuple[list[Instances], list[torch.Tensor]]:
    """The instances of each image whose ``gt_classes`` is neither -1 nor ``bg_label``, and masks of where they were."""
    masks = [(image.gt_classes != -1) & (image.gt_classes != bg_label) for image in proposals]
    return [image[mask.nonzero()[:, 0]] for image, mask in zip(proposals, masks)], masks


class ROIHeads(nn.Module):
    """Base of all heads: matches proposals with ground truth and samples them for training."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ):
        """
        Args:
            num_classes: K, without background; background has label K.
            batch_size_per_image, positive_fraction: proposals sampled, and the share of objects in them.
            proposal_append_gt: ground-truth boxes join the proposals, so that there are good ones from the start.
        """
        super().__init__()
        self.num_classes = num_classes
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        self.proposal_matcher, self.proposal_append_gt = proposal_matcher, proposal_append_gt

    @classmethod
    def from_config(cls, cfg) -> dict:
        roi = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": roi.NUM_CLASSES,
            "batch_size_per_image": roi.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": roi.POSITIVE_FRACTION,
            "proposal_matcher": Matcher(roi.IOU_THRESHOLDS, roi.IOU_LABELS, allow_low_quality_matches=False),
            "proposal_append_gt": roi.PROPOSAL_APPEND_GT,
        }

    def _sample_proposals(
        self, matched_idxs: torch.Tensor, matched_labels: torch.Tensor, gt_classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of the sampled proposals, objects first, and their classes in [0, K], K for background.

        Args:
            matched_idxs, matched_labels: per proposal, see :class:`Matcher`.
            gt_classes: classes of the ground truth.
        """
        classes = torch.full_like(matched_idxs, self.num_classes)
        if len(gt_classes):
            classes = torch.where(matched_labels == 0, classes, gt_classes[matched_idxs])
            classes[matched_labels == -1] = -1
        sampled = torch.cat(
            subsample_labels(classes, self.batch_size_per_image, self.positive_fraction, self.num_classes)
        )
        return sampled, classes[sampled]

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """Samples proposals and gives them the ground truth they match.

        Args:
            proposals: with ``proposal_boxes`` and ``objectness_logits``.
            targets: with ``gt_boxes``, ``gt_classes`` and further ``gt_`` fields.

        Returns:
            The sampled proposals with ``gt_classes`` and, where the image has ground truth, all ``gt_`` fields
            (of some object where the proposal is background).
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        samples = [self._match_and_sample(*image) for image in zip(proposals, targets)]
        foreground = sum(int((image.gt_classes != self.num_classes).sum()) for image in samples)
        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", foreground / len(samples))
        storage.put_scalar("roi_head/num_bg_samples", (sum(map(len, samples)) - foreground) / len(samples))
        return samples

    def _match_and_sample(self, proposals: Instances, targets: Instances) -> Instances:
        matches, labels = self.proposal_matcher(pairwise_iou(targets.gt_boxes, proposals.proposal_boxes))
        sampled, classes = self._sample_proposals(matches, labels, targets.gt_classes)
        samples = proposals[sampled]
        samples.gt_classes = classes
        if len(targets):
            for name, value in targets.get_fields().items():
                if name.startswith("gt_") and not samples.has(name):
                    samples.set(name, value[matches[sampled]])
        return samples

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """In training (sampled proposals, losses); in inference (detections, {}).

        Args:
            proposals: with ``proposal_boxes`` and ``objectness_logits``.
            targets: ground truth, in training.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward()")


def _pooler_and_shape(cfg_head, in_features: Sequence[str], input_shape: dict[str, ShapeSpec]):
    """The pooler a head asks for and the shape of what it pools."""
    channels = {input_shape[name].channels for name in in_features}
    if len(channels) != 1:
        raise ValueError(f"the features {list(in_features)} of one head need the same channels, got {channels}")
    side = cfg_head.POOLER_RESOLUTION
    scales = tuple(1.0 / input_shape[name].stride for name in in_features)
    pooler = ROIPooler(side, scales, cfg_head.POOLER_SAMPLING_RATIO, cfg_head.POOLER_TYPE)
    return pooler, ShapeSpec(channels=channels.pop(), height=side, width=side)


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """A box head and an optional mask head that pool their features separately."""

    @configurable
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_in_features: Sequence[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        train_on_pred_boxes: bool = False,
        **kwargs,
    ):
        """
        Args:
            box_in_features, mask_in_features: names of the features; None for no masks.
            mask_pooler: None hands the mask head the features by name.
            box_predictor: with the interface of :class:`FastRCNNOutputLayers`.
            train_on_pred_boxes: the mask head trains on boxes that the box head predicts.
            kwargs: see :class:`ROIHeads`.
        """
        super().__init__(**kwargs)
        self.in_features = self.box_in_features = box_in_features
        self.box_pooler, self.box_head, self.box_predictor = box_pooler, box_head, box_predictor
        self.train_on_pred_boxes = train_on_pred_boxes
        self.mask_on = mask_in_features is not None
        if self.mask_on:
            self.mask_in_features = mask_in_features
            self.mask_pooler, self.mask_head = mask_pooler, mask_head

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        if cfg.MODEL.KEYPOINT_ON:
            reject_setting("MODEL.KEYPOINT_ON True")
        arguments = {**super().from_config(cfg), "train_on_pred_boxes": cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES}
        for init_head in (cls._init_box_head, cls._init_mask_head):
            # A subclass may have turned these into instance methods, to call them itself.
            if inspect.ismethod(init_head):
                arguments.update(init_head(cfg, input_shape))
        return arguments

    @classmethod
    def _init_box_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = _pooler_and_shape(cfg.MODEL.ROI_BOX_HEAD, names, input_shape)
        head = build_box_head(cfg, shape)
        predictor = FastRCNNOutputLayers(cfg, head.output_shape)
        return {"box_in_features": names, "box_pooler": pooler, "box_head": head, "box_predictor": predictor}

    @classmethod
    def _init_mask_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        if not cfg.MODEL.MASK_ON:
            return {}
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = None, {name: input_shape[name] for name in names}
        if cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE:
            pooler, shape = _pooler_and_shape(cfg.MODEL.ROI_MASK_HEAD, names, input_shape)
        return {"mask_in_features": names, "mask_pooler": pooler, "mask_head": build_mask_head(cfg, shape)}

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        if not self.training:
            detections = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, detections), {}
        if targets is None:
            raise ValueError("region heads need ground-truth instances in training")
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._forward_box(features, proposals)
        return proposals, {**losses, **self._forward_mask(features, proposals)}

    def forward_with_given_boxes(self, features: Features, instances: list[Instances]) -> list[Instances]:
        """Adds masks to instances that have ``pred_boxes`` and ``pred_classes``; inference only."""
        if self.training:
            raise RuntimeError("forward_with_given_boxes is for inference: call eval() on the model first")
        return self._forward_mask(features, instances)

    def _forward_box(self, features: Features, proposals: list[Instances]):
        """Losses in training, detections in inference.

        With ``train_on_pred_boxes``, the ``proposal_boxes`` of the sampled proposals become the predicted ones.
        """
        maps = [features[name] for name in self.box_in_features]
        pooled = self.box_pooler(maps, [image.proposal_boxes for image in proposals])
        predictions = self.box_predictor(self.box_head(pooled))
        if not self.training:
            return self.box_predictor.inference(predictions, proposals)[0]
        losses = self.box_predictor.losses(predictions, proposals)
        if self.train_on_pred_boxes:
            with torch.no_grad():
                boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
            for image, image_boxes in zip(proposals, boxes):
                image.proposal_boxes = Boxes(image_boxes)
        return losses

    def _forward_mask(self, features: Features, instances: list[Instances]):
        """Losses of the objects among ``instances`` in training; the instances with masks in inference."""
        if self.mask_on:
            regions, boxes_field = instances, "pred_boxes"
            if self.training:
                regions, boxes_field = select_foreground_proposals(instances, self.num_classes)[0], "proposal_boxes"
            inputs = {name: features[name] for name in self.mask_in_features}
            if self.mask_pooler is not None:
                inputs = self.mask_pooler(list(inputs.values()), [image.get(boxes_field) for image in regions])
            return self.mask_head(inputs, regions)
        return {} if self.training else instances
