"""Region-based detectors: backbone, proposals, heads."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from ..backbone import Backbone, build_backbone
from ..postprocessing import detector_postprocess
from ..proposal_generator import build_proposal_generator
from ..roi_heads import build_roi_heads
from .build import META_ARCH_REGISTRY
from .image_model import ImageModel, output_size, pixel_statistics

__all__ = ["GeneralizedRCNN", "ProposalNetwork"]

_PROPOSALS_SHOWN = 20


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(ImageModel):
    """Faster and Mask R-CNN and what derives from them.

    Input dicts have ``image``; in training ``instances``; ``proposals`` when there is no proposal generator;
    and optionally ``height`` and ``width``, the size that results are wanted in.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ):
        """
        Args:
            input_format: of the images, for :meth:`visualize_training`: "RGB", "BGR", ….
            vis_period: every so many iterations an image of the batch is logged with its boxes; 0 never.
        """
        super().__init__(backbone, pixel_mean, pixel_std)
        if vis_period > 0 and input_format is None:
            raise ValueError(f"VIS_PERIOD {vis_period} needs INPUT.FORMAT, to draw the images")
        self.proposal_generator, self.roi_heads = proposal_generator, roi_heads
        self.input_format, self.vis_period = input_format, vis_period

    @classmethod
    def from_config(cls, cfg) -> dict:
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, shapes),
            "roi_heads": build_roi_heads(cfg, shapes),
            **pixel_statistics(cfg),
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict[str, Instances]]:
        """Losses by name in training; in inference per image ``{"instances": …}`` with ``pred_boxes``,
        ``scores``, ``pred_classes`` and ``pred_masks`` (N, H, W) if there is a mask head."""
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        truth = self._field(batched_inputs, "instances")
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self._propose(batched_inputs, images, features, truth)
        _, detector_losses = self.roi_heads(images, features, proposals, truth)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return {**detector_losses, **proposal_losses}

    def _propose(self, batched_inputs, images, features, truth=None):
        """(proposals, losses) of the generator; without one the proposals come with the inputs."""
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, truth)
        given = self._field(batched_inputs, "proposals")
        if given is None:
            raise ValueError("a model without proposal generator needs inputs with the field 'proposals'")
        return given, {}

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[dict[str, Instances]] | list[Instances]:
        """
        Args:
            detected_instances: known ``pred_boxes`` and ``pred_classes``; only the other predictions are made.
            do_postprocess: results in the size wanted, see :meth:`forward`. Otherwise the heads' own instances.
        """
        if self.training:
            raise RuntimeError("inference needs a model in evaluation mode: call eval() first")
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if detected_instances is None:
            proposals, _ = self._propose(batched_inputs, images, features)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            known = [instances.to(self.device) for instances in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, known)
        return self._postprocess(results, batched_inputs, images.image_sizes) if do_postprocess else results

    @staticmethod
    def _postprocess(instances, batched_inputs: list[dict], image_sizes) -> list[dict[str, Instances]]:
        """Results in the sizes that the inputs ask for."""
        triples = zip(instances, batched_inputs, image_sizes)
        return [{"instances": detector_postprocess(found, *output_size(x, size))} for found, x, size in triples]

    def visualize_training(self, batched_inputs: list[dict], proposals: list[Instances]) -> None:
        """Logs the first image of the batch twice, side by side: with true boxes, and with the best proposals."""
        from detectron2.data.detection_utils import convert_image_to_rgb
        from detectron2.utils.visualizer import Visualizer

        inputs = batched_inputs[0]
        image = convert_image_to_rgb(inputs["image"].permute(1, 2, 0), self.input_format)
        shown = proposals[0].proposal_boxes[:_PROPOSALS_SHOWN].tensor.cpu().numpy()
        drawn = [
            Visualizer(image, None).overlay_instances(boxes=boxes).get_image()
            for boxes in (inputs["instances"].gt_boxes, shown)
        ]
        name = "Left: GT bounding boxes;  Right: Predicted proposals"
        get_event_storage().put_image(name, np.concatenate(drawn, axis=1).transpose(2, 0, 1))


@META_ARCH_REGISTRY.register()
class ProposalNetwork(ImageModel):
    """A model that only proposes regions; inputs are as for :class:`GeneralizedRCNN`."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        super().__init__(backbone, pixel_mean, pixel_std)
        self.proposal_generator = proposal_generator

    @classmethod
    def from_config(cls, cfg) -> dict:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            **pixel_statistics(cfg),
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict[str, Instances]]:
        """Losses by name in training; per image ``{"proposals": …}`` in inference."""
        images = self.preprocess_image(batched_inputs)
        truth = self._field(batched_inputs, "instances")
        proposals, losses = self.proposal_generator(images, self.backbone(images.tensor), truth)
        if self.training:
            return losses
        triples = zip(proposals, batched_inputs, images.image_sizes)
        return [{"proposals": detector_postprocess(found, *output_size(x, size))} for found, x, size in triples]
