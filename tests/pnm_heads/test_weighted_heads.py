"""Weighted heads against torch's and Detectron2's own losses."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_model
from detectron2.modeling.roi_heads.mask_head import build_mask_head, mask_rcnn_loss
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from pnm.errors import UserError
from pnm.projects.launcher.config import load_config
from pnm.projects.pnm_heads import PNMSettings, add_pnm_config, use_pnm_classes
from pnm.projects.pnm_heads.mask_head import PixelWeightedMaskLoss, weight_mask_head, weighted_mask_loss

SEMANTIC = "configs/quickstart/semantic_fpn_R_18.yaml"
PANOPTIC = "configs/quickstart/panoptic_fpn_R_18.yaml"


def brute_force_weights(labels, locality, ignore=None):
    """1 - ln PNM by a double loop over one (H, W) map."""
    height, width = labels.shape
    half, weights = locality // 2, torch.zeros(labels.shape)
    for y in range(height):
        for x in range(width):
            window = labels[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
            valid = window != ignore if ignore is not None else torch.ones_like(window, dtype=torch.bool)
            if labels[y, x] != ignore:
                weights[y, x] = 1 - torch.log(((window == labels[y, x]) & valid).sum() / valid.sum())
    return weights


def settings(**changes):
    cfg = get_cfg()
    add_pnm_config(cfg)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM, cfg.MODEL.SEM_SEG_HEAD.NORM = 5, 8, ""
    cfg.MODEL.SEM_SEG_HEAD.ASPP_CHANNELS = 8
    cfg.MODEL.SEM_SEG_HEAD.ASPP_DROPOUT = 0.0
    cfg.MODEL.PNM.ENABLED = True
    cfg.merge_from_list([part for pair in changes.items() for part in (pair[0].replace("__", "."), pair[1])])
    return cfg


def semantic_case(name, **changes):
    """A head with its features and targets (2, 32, 64), some ignored."""
    torch.manual_seed(0)
    cfg = settings(**changes)
    if name == "PNMDeepLabV3Head":
        cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES, cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = ["res5"], 16
    elif name == "PNMDeepLabV3PlusHead":
        cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES, cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = ["res2", "res5"], 4
    else:
        cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res2", "res5"]
    shapes = {"res2": ShapeSpec(channels=4, stride=4), "res5": ShapeSpec(channels=6, stride=16)}
    head = SEM_SEG_HEADS_REGISTRY.get(name)(cfg, shapes)
    features = {key: torch.randn(2, s.channels, 32 // s.stride, 64 // s.stride) for key, s in shapes.items()}
    targets = torch.randint(0, 5, (2, 8, 16)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    targets[:, :3, 5:20] = 255
    return head, features, targets


PLAIN = {"MODEL__SEM_SEG_HEAD__LOSS_TYPE": "cross_entropy"}
HEADS = ("PNMSemSegFPNHead", "PNMDeepLabV3Head", "PNMDeepLabV3PlusHead")


def logits_at_full_size(head, features):
    return F.interpolate(head.layers(features), scale_factor=head.common_stride, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("name", HEADS)
def test_semantic_loss_equals_brute_force(name):
    head, features, targets = semantic_case(
        name, MODEL__PNM__LOCALITY=7, MODEL__SEM_SEG_HEAD__LOSS_TYPE="cross_entropy"
    )
    _, losses = head(features, targets)
    pixels = F.cross_entropy(logits_at_full_size(head, features), targets, ignore_index=255, reduction="none")
    weights = torch.stack([brute_force_weights(t, 7, 255) for t in targets])
    expected = (pixels * weights).sum() / (targets != 255).sum()
    assert losses.keys() == {"loss_sem_seg"}
    torch.testing.assert_close(losses["loss_sem_seg"], expected)


@pytest.mark.parametrize("name", HEADS)
def test_semantic_locality_1_is_the_unweighted_loss_and_gradient(name):
    head, features, targets = semantic_case(
        name, MODEL__PNM__LOCALITY=1, MODEL__SEM_SEG_HEAD__LOSS_TYPE="cross_entropy"
    )
    head(features, targets)[1]["loss_sem_seg"].backward()
    gradients = [p.grad.clone() for p in head.parameters()]
    head.zero_grad()
    F.cross_entropy(logits_at_full_size(head, features), targets, ignore_index=255).backward()
    for ours, theirs in zip(gradients, head.parameters()):
        torch.testing.assert_close(ours, theirs.grad)


@pytest.mark.parametrize("name", HEADS)
def test_weights_from_the_mapper_replace_computed_ones(name):
    head, features, targets = semantic_case(name, **PLAIN)
    head.pixel_weights = torch.full(targets.shape, 3.0)
    thrice = head(features, targets)[1]["loss_sem_seg"]
    head.pnm, head.pixel_weights = None, None
    torch.testing.assert_close(thrice, 3 * head(features, targets)[1]["loss_sem_seg"])


@pytest.mark.parametrize("name", HEADS)
def test_without_labelled_pixels_the_loss_is_a_differentiable_zero(name):
    head, features, targets = semantic_case(name)
    loss = head(features, torch.full_like(targets, 255))[1]["loss_sem_seg"]
    loss.backward()
    assert loss == 0 and all((p.grad == 0).all() for p in head.parameters())


def test_hard_pixel_mining_takes_a_fifth_of_the_labelled_pixels():
    head, features, targets = semantic_case("PNMDeepLabV3Head", MODEL__PNM__ENABLED=False)
    loss = head(features, targets)[1]["loss_sem_seg"]
    pixels = F.cross_entropy(logits_at_full_size(head, features), targets, ignore_index=255, reduction="none")
    hardest = pixels[targets != 255].sort(descending=True).values
    torch.testing.assert_close(loss, hardest[: int(0.2 * len(hardest))].mean())


def test_scalars_are_logged():
    head, features, targets = semantic_case("PNMSemSegFPNHead", MODEL__PNM__LOCALITY=7)
    with EventStorage() as storage:
        loss = head(features, targets)[1]["loss_sem_seg"]
        logged = {name: value for name, (value, _) in storage.latest().items()}
    weights = torch.stack([brute_force_weights(t, 7, 255) for t in targets])[targets != 255]
    assert logged["pnm/sem_seg_mean_weight"] == pytest.approx(float(weights.mean()), rel=1e-5)
    assert logged["pnm/sem_seg_share_above_2"] == pytest.approx(float((weights > 2).float().mean()), rel=1e-5)
    assert logged["pnm/sem_seg_loss_weighted"] == pytest.approx(float(loss.detach()), rel=1e-6)
    assert logged["pnm/sem_seg_loss_unweighted"] < logged["pnm/sem_seg_loss_weighted"]


def mask_case(images=2, objects=3, classes=4):
    torch.manual_seed(1)
    instances = []
    for _ in range(images):
        one = Instances((40, 50))
        one.gt_masks = BitMasks(F.avg_pool2d(torch.rand(objects, 1, 46, 56), 7, stride=1)[:, 0] > 0.5)
        corner = torch.rand(objects, 2) * 15
        one.proposal_boxes = Boxes(torch.cat([corner, corner + 20], dim=1))
        one.gt_classes = torch.randint(0, classes, (objects,))
        instances.append(one)
    return torch.randn(images * objects, classes, 28, 28, requires_grad=True), instances


def test_mask_loss_equals_brute_force():
    logits, instances = mask_case()
    with EventStorage():
        loss = weighted_mask_loss(logits, instances, PNMSettings(5))
    total, at = 0.0, 0
    for image in instances:
        masks = image.gt_masks.crop_and_resize(image.proposal_boxes.tensor, 28)
        for mask, label in zip(masks, image.gt_classes):
            pixels = F.binary_cross_entropy_with_logits(logits[at, label], mask.float(), reduction="none")
            total, at = total + (pixels * brute_force_weights(mask.long(), 5)).sum(), at + 1
    torch.testing.assert_close(loss, total / (6 * 28 * 28))


def test_mask_locality_1_is_detectron2s_loss_and_gradient():
    logits, instances = mask_case()
    with EventStorage():
        (ours,) = torch.autograd.grad(weighted_mask_loss(logits, instances, PNMSettings(1)), logits)
        (theirs,) = torch.autograd.grad(mask_rcnn_loss(logits, instances), logits)
    torch.testing.assert_close(ours, theirs)


def test_class_agnostic_masks_and_no_objects():
    logits, instances = mask_case(classes=1)
    for image in instances:
        image.gt_classes = image.gt_classes + 3
    with EventStorage():
        assert weighted_mask_loss(logits, instances, PNMSettings(5)) > 0
        none = weighted_mask_loss(logits[:0], [image[:0] for image in instances], PNMSettings(5))
    none.backward()
    assert none == 0


def test_any_mask_head_is_weighted_and_keeps_its_weights():
    cfg = settings()
    head = build_mask_head(cfg, ShapeSpec(channels=4, width=14, height=14))
    keys = list(head.state_dict())
    assert weight_mask_head(head, PNMSettings(5)) is head
    assert isinstance(head, PixelWeightedMaskLoss) and list(head.state_dict()) == keys
    _, instances = mask_case()
    with EventStorage():
        losses = head.train()(torch.randn(6, 4, 14, 14), instances)
    assert losses.keys() == {"loss_mask"}
    with pytest.raises(UserError, match="no BaseMaskRCNNHead"):
        weight_mask_head(torch.nn.Identity(), PNMSettings(5))


def test_flag_puts_the_weighted_classes_in():
    cfg = load_config(PANOPTIC, ["MODEL.PNM.ENABLED", "True"])
    assert cfg.MODEL.META_ARCHITECTURE == "PNMPanopticFPN"
    assert cfg.MODEL.SEM_SEG_HEAD.NAME == "PNMSemSegFPNHead"
    assert cfg.MODEL.ROI_HEADS.NAME == "PNMROIHeads"
    use_pnm_classes(cfg)  # a config that was written by a run
    only_masks = load_config(PANOPTIC, ["MODEL.PNM.ENABLED", "True", "MODEL.PNM.SEMANTIC_LOSS", "False"])
    assert (only_masks.MODEL.META_ARCHITECTURE, only_masks.MODEL.ROI_HEADS.NAME) == ("PanopticFPN", "PNMROIHeads")
    off = load_config(PANOPTIC, [])
    assert (off.MODEL.META_ARCHITECTURE, off.MODEL.ROI_HEADS.NAME) == ("PanopticFPN", "StandardROIHeads")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("MODEL.PNM.LOCALITY 4", "odd"),
        ("MODEL.PNM.ROI_LOCALITY 0", "locality"),
        ("MODEL.PNM.TRANSFORM cube", "log, linear, inverse"),
        ("MODEL.PNM.SOURCE disk", "online, offline"),
        ("MODEL.PNM.BORDER wrap", "valid"),
        ("MODEL.SEM_SEG_HEAD.NAME MyHead", "derive it from PixelWeightedHead"),
        ("MODEL.PNM.SEMANTIC_LOSS False", "no loss is weighted"),
    ],
)
def test_settings_that_cannot_be(overrides, message):
    with pytest.raises(UserError, match=message):
        load_config(SEMANTIC, ["MODEL.PNM.ENABLED", "True", *overrides.split()])


def test_model_with_the_flag_loads_the_base_models_weights():
    base, weighted = (build_model(load_config(PANOPTIC, ["MODEL.PNM.ENABLED", on])) for on in ("False", "True"))
    assert list(base.state_dict()) == list(weighted.state_dict())
    weighted.load_state_dict(base.state_dict())
    image = [{"image": torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8)}]
    with torch.no_grad():
        ours, theirs = (model.eval()(image)[0]["sem_seg"] for model in (weighted, base))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("res4", "res5", "stride"), [(1, 1, 32), (1, 2, 16), (2, 4, 8)])
def test_atrous_resnet_keeps_its_resolution(res4, res5, stride):
    cfg = settings(MODEL__RESNETS__RES4_DILATION=res4, MODEL__RESNETS__RES5_DILATION=res5)
    cfg.MODEL.RESNETS.OUT_FEATURES, cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = ["res2", "res5"], 16
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS, cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 16, 4
    model = BACKBONE_REGISTRY.get("build_atrous_resnet_backbone")(cfg, ShapeSpec(channels=3)).eval()
    with torch.no_grad():
        features = model(torch.zeros(1, 3, 64, 96))
    assert features["res2"].shape[-2:] == (16, 24) and features["res5"].shape[-2:] == (64 // stride, 96 // stride)
    assert model.output_shape()["res5"].stride == stride
    cfg.MODEL.RESNETS.RES5_DILATION = 3
    with pytest.raises(UserError, match="RES5_DILATION"):
        BACKBONE_REGISTRY.get("build_atrous_resnet_backbone")(cfg, ShapeSpec(channels=3))
