"""Parts of detectors against loops, torchvision and closed forms."""

import detectron2
import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model, detector_postprocess
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.modeling.proposal_generator.proposal_utils import (
    add_ground_truth_to_proposals,
    find_top_rpn_proposals,
)
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import BitMasks, Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork, box_iou, roi_align

EMBEDDED = detectron2.__version__.endswith("embedded")
BAD_INPUT = (ValueError, AssertionError)


def boxes_in(height: int, width: int, count: int, seed: int = 0) -> torch.Tensor:
    """``count`` boxes with sides of at least one pixel inside an image."""
    u = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    x0, y0 = u[:, 0] * (width - 2), u[:, 1] * (height - 2)
    return torch.stack([x0, y0, x0 + 1 + u[:, 2] * (width - 1 - x0), y0 + 1 + u[:, 3] * (height - 1 - y0)], dim=1)


def copy_torchvision_resnet(theirs, ours: ResNet) -> None:
    """Gives our ResNet the weights of torchvision's, whose names differ."""
    state = {}
    for name, value in theirs.state_dict().items():
        if name.startswith("fc"):
            continue
        parts = name.split(".")
        if parts[0] in ("conv1", "bn1"):
            state[f"stem.conv1.{'norm.' if parts[0] == 'bn1' else ''}{parts[-1]}"] = value
            continue
        stage = f"res{int(parts[0][-1]) + 1}.{parts[1]}"
        if parts[2] == "downsample":
            layer = "shortcut" if parts[3] == "0" else "shortcut.norm"
        else:
            layer = parts[2] if parts[2].startswith("conv") else f"conv{parts[2][-1]}.norm"
        state[f"{stage}.{layer}.{parts[-1]}"] = value
    ours.load_state_dict(state)


@pytest.mark.parametrize("depth, model", [(18, "resnet18"), (50, "resnet50")])
def test_resnet_is_torchvisions(depth, model):
    theirs = getattr(torchvision.models, model)(weights=None).eval()
    ours = ResNet(BasicStem(), ResNet.make_default_stages(depth), out_features=["res2", "res5"]).eval()
    copy_torchvision_resnet(theirs, ours)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, y = ours(x), theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        y = theirs.layer1(y)
        assert torch.allclose(features["res2"], y, rtol=1e-4, atol=1e-4)
        y = theirs.layer4(theirs.layer3(theirs.layer2(y)))
    assert torch.allclose(features["res5"], y, rtol=1e-4, atol=1e-3)
    assert ours.output_shape()["res5"].stride == 32 and ours.output_shape()["res2"].stride == 4


def test_resnet_options():
    block = BottleneckBlock(64, 256, bottleneck_channels=128, stride=2, num_groups=32, stride_in_1x1=True, dilation=2)
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    assert (block.conv2.groups, block.conv2.dilation, block.conv2.padding) == (32, (2, 2), (2, 2))
    assert block(torch.zeros(1, 64, 8, 8)).shape == (1, 256, 4, 4)
    assert BasicBlock(8, 8).shortcut is None
    classifier = ResNet(BasicStem(), ResNet.make_default_stages(18), num_classes=10).eval()
    assert classifier(torch.zeros(1, 3, 32, 32))["linear"].shape == (1, 10)
    with pytest.raises(BAD_INPUT):
        ResNet(BasicStem(), ResNet.make_default_stages(18), out_features=["res9"])


def test_freezing_stops_stem_and_first_stages():
    resnet = ResNet(BasicStem(), ResNet.make_default_stages(18), out_features=["res5"], freeze_at=2)
    frozen = {name.split(".")[0] for name, p in resnet.named_parameters() if not p.requires_grad}
    trained = {name.split(".")[0] for name, p in resnet.named_parameters() if p.requires_grad}
    assert (frozen, trained) == ({"stem", "res2"}, {"res3", "res4", "res5"})
    resnet.train()
    before = resnet.res2[0].conv1.norm.running_mean.clone()
    resnet(torch.randn(2, 3, 64, 64))
    assert torch.equal(resnet.res2[0].conv1.norm.running_mean, before)


def test_fpn_is_torchvisions():
    bottom_up = ResNet(BasicStem(), ResNet.make_default_stages(18), out_features=["res2", "res3", "res4", "res5"])
    names = ["res2", "res3", "res4", "res5"]
    ours = FPN(bottom_up, names, 16, top_block=LastLevelMaxPool()).eval()
    theirs = FeaturePyramidNetwork([64, 128, 256, 512], 16)
    for index, level in enumerate(range(2, 6)):
        theirs.inner_blocks[index][0].load_state_dict(getattr(ours, f"fpn_lateral{level}").state_dict())
        theirs.layer_blocks[index][0].load_state_dict(getattr(ours, f"fpn_output{level}").state_dict())
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        result, expected = ours(x), theirs(bottom_up(x))
    for level, name in zip(range(2, 6), names):
        assert torch.allclose(result[f"p{level}"], expected[name], rtol=1e-4, atol=1e-4)
    assert torch.equal(result["p6"], result["p5"][:, :, ::2, ::2])
    assert list(result) == ["p2", "p3", "p4", "p5", "p6"] and ours.size_divisibility == 32
    assert ours.output_shape()["p6"] == ShapeSpec(channels=16, stride=64)


def test_fpn_average_and_extra_levels():
    bottom_up = ResNet(BasicStem(), ResNet.make_default_stages(18), out_features=["res4", "res5"])
    fpn = FPN(bottom_up, ["res4", "res5"], 8, top_block=LastLevelP6P7(512, 8), fuse_type="avg").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        result, features = fpn(x), bottom_up(x)
        above = F.interpolate(fpn.fpn_lateral5(features["res5"]), scale_factor=2)
        merged = (fpn.fpn_lateral4(features["res4"]) + above) / 2
    assert torch.allclose(result["p4"], fpn.fpn_output4(merged), atol=1e-4)
    assert [result[f"p{level}"].shape[-1] for level in range(4, 8)] == [4, 2, 1, 1]
    with pytest.raises(BAD_INPUT):
        FPN(ResNet(BasicStem(), ResNet.make_default_stages(18), out_features=["res2", "res4"]), ["res2", "res4"], 8)


def test_anchors_against_loops():
    generator = DefaultAnchorGenerator(sizes=[[32], [64]], aspect_ratios=[[0.5, 2.0]], strides=[8, 16], offset=0.5)
    features = [torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 2, 2)]
    assert generator.num_anchors == [2, 2] and not generator.state_dict()
    for anchors, feature, size, stride in zip(generator(features), features, (32, 64), (8, 16)):
        expected = []
        for row in range(feature.shape[2]):
            for column in range(feature.shape[3]):
                for ratio in (0.5, 2.0):
                    width, height = size / ratio**0.5, size * ratio**0.5
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        assert torch.allclose(anchors.tensor, torch.tensor(expected), atol=1e-4)


def test_matcher_against_loops():
    quality = torch.rand(4, 50, generator=torch.Generator().manual_seed(0))
    quality[:, :5] = 0.05
    matches, labels = Matcher([0.6, 0.8], [0, -1, 1], allow_low_quality_matches=True)(quality)
    best_of_truth = quality.max(dim=1).values
    for column in range(50):
        value = quality[:, column].max().item()
        assert matches[column] == quality[:, column].argmax()
        label = 0 if value < 0.6 else (-1 if value < 0.8 else 1)
        if (quality[:, column] == best_of_truth).any():
            label = 1
        assert labels[column] == label
    matches, labels = Matcher([0.5], [0, 1])(torch.zeros(0, 3))
    assert matches.tolist() == [0, 0, 0] and labels.tolist() == [0, 0, 0]
    assert Matcher([0.5], [0, 1])(torch.tensor([[0.5, 0.4999]]))[1].tolist() == [1, 0]
    with pytest.raises(BAD_INPUT):
        Matcher([0.7, 0.3], [0, -1, 1])


def test_subsampling_keeps_its_promises():
    labels = torch.tensor([7] * 30 + [0] * 5 + [3] * 4 + [-1] * 10)
    positive, background = subsample_labels(labels, 16, 0.25, 7)
    assert len(positive) == 4 and len(background) == 12
    assert set(labels[positive].tolist()) <= {0, 3} and set(labels[background].tolist()) == {7}
    assert len(set(positive.tolist())) == 4 and len(set(background.tolist())) == 12
    positive, background = subsample_labels(labels[30:], 16, 0.5, 7)
    assert len(positive) == 8 and len(background) == 0
    torch.manual_seed(1)
    draws = {tuple(subsample_labels(labels, 16, 0.25, 7)[0].tolist()) for _ in range(10)}
    assert len(draws) > 1


def test_box_deltas_round_trip_and_clamp():
    transform = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))
    source, target = boxes_in(80, 90, 30), boxes_in(80, 90, 30, seed=1)
    deltas = transform.get_deltas(source, target)
    assert torch.allclose(transform.apply_deltas(deltas, source), target, atol=1e-3)
    shift = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(
        torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[5.0, 5.0, 15.0, 45.0]])
    )
    assert shift[0].tolist() == pytest.approx([0.5, 0.75, 0.0, 0.6931472])
    huge = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).apply_deltas(
        torch.tensor([[0.0, 0.0, 99.0, 0.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    )
    assert (huge[0, 2] - huge[0, 0]).item() == pytest.approx(1000, rel=1e-4)
    many = transform.apply_deltas(deltas.repeat(1, 3), source)
    assert torch.allclose(many.view(30, 3, 4), target[:, None].expand(-1, 3, -1), atol=1e-3)


def test_pooling_takes_each_box_from_its_level():
    sides = torch.tensor([20.0, 111.0, 112.0, 224.0, 447.0, 448.0, 2000.0])
    boxes = torch.stack([torch.zeros(7), torch.zeros(7), sides, sides], dim=1)
    assert assign_boxes_to_levels([Boxes(boxes)], 2, 5, 224, 4).tolist() == [0, 0, 1, 2, 2, 3, 3]
    features = [
        torch.randn(2, 3, 512 // s, 512 // s, generator=torch.Generator().manual_seed(s)) for s in (4, 8, 16, 32)
    ]
    pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 0, "ROIAlignV2")
    per_image = [Boxes(boxes), Boxes(boxes_in(512, 512, 9))]
    pooled = pooler(features, per_image)
    levels = assign_boxes_to_levels(per_image, 2, 5, 224, 4).tolist()
    rois = torch.cat([F.pad(b.tensor, (1, 0), value=i) for i, b in enumerate(per_image)])
    for roi, level, result in zip(rois, levels, pooled):
        expected = roi_align(features[level], roi[None], 7, 1 / 2 ** (level + 2), 0, True)[0]
        assert torch.allclose(result, expected, atol=1e-5)
    assert pooler(features, [Boxes(torch.zeros(0, 4))] * 2).shape == (0, 3, 7, 7)
    with pytest.raises(BAD_INPUT):
        ROIPooler(7, [1 / 4, 1 / 16], 0, "ROIAlignV2")
    with pytest.raises(ValueError):
        ROIPooler(7, [1 / 4], 0, "RoIAlign")


def greedy(boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        rivals = [k for k in kept if groups[k] == groups[index]]
        if not rivals or box_iou(boxes[index][None], boxes[rivals]).nan_to_num().max() <= threshold:
            kept.append(index)
    return kept


def test_top_proposals_against_loops():
    boxes = [boxes_in(60, 60, 40, seed)[None] - 5 for seed in (1, 2)]
    logits = [torch.randn(1, 40, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    (found,) = find_top_rpn_proposals(boxes, logits, [(50, 52)], 0.5, 25, 12, 3.0, False)
    candidates, scores, groups = [], [], []
    for level in range(2):
        for index in logits[level][0].argsort(descending=True)[:25].tolist():
            x0, y0, x1, y1 = boxes[level][0, index].tolist()
            clipped = [min(max(x0, 0), 52), min(max(y0, 0), 50), min(max(x1, 0), 52), min(max(y1, 0), 50)]
            if clipped[2] - clipped[0] > 3 and clipped[3] - clipped[1] > 3:
                candidates.append(clipped)
                scores.append(logits[level][0, index])
                groups.append(level)
    kept = greedy(torch.tensor(candidates), torch.tensor(scores), torch.tensor(groups), 0.5)[:12]
    assert torch.allclose(found.proposal_boxes.tensor, torch.tensor(candidates)[kept])
    assert found.image_size == (50, 52)


def test_proposals_that_are_not_numbers():
    boxes, logits = boxes_in(50, 50, 5)[None].clone(), torch.zeros(1, 5)
    boxes[0, 1, 2] = float("nan")
    (found,) = find_top_rpn_proposals([boxes], [logits], [(50, 50)], 1.0, 5, 5, 0.0, False)
    assert len(found) == 4
    with pytest.raises(FloatingPointError):
        find_top_rpn_proposals([boxes], [logits], [(50, 50)], 1.0, 5, 5, 0.0, True)


def test_ground_truth_joins_the_proposals():
    proposals = Instances((50, 50), proposal_boxes=Boxes(boxes_in(50, 50, 3)), objectness_logits=torch.zeros(3))
    truth = Instances((50, 50), gt_boxes=Boxes(boxes_in(50, 50, 2, 1)), gt_classes=torch.tensor([1, 2]))
    (joined,) = add_ground_truth_to_proposals([truth], [proposals])
    assert len(joined) == 5 and torch.equal(joined.proposal_boxes.tensor[3:], truth.gt_boxes.tensor)
    assert joined.objectness_logits[3:].sigmoid().tolist() == [1, 1] and len(proposals) == 3


def test_detections_against_loops():
    count, classes = 30, 3
    boxes = torch.stack([boxes_in(60, 60, count, seed) for seed in range(classes)], dim=1)
    scores = torch.rand(count, classes + 1, generator=torch.Generator().manual_seed(0))
    found, rows = fast_rcnn_inference([boxes.flatten(1)], [scores], [(40, 45)], 0.3, 0.4, 20)
    clipped = boxes.clone()
    clipped[..., 0::2].clamp_(max=45)
    clipped[..., 1::2].clamp_(max=40)
    pairs = [(r, c) for r in range(count) for c in range(classes) if scores[r, c] > 0.3]
    candidates = torch.stack([clipped[r, c] for r, c in pairs])
    values = torch.stack([scores[r, c] for r, c in pairs])
    kept = greedy(candidates, values, torch.tensor([c for _, c in pairs]), 0.4)[:20]
    assert rows[0].tolist() == [pairs[k][0] for k in kept]
    assert found[0].pred_classes.tolist() == [pairs[k][1] for k in kept]
    assert torch.allclose(found[0].pred_boxes.tensor, candidates[kept]) and torch.equal(found[0].scores, values[kept])
    empty, _ = fast_rcnn_inference([boxes[:0].flatten(1)], [scores[:0]], [(40, 45)], 0.3, 0.4, 20)
    assert len(empty[0]) == 0


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
