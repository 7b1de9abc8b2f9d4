"""Detectron2's meta-architectures, and this project's, with pixel-weighted losses."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, PanopticFPN
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess

from pnm.null_model.settings import PNMSettings
from pnm.panoptic_fusion.detectron2_interface import combine_semantic_and_instance_outputs

from ..semantic_networks import PassesPixelWeights, PixelWeightedSegmentor, SemanticNetwork
from ..semantic_networks.weight_settings import semantic_settings


@META_ARCH_REGISTRY.register()
class PNMSemanticSegmentor(PixelWeightedSegmentor):
    """``SemanticSegmentor`` with pixel weights."""


@META_ARCH_REGISTRY.register()
class PNMSemanticNetwork(SemanticNetwork):
    """``SemanticNetwork``, weighted by pixel with ``MODEL.PNM.ENABLED`` and with plain cross-entropy without."""

    builds_its_own_head = True

    @classmethod
    def from_config(cls, cfg: CfgNode, pnm: PNMSettings | None = None) -> dict:
        return super().from_config(cfg, pnm or semantic_settings(cfg))


@META_ARCH_REGISTRY.register()
class PNMPanopticFPN(PassesPixelWeights, PanopticFPN):
    """``PanopticFPN`` with pixel weights; its mask loss is weighted by :class:`.mask_head.PNMROIHeads`."""

    proposal_generator: Any
    roi_heads: Any
    combine_overlap_thresh: float
    combine_stuff_area_thresh: float
    combine_instances_score_thresh: float

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """As ``PanopticFPN``."""
        if not self.training:
            return super().forward(batched_inputs)
        images = self.normalised_images(batched_inputs)
        features = self.backbone(images.tensor)
        losses = self.semantic_losses(batched_inputs, features)
        truth = [x["instances"].to(self.device) for x in batched_inputs]
        proposals, proposal_losses = self.proposal_generator(images, features, truth)
        _, detector_losses = self.roi_heads(images, features, proposals, truth)
        return {**losses, **proposal_losses, **detector_losses}

    def inference(self, batched_inputs: list[dict], do_postprocess: bool = True):
        """As ``PanopticFPN``, whose results are combined many times as fast (benchmarks/panoptic_fusion.py)."""
        detections, logits = super().inference(batched_inputs, do_postprocess=False)
        if not do_postprocess:
            return detections, logits
        results = []
        for found, image_logits, given in zip(detections, logits, batched_inputs, strict=True):
            size = given.get("height", found.image_size[0]), given.get("width", found.image_size[1])
            instances = detector_postprocess(found, *size)
            sem_seg = sem_seg_postprocess(image_logits, found.image_size, *size)
            panoptic = combine_semantic_and_instance_outputs(
                instances,
                sem_seg.argmax(dim=0),
                self.combine_overlap_thresh,
                self.combine_stuff_area_thresh,
                self.combine_instances_score_thresh,
            )
            results.append({"instances": instances, "sem_seg": sem_seg, "panoptic_seg": panoptic})
        return results
