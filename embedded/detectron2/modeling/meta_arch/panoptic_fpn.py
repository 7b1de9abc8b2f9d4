"""Panoptic FPN (Kirillov et al., 2019): Mask R-CNN with a semantic head, and the fusion of the two."""

import logging

import torch
from detectron2.config import configurable
from detectron2.structures import Instances
from torch import nn

from ..postprocessing import sem_seg_postprocess
from .build import META_ARCH_REGISTRY
from .image_model import output_size
from .rcnn import GeneralizedRCNN
from .semantic_seg import build_sem_seg_head

__all__ = ["PanopticFPN", "combine_semantic_and_instance_outputs"]


@META_ARCH_REGISTRY.register()
class PanopticFPN(GeneralizedRCNN):
    """Inputs are as for :class:`GeneralizedRCNN`, in training with ``sem_seg``, an (H, W) int64 tensor of labels
    in which 0 stands for all things."""

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: nn.Module,
        combine_instances_score_thresh: float = 0.5,
        combine_overlap_thresh: float = 0.5,
        combine_stuff_area_thresh: float = 4096,
        **kwargs,
    ):
        """
        Args:
            combine_instances_score_thresh, combine_overlap_thresh, combine_stuff_area_thresh: see
                :func:`combine_semantic_and_instance_outputs`.
            kwargs: see :class:`GeneralizedRCNN`.
        """
        super().__init__(**kwargs)
        self.sem_seg_head = sem_seg_head
        self.combine_instances_score_thresh = combine_instances_score_thresh
        self.combine_overlap_thresh, self.combine_stuff_area_thresh = combine_overlap_thresh, combine_stuff_area_thresh

    @classmethod
    def from_config(cls, cfg) -> dict:
        arguments, combine = super().from_config(cfg), cfg.MODEL.PANOPTIC_FPN.COMBINE
        if not combine.ENABLED:
            logging.getLogger(__name__).warning(
                "MODEL.PANOPTIC_FPN.COMBINE.ENABLED has no effect; call model.inference(do_postprocess=False)"
            )
        _scale_instance_losses(arguments["roi_heads"], cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT)
        return {
            **arguments,
            "sem_seg_head": build_sem_seg_head(cfg, arguments["backbone"].output_shape()),
            "combine_overlap_thresh": combine.OVERLAP_THRESH,
            "combine_stuff_area_thresh": combine.STUFF_AREA_LIMIT,
            "combine_instances_score_thresh": combine.INSTANCES_CONFIDENCE_THRESH,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Losses by name in training. In inference per image ``instances`` (see :class:`GeneralizedRCNN`),
        ``sem_seg`` (K, H, W) logits, and ``panoptic_seg`` from :func:`combine_semantic_and_instance_outputs`."""
        if not self.training:
            return self.inference(batched_inputs)
        labels = self._field(batched_inputs, "sem_seg")
        if labels is None:
            raise ValueError("PanopticFPN needs inputs with the field 'sem_seg' in training")
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        _, losses = self.sem_seg_head(features, self._batch(labels, self.sem_seg_head.ignore_value).tensor)
        truth = self._field(batched_inputs, "instances")
        proposals, proposal_losses = self._propose(batched_inputs, images, features, truth)
        _, detector_losses = self.roi_heads(images, features, proposals, truth)
        return {**losses, **proposal_losses, **detector_losses}

    def inference(self, batched_inputs: list[dict], do_postprocess: bool = True):
        """
        Args:
            do_postprocess: results as in :meth:`forward`. Otherwise the heads' own outputs:
                (list of Instances, (N, K, H, W) logits).
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        logits, _ = self.sem_seg_head(features, None)
        proposals, _ = self._propose(batched_inputs, images, features)
        detections, _ = self.roi_heads(images, features, proposals, None)
        if not do_postprocess:
            return detections, logits
        results = self._postprocess(detections, batched_inputs, images.image_sizes)
        for result, image_logits, inputs, size in zip(results, logits, batched_inputs, images.image_sizes):
            result["sem_seg"] = sem_seg_postprocess(image_logits, size, *output_size(inputs, size))
            result["panoptic_seg"] = combine_semantic_and_instance_outputs(
                result["instances"],
                result["sem_seg"].argmax(dim=0),
                self.combine_overlap_thresh,
                self.combine_stuff_area_thresh,
                self.combine_instances_score_thresh,
            )
        return results


def _scale_instance_losses(roi_heads: nn.Module, factor: float) -> None:
    if factor == 1.0:
        return
    for head in (roi_heads.box_predictor, roi_heads.mask_head):
        if isinstance(head.loss_weight, dict):
            head.loss_weight = {name: weight * factor for name, weight in head.loss_weight.items()}
        else:
            head.loss_weight *= factor


def combine_semantic_and_instance_outputs(
    instance_results: Instances,
    semantic_results: torch.Tensor,
    overlap_threshold: float,
    stuff_area_thresh: float,
    instances_score_thresh: float,
) -> tuple[torch.Tensor, list[dict]]:
    """Instances by descending score take the pixels that are still free, stuff takes the rest.

    Args:
        instance_results: ``scores``, ``pred_classes`` and ``pred_masks`` (N, H, W).
        semantic_results: (H, W) int64 labels; 0 stands for things and is left empty.
        overlap_threshold: an instance more than this share of which is taken already is dropped.
        stuff_area_thresh: stuff on fewer free pixels than this is dropped.
        instances_score_thresh: instances below this score are dropped.

    Returns:
        (H, W) int32 segment ids, 0 for none; and per segment ``id``, ``isthing``, ``category_id``, and ``score`` and
        ``instance_id`` (row among the instances) for things, ``area`` for stuff.
    """
    panoptic = torch.zeros_like(semantic_results, dtype=torch.int32)
    segments: list[dict] = []
    _add_instances(panoptic, segments, instance_results, overlap_threshold, instances_score_thresh)
    free = panoptic == 0
    areas = torch.bincount(semantic_results[free], minlength=int(semantic_results.max()) + 1).tolist()
    ids_by_label = torch.zeros(len(areas), dtype=torch.int32)
    for label in torch.unique(semantic_results).tolist():
        if label != 0 and areas[label] >= stuff_area_thresh:
            ids_by_label[label] = len(segments) + 1
            segments.append({"id": len(segments) + 1, "isthing": False, "category_id": label, "area": areas[label]})
    return torch.where(free, ids_by_label.to(panoptic.device)[semantic_results], panoptic), segments


def _add_instances(
    panoptic: torch.Tensor, segments: list[dict], instances: Instances, max_overlap: float, min_score: float
) -> None:
    """Paints the instances into ``panoptic`` and lists them in ``segments``."""
    masks = instances.pred_masks.to(panoptic.device, torch.bool)
    scores, classes = instances.scores.tolist(), instances.pred_classes.tolist()
    for index in torch.argsort(-instances.scores).tolist():
        if scores[index] < min_score:
            break
        free = masks[index] & (panoptic == 0)
        area, free_area = torch.stack([masks[index].sum(), free.sum()]).tolist()
        if area == 0 or (area - free_area) / area > max_overlap:
            continue
        segment_id = len(segments) + 1
        panoptic[free] = segment_id
        segments.append(
            {
                "id": segment_id,
                "isthing": True,
                "score": scores[index],
                "category_id": classes[index],
                "instance_id": index,
            }
        )
