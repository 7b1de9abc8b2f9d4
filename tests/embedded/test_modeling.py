"""Backbones, anchors, proposals and detections against loops, torchvision and closed forms."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.modeling.proposal_generator.proposal_utils import (
    add_ground_truth_to_proposals,
    find_top_rpn_proposals,
)
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, Instances
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork, box_iou, roi_align

sys.path.append(str(Path(__file__).parent))
from toy_boxes import boxes_in  # noqa: E402

BAD_INPUT = (ValueError, AssertionError)


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
