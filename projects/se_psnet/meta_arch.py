"""The meta-architecture of SE-PSNet (Chang et al., "SE-PSNet: Silhouette-based Enhancement Feature for Panoptic
Segmentation Network", 2022)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import BitMasks, Instances
from torch import nn

from pnm.errors import UserError
from pnm.silhouettes.mask_scores import mask_score
from pnm.silhouettes.overlap_losses import silhouette_loss

from ..semantic_networks import PassesPixelWeights
from ..semantic_networks.weight_settings import mask_settings
from .basis_head import Bases, BasisHead
from .box_head import AttentionLayer, FCOSHead
from .confidence_head import ConfidenceHead
from .fcos import FCOS
from .mask_branch import MaskBranch
from .output_classes import OutputClasses
from .pooling import objects_of
from .results import ImageOutputs, ResultSettings, results_of
from .stuff_head import SilhouetteStuffHead
from .targets import IGNORED, image_targets


@META_ARCH_REGISTRY.register()
class SEPSNet(PassesPixelWeights):
    """A one-stage panoptic network: FCOS boxes with attention, masks blended of bases, a stuff head, silhouettes as
    auxiliary targets of all of them, and Mask Scores. With all switches off it is BlendMask with a stuff branch.

    In training, an input has "image", "instances" and, unless ``MODEL.SE_PSNET.PANOPTIC`` is False, "sem_seg", 0 being
    any thing; for inference see :mod:`.results`.
    """

    learns_panoptic = True  # the launcher may feed it from panoptic PNGs
    builds_its_own_head = True
    weights_masks = True
    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: FCOS,
        top_layer: AttentionLayer,
        basis_module: BasisHead,
        mask_branch: MaskBranch,
        sem_seg_head: SilhouetteStuffHead | None,
        node: CfgNode,
        output_classes: OutputClasses,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        """
        Args:
            backbone: gives "p2" to "p7".
            proposal_generator, top_layer, basis_module: BlendMask's parts, by its names.
            mask_branch: what is not BlendMask's.
            sem_seg_head: None for instances only.
            node: ``MODEL.SE_PSNET``.
            output_classes: of results.
            pixel_mean, pixel_std: of the image's channels.
        """
        super().__init__()
        self.backbone, self.proposal_generator, self.top_layer = backbone, proposal_generator, top_layer
        self.basis_module, self.mask_branch, self.sem_seg_head = basis_module, mask_branch, sem_seg_head
        self.node, self.output_classes = node, output_classes
        self.settings = ResultSettings.from_node(node)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.register_load_state_dict_pre_hook(_rename_blendmask)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node, backbone = cfg.MODEL.SE_PSNET, build_backbone(cfg)
        shapes = backbone.output_shape()
        channels = _channels(shapes, node)
        _check_classes(node)
        bases = node.BASES.NUMBER + int(node.BLEND_SILHOUETTE)
        semantic_classes = node.NUM_THINGS if node.BASES.SEMANTIC_AUX else 0
        confidence = None
        if node.MASK_SCORE:
            maps = node.BASES.NUMBER + int(node.BASIS_SILHOUETTE)
            confidence = ConfidenceHead(channels, maps, width=node.CONFIDENCE.WIDTH, fc_dim=node.CONFIDENCE.FC_DIM)
        return {
            "backbone": backbone,
            "proposal_generator": FCOS(_box_head(node, channels, shapes), node.FCOS, node.LOSS_WEIGHTS),
            "top_layer": AttentionLayer(channels, bases * node.ATTENTION_SIZE**2),
            "basis_module": BasisHead(
                channels,
                bases=node.BASES.NUMBER,
                width=node.BASES.WIDTH,
                norm=node.BASES.NORM,
                silhouette=node.BASIS_SILHOUETTE,
                semantic_classes=semantic_classes,
                semantic_norm=node.BASES.SEMANTIC_NORM,
            ),
            "mask_branch": MaskBranch(node, confidence, mask_settings(cfg)),
            "sem_seg_head": SilhouetteStuffHead(cfg, shapes) if node.PANOPTIC else None,
            "node": node,
            "output_classes": OutputClasses.from_config(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict[str, Any]]:
        """Losses in training, results in inference, see :mod:`.results`."""
        if not self.training:
            with torch.no_grad():
                outputs = self.predict(batched_inputs)
            return results_of(outputs, batched_inputs, self.output_classes, self.settings)
        truths = self._truths(batched_inputs)
        images = self.normalised_images(batched_inputs)
        features = self.backbone(images.tensor)
        outputs = self.proposal_generator.fcos_head([features[name] for name in self.node.FCOS.IN_FEATURES])
        bases, objects = self.basis_module(features), objects_of(truths)
        positives = self.proposal_generator.positives(outputs, objects)
        classes = torch.cat([truth.gt_classes for truth in truths])
        losses = self.proposal_generator.losses(outputs, positives, objects, classes)
        losses |= self.mask_branch.losses(
            features["p3"], bases, outputs, self.top_layer, positives, objects, images.image_sizes
        )
        losses |= self._basis_losses(batched_inputs, truths, bases, images.tensor)
        if self.sem_seg_head is not None:
            losses |= self.semantic_losses(batched_inputs, features)
        return losses

    def _truths(self, batched_inputs: list[dict]) -> list[Instances]:
        wanted = ("instances",) if self.sem_seg_head is None else ("instances", "sem_seg")
        for x in batched_inputs:
            missing = [key for key in wanted if key not in x]
            if missing:
                raise UserError(
                    f"{x.get('file_name', 'a training sample')} has no {' and no '.join(missing)}; SE-PSNet learns "
                    "from panoptic data, or with MODEL.SE_PSNET.PANOPTIC False from instances"
                )
        return [_with_area(x["instances"].to(self.device), x.get("file_name", "a sample")) for x in batched_inputs]

    def _basis_losses(
        self, batched_inputs: list[dict], truths: list[Instances], bases: Bases, images: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Losses of the basis head's own outputs; means over images, and over this process's cells that count."""
        weights, losses = self.node.LOSS_WEIGHTS, dict[str, torch.Tensor]()
        if bases.silhouettes is None and bases.semantics is None:
            return losses
        stuff, ignored = None, 0
        if self.sem_seg_head is not None:
            stuff, ignored = [x["sem_seg"].to(self.device) for x in batched_inputs], self.sem_seg_head.ignore_value
        targets = image_targets(truths, stuff, (images.shape[-2], images.shape[-1]), ignored)
        if bases.silhouettes is not None:
            loss = silhouette_loss(bases.silhouettes[:, 0], targets.silhouettes, targets.counted)
            losses["loss_basis_silhouette"] = loss * weights.SILHOUETTE
        if bases.semantics is not None:
            total = F.cross_entropy(bases.semantics.float(), targets.semantics, ignore_index=IGNORED, reduction="sum")
            count = (targets.semantics != IGNORED).sum().clamp(min=1)
            losses["loss_basis_semantic"] = total / count * weights.SEMANTIC_AUX
        return losses

    def predict(self, batched_inputs: list[dict]) -> list[ImageOutputs]:
        """What the network says of each image, at its own resolution."""
        images = self.normalised_images(batched_inputs)
        features = self.backbone(images.tensor)
        outputs = self.proposal_generator.fcos_head([features[name] for name in self.node.FCOS.IN_FEATURES])
        bases = self.basis_module(features)
        found = self.proposal_generator.detections(outputs, images.image_sizes)
        attention = self.top_layer.at(outputs, found.regions.images, found.cells)
        masks = self.mask_branch.predict(features["p3"], bases, found.regions, attention)
        logits = None if self.sem_seg_head is None else self.sem_seg_head(features)[0]
        scores = found.scores
        if masks.iou_scores is not None:
            scores = mask_score(found.scores, masks.iou_scores, self.node.ALPHA)
        parts = []
        for n, size in enumerate(images.image_sizes):
            rows = (found.regions.images == n).nonzero()[:, 0]
            parts.append(
                ImageOutputs(
                    size=size,
                    boxes_xyxy=found.regions.boxes_xyxy[rows],
                    classes=found.classes[rows],
                    mask_probs=masks.logits[rows].sigmoid(),
                    scores=scores[rows],
                    fcos_scores=found.scores[rows],
                    iou_scores=None if masks.iou_scores is None else masks.iou_scores[rows],
                    silhouette_scores=None if masks.silhouette_scores is None else masks.silhouette_scores[rows],
                    stuff_logits=None if logits is None else logits[n],
                )
            )
        return parts


def _channels(shapes: dict[str, ShapeSpec], node: CfgNode) -> int:
    """Of the pyramid's features, which all levels share."""
    wanted = {"p3", "p4", "p5", *node.FCOS.IN_FEATURES, *(("p2",) if node.PANOPTIC else ())}
    missing = sorted(wanted - set(shapes))
    if missing:
        raise UserError(
            f"the backbone has no {', '.join(missing)}: set MODEL.BACKBONE.NAME build_resnet_fpn_p2_to_p7_backbone, or "
            "another with P2 to P7"
        )
    return shapes["p3"].channels


def _check_classes(node: CfgNode) -> None:
    if not node.NUM_THINGS:
        raise UserError(
            "MODEL.SE_PSNET.NUM_THINGS is 0 and no data set says it: give config.yaml of the folder that the model was "
            "trained into, or set NUM_THINGS and NUM_STUFF"
        )


def _box_head(node: CfgNode, channels: int, shapes: dict[str, ShapeSpec]) -> FCOSHead:
    fcos = node.FCOS
    return FCOSHead(
        channels,
        node.NUM_THINGS,
        [shapes[name].stride for name in fcos.IN_FEATURES],
        convs=fcos.NUM_CONVS,
        norm=fcos.NORM,
        prior_prob=fcos.PRIOR_PROB,
        box_bias=fcos.BOX_BIAS,
        scales=fcos.SCALES,
    )


def _with_area(truth: Instances, name: str) -> Instances:
    """The objects whose box and mask have an area. Detectron2's mapper gives an image without objects no masks."""
    if not len(truth):
        truth = Instances(truth.image_size, gt_boxes=truth.gt_boxes, gt_classes=truth.gt_classes)
        truth.gt_masks = BitMasks(torch.zeros(0, *truth.image_size, dtype=torch.bool, device=truth.gt_boxes.device))
    if not truth.has("gt_masks"):
        raise UserError(f"{name} has objects without masks, from which SE-PSNet learns: annotate them, or leave it out")
    kept = truth.gt_boxes.nonempty() & truth.gt_masks.nonempty()
    return truth if kept.all() else truth[kept]


def _rename_blendmask(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """BlendMask's stuff head has another name than Detectron2's."""
    old, new = f"{prefix}panoptic_module.", f"{prefix}sem_seg_head."
    for name in [name for name in state_dict if name.startswith(old)]:
        state_dict[new + name.removeprefix(old)] = state_dict.pop(name)
