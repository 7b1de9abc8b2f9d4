"""Selection of proposals among decoded anchors."""

import math

import torch
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances

# Logit of an objectness of 1 - 1e-10, given to ground truth that joins the proposals.
_CERTAIN_LOGIT = math.log((1.0 - 1e-10) / (1 - (1.0 - 1e-10)))


def find_top_rpn_proposals(
    proposals: list[torch.Tensor],
    pred_objectness_logits: list[torch.Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float = 0.0,
    training: bool = False,
) -> list[Instances]:
    """The best proposals of each image, after suppression within each feature level.

    Args:
        proposals, pred_objectness_logits: per level (N, R, 4) boxes and (N, R) logits of N images.
        image_sizes: N pairs (height, width) that boxes are clipped to.
        pre_nms_topk: boxes that each level enters with.
        post_nms_topk: boxes that an image keeps over all levels.
        min_box_size: sides must be longer than this many pixels.
        training: NaN or infinite predictions are an error; otherwise they are dropped.

    Returns:
        Per image ``proposal_boxes`` and ``objectness_logits``, best first.

    Raises:
        FloatingPointError: see ``training``.
    """
    boxes, logits, levels = [], [], []
    for level, (level_boxes, level_logits) in enumerate(zip(proposals, pred_objectness_logits)):
        top_logits, top = level_logits.topk(min(pre_nms_topk, level_logits.shape[1]), dim=1)
        logits.append(top_logits)
        boxes.append(level_boxes.gather(1, top[..., None].expand(-1, -1, 4)))
        levels.append(torch.full_like(top[0], level))
    boxes, logits, levels = torch.cat(boxes, dim=1), torch.cat(logits, dim=1), torch.cat(levels)

    results = []
    for image_boxes, image_logits, image_size in zip(boxes, logits, image_sizes):
        finite = torch.isfinite(image_boxes).all(dim=1) & torch.isfinite(image_logits)
        if training and not finite.all():
            raise FloatingPointError("the RPN predicts NaN or infinite boxes or scores: training has diverged")
        candidates = Instances(image_size)
        candidates.proposal_boxes = Boxes(image_boxes[finite])
        candidates.objectness_logits = image_logits[finite]
        candidates.proposal_boxes.clip(image_size)
        large = candidates.proposal_boxes.nonempty(threshold=min_box_size)
        candidates, image_levels = candidates[large], levels[finite][large]
        kept = batched_nms(candidates.proposal_boxes.tensor, candidates.objectness_logits, image_levels, nms_thresh)
        results.append(candidates[kept[:post_nms_topk]])
    return results


def add_ground_truth_to_proposals(gt: list[Instances] | list[Boxes], proposals: list[Instances]) -> list[Instances]:
    """Appends each image's ground-truth boxes to its proposals, with an objectness of nearly 1.

    The ground truth must have every field that the proposals have, apart from these two.

    Raises:
        ValueError: when the numbers of images differ, or a field is missing.
    """
    if len(gt) != len(proposals):
        raise ValueError(f"{len(proposals)} images have proposals and {len(gt)} have ground truth")
    return [add_ground_truth_to_proposals_single_image(*pair) for pair in zip(gt, proposals)]


def add_ground_truth_to_proposals_single_image(gt: Instances | Boxes, proposals: Instances) -> Instances:
    """:func:`add_ground_truth_to_proposals` for one image."""
    fields = {"gt_boxes": gt} if isinstance(gt, Boxes) else gt.get_fields()
    logits = proposals.objectness_logits.new_full((len(fields["gt_boxes"]),), _CERTAIN_LOGIT)
    extra = {**fields, "proposal_boxes": fields["gt_boxes"], "objectness_logits": logits}
    missing = sorted(set(proposals.get_fields()) - set(extra))
    if missing:
        raise ValueError(f"proposals have the fields {missing}, which the ground truth lacks")
    return Instances.cat([proposals, Instances(proposals.image_size, **extra)])
