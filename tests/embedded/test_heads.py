"""Heads, their losses, and the fusion of their results, against closed forms."""

import sys
from pathlib import Path

import detectron2
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model, detector_postprocess
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.structures import BitMasks, Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

sys.path.append(str(Path(__file__).parent))
from toy_boxes import boxes_in  # noqa: E402

EMBEDDED = detectron2.__version__.endswith("embedded")
BAD_INPUT = (ValueError, AssertionError)


def predictor(**kwargs) -> FastRCNNOutputLayers:
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    return FastRCNNOutputLayers(ShapeSpec(channels=8), box2box_transform=transform, num_classes=4, **kwargs)


@pytest.mark.parametrize("agnostic", [False, True])
def test_box_losses_against_closed_forms(agnostic):
    layers = predictor(cls_agnostic_bbox_reg=agnostic, loss_weight={"loss_box_reg": 3.0})
    boxes, targets = boxes_in(50, 50, 6), boxes_in(50, 50, 6, 1)
    classes = torch.tensor([0, 4, 2, 4, 3, 4])
    proposals = [Instances((50, 50), proposal_boxes=Boxes(boxes), gt_boxes=Boxes(targets), gt_classes=classes)]
    logits, deltas = torch.randn(6, 5), torch.randn(6, 4 if agnostic else 16)
    with EventStorage() as storage:
        losses = layers.losses((logits, deltas), proposals)
        logged = {name: value for name, (value, _) in storage.latest().items()}
    assert torch.allclose(losses["loss_cls"], F.cross_entropy(logits, classes))
    truth = layers.box2box_transform.get_deltas(boxes, targets)
    total = sum(
        (deltas[i, 0 if agnostic else 4 * c :][:4] - truth[i]).abs().sum()
        for i, c in enumerate(classes.tolist())
        if c < 4
    )
    assert torch.allclose(losses["loss_box_reg"], 3 * total / 6, rtol=1e-5)
    assert logged["fast_rcnn/cls_accuracy"] == pytest.approx((logits.argmax(1) == classes).float().mean().item())


@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
def test_box_losses_of_perfect_and_of_no_objects(kind):
    layers, boxes, targets = predictor(box_reg_loss_type=kind), boxes_in(50, 50, 3), boxes_in(50, 50, 3, 1)
    classes = torch.tensor([1, 0, 4])
    perfect = layers.box2box_transform.get_deltas(boxes, targets).repeat(1, 4)
    assert layers.box_reg_loss(boxes, targets, perfect, classes).item() == pytest.approx(0, abs=1e-5)
    deltas = torch.randn(3, 16, requires_grad=True)
    nothing = layers.box_reg_loss(boxes, targets, deltas, torch.full((3,), 4))
    nothing.backward()
    assert nothing.item() == 0 and deltas.grad.abs().sum() == 0
    with pytest.raises(ValueError):
        predictor(box_reg_loss_type="l3").box_reg_loss(boxes, targets, perfect, classes)


def mask_targets() -> list[Instances]:
    masks = torch.zeros(2, 28, 28, dtype=torch.bool)
    masks[0, :14], masks[1, :, 7:] = True, True
    whole = Boxes(torch.tensor([[0.0, 0.0, 28.0, 28.0]] * 2))
    fields = {"proposal_boxes": whole, "gt_classes": torch.tensor([2, 0]), "gt_masks": BitMasks(masks)}
    return [Instances((28, 28), **fields), Instances((28, 28), **fields)[:0]]


@pytest.mark.parametrize("num_classes", [1, 3])
def test_mask_loss_against_a_closed_form(num_classes):
    objects = mask_targets()
    logits = torch.randn(2, num_classes, 28, 28, requires_grad=True)
    with EventStorage() as storage:
        loss = mask_rcnn_loss(logits, objects)
        logged = {name: value for name, (value, _) in storage.latest().items()}
    chosen = logits[:, 0] if num_classes == 1 else logits[[0, 1], [2, 0]]
    truth = objects[0].gt_masks.tensor
    assert torch.allclose(loss, F.binary_cross_entropy_with_logits(chosen, truth.float()))
    wrong = (chosen > 0) != truth
    assert logged["mask_rcnn/accuracy"] == pytest.approx(1 - wrong.float().mean().item())
    assert logged["mask_rcnn/false_negative"] == pytest.approx((wrong & truth).sum().item() / truth.sum().item())
    assert logged["mask_rcnn/false_positive"] == pytest.approx((wrong & ~truth).sum().item() / (~truth).sum().item())
    empty = mask_rcnn_loss(logits[:0], objects[1:])
    empty.backward()
    assert empty.item() == 0 and logits.grad.abs().sum() == 0


def test_mask_inference_takes_the_predicted_class():
    logits = torch.randn(3, 4, 14, 14)
    images = [Instances((9, 9), pred_classes=torch.tensor([3, 1])), Instances((9, 9), pred_classes=torch.tensor([0]))]
    mask_rcnn_inference(logits, images)
    assert torch.allclose(images[0].pred_masks, logits[[0, 1], [3, 1]][:, None].sigmoid())
    assert images[1].pred_masks.shape == (1, 1, 14, 14)


def test_postprocessing_scales_boxes_and_drops_empty_ones():
    boxes = torch.tensor([[2.0, 2.0, 10.0, 8.0], [30.0, 2.0, 40.0, 8.0]])  # the second lies outside the image
    found = Instances(
        (20, 30), pred_boxes=Boxes(boxes), scores=torch.tensor([0.9, 0.8]), pred_masks=torch.ones(2, 1, 28, 28)
    )
    result = detector_postprocess(found, 40, 90)
    assert result.pred_boxes.tensor.tolist() == [[6, 4, 30, 16]] and result.image_size == (40, 90)
    assert result.pred_masks.shape == (1, 40, 90) and result.pred_masks.sum() == 24 * 12
    logits = torch.randn(3, 32, 32)
    expected = F.interpolate(logits[None, :, :20, :30], size=(10, 15), mode="bilinear", align_corners=False)[0]
    assert torch.allclose(sem_seg_postprocess(logits, (20, 30), 10, 15), expected)


def test_semantic_head_upsamples_and_ignores():
    shapes = {"p3": ShapeSpec(channels=4, stride=8), "p2": ShapeSpec(channels=4, stride=4)}
    head = SemSegFPNHead(
        shapes, num_classes=5, conv_dims=6, common_stride=4, norm="", ignore_value=255, loss_weight=2.0
    )
    features = {"p2": torch.randn(1, 4, 8, 8), "p3": torch.randn(1, 4, 4, 4)}
    logits, losses = head.eval()(features)
    assert logits.shape == (1, 5, 32, 32) and losses == {}
    by_hand = F.relu(F.conv2d(features["p2"], head.p2[0].weight, head.p2[0].bias, padding=1))
    coarse = F.relu(F.conv2d(features["p3"], head.p3[0].weight, head.p3[0].bias, padding=1))
    by_hand = by_hand + F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    by_hand = F.interpolate(head.predictor(by_hand), scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.allclose(logits, by_hand, atol=1e-5)
    labels = torch.randint(0, 5, (1, 32, 32))
    labels[:, :10] = 255
    _, losses = head.train()(features, labels)
    assert torch.allclose(losses["loss_sem_seg"], 2 * F.cross_entropy(logits[:, :, 10:], labels[:, 10:]), rtol=1e-5)


@pytest.mark.skipif(not EMBEDDED, reason="Detectron2 gives NaN here")
def test_semantic_loss_without_labels_is_zero():
    head = SemSegFPNHead({"p2": ShapeSpec(channels=4, stride=4)}, num_classes=5, conv_dims=6, common_stride=4)
    _, losses = head({"p2": torch.randn(1, 4, 8, 8)}, torch.full((1, 32, 32), -1))
    losses["loss_sem_seg"].backward()
    assert losses["loss_sem_seg"].item() == 0 and head.predictor.weight.grad.abs().sum() == 0


def test_panoptic_fusion_of_a_small_scene():
    masks = torch.zeros(4, 10, 10, dtype=torch.bool)
    masks[0, 0:4, 0:4] = True  # 16 pixels, kept whole
    masks[1, 0:4, 2:7] = True  # 20 pixels, 8 of them taken: keeps 12
    masks[2, 0:4, 0:5] = True  # 20 pixels, all taken: dropped
    masks[3, 9, 9] = True  # score too low
    found = Instances(
        (10, 10), scores=torch.tensor([0.9, 0.8, 0.7, 0.2]), pred_classes=torch.tensor([5, 6, 7, 8]), pred_masks=masks
    )
    semantic = torch.zeros(10, 10, dtype=torch.int64)
    semantic[5:], semantic[4, :3] = 3, 2
    panoptic, segments = combine_semantic_and_instance_outputs(found, semantic, 0.5, 10, 0.5)
    expected = torch.zeros(10, 10, dtype=torch.int32)
    expected[0:4, 0:4], expected[0:4, 4:7], expected[5:] = 1, 2, 3
    assert panoptic.dtype == torch.int32 and torch.equal(panoptic, expected)
    assert [(s["id"], s["isthing"], s["category_id"]) for s in segments] == [(1, True, 5), (2, True, 6), (3, False, 3)]
    assert [s["instance_id"] for s in segments[:2]] == [0, 1] and segments[2]["area"] == 50
    assert segments[0]["score"] == pytest.approx(0.9)
    nothing, segments = combine_semantic_and_instance_outputs(
        found[:0], torch.zeros(4, 5, dtype=torch.int64), 0.5, 1, 0.5
    )
    assert not nothing.any() and segments == []


@pytest.mark.skipif(not EMBEDDED, reason="what the embedded engine leaves out")
@pytest.mark.parametrize(
    "setting, error",
    [
        (["MODEL.KEYPOINT_ON", True], ValueError),
        (["MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True]], ImportError),
        (["MODEL.ROI_BOX_HEAD.USE_FED_LOSS", True], ImportError),
        (["MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignRotated"], ImportError),
        (["MODEL.ROI_HEADS.NAME", "CascadeROIHeads"], KeyError),
        (["MODEL.META_ARCHITECTURE", "RetinaNet"], KeyError),
        (["MODEL.BACKBONE.NAME", "build_swin"], KeyError),
    ],
)
def test_settings_outside_name_detectron2(setting, error):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.DEVICE = "build_resnet_fpn_backbone", "cpu"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.IN_FEATURES = "StandardROIHeads", ["p2", "p3", "p4", "p5"]
    cfg.MODEL.RPN.IN_FEATURES, cfg.MODEL.ROI_BOX_HEAD.NAME = ["p2", "p3", "p4", "p5", "p6"], "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    with pytest.raises(error, match="github.com/facebookresearch/detectron2"):
        cfg.merge_from_list(setting)
        build_model(cfg)


def test_resnet18_needs_its_widths():
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = 18
    with pytest.raises(BAD_INPUT, match="RES2_OUT_CHANNELS"):
        build_backbone(cfg)


def test_iou_of_shifted_unit_squares():
    squares = Boxes(torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]]))
    assert pairwise_iou(squares, squares).tolist() == [[1, pytest.approx(1 / 3)], [pytest.approx(1 / 3), 1]]
