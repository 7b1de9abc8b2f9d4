"""Weighted heads against torch's and Detectron2's own losses."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import configurable, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ROI_MASK_HEAD_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_model
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead, mask_rcnn_loss
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from pnm.errors import UserError
from pnm.projects.launcher.config import load_config
from pnm.projects.pnm_heads import PNMROIHeads, PNMSettings
from pnm.projects.pnm_heads.config import add_pnm_config
from pnm.projects.pnm_heads.mask_head import check_weightable, weighted_mask_loss
from pnm.projects.pnm_heads.weighted_classes import use_pnm_classes
from pnm.projects.semantic_networks.config import add_semantic_network_config

SEMANTIC = "configs/quickstart/semantic_fpn_R_18.yaml"
INSTANCE = "configs/quickstart/mask_rcnn_R_18_FPN.yaml"
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
    add_semantic_network_config(cfg)
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
    thrice = head(features, targets, torch.full(targets.shape, 3.0))[1]["loss_sem_seg"]
    head.pnm = None
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


@ROI_MASK_HEAD_REGISTRY.register()
class OneConvolution(BaseMaskRCNNHead):
    """A user's mask head: Detectron2's loss of logits of its own."""

    @configurable
    def __init__(self, *, channels, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.predictor = torch.nn.ConvTranspose2d(channels, num_classes, 2, 2)

    @classmethod
    def from_config(cls, cfg, input_shape):
        classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        return {**super().from_config(cfg, input_shape), "channels": input_shape.channels, "num_classes": classes}

    def layers(self, x):
        return self.predictor(x)


@pytest.mark.parametrize("name", ["MaskRCNNConvUpsampleHead", "OneConvolution"])
def test_any_mask_head_is_weighted_and_stays_what_it_is(name):
    cfg = load_config(INSTANCE, ["MODEL.PNM.ENABLED", "True", "MODEL.ROI_MASK_HEAD.NAME", name])
    torch.manual_seed(0)
    heads = build_model(cfg).roi_heads
    assert isinstance(heads, PNMROIHeads) and type(heads.mask_head).__name__ == name
    pickle.loads(pickle.dumps(heads))
    _, instances = mask_case()
    features = {
        f"p{level}": torch.randn(2, cfg.MODEL.FPN.OUT_CHANNELS, 160 >> level, 160 >> level) for level in range(2, 7)
    }
    losses = []
    for pnm in (heads.pnm, PNMSettings(1), None):
        heads.pnm = pnm
        with EventStorage():
            losses.append(heads.train()._forward_mask(features, instances)["loss_mask"])
    torch.testing.assert_close(losses[1], losses[2])
    assert losses[0] > losses[2]


def test_mask_heads_with_a_loss_of_their_own_are_refused():
    class Own(BaseMaskRCNNHead):
        def forward(self, x, instances):
            return {"loss_mask": x.sum()}

    with pytest.raises(UserError, match="no BaseMaskRCNNHead"):
        check_weightable(torch.nn.Identity())
    with pytest.raises(UserError, match="Own is a head with a forward of its own"):
        check_weightable(Own())


def test_mask_loss_logs_what_detectron2_logs():
    logits, instances = mask_case()
    logged = []
    for loss in (
        lambda: weighted_mask_loss(logits, instances, PNMSettings(5)),
        lambda: mask_rcnn_loss(logits, instances),
    ):
        with EventStorage() as storage:
            loss()
            logged.append({k: v for k, (v, _) in storage.latest().items() if k.startswith("mask_rcnn/")})
    assert logged[0] == pytest.approx(logged[1], abs=1e-6) and len(logged[0]) == 3


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
        ("MODEL.PNM.SOURCE disk", "label, offline, online"),
        ("MODEL.PNM.LABELS instance", "semantic, panoptic"),
        ("MODEL.PNM.LOCALITY 547", "choose a smaller one, or PNM.SOURCE online"),
        ("MODEL.PNM.BORDER wrap", "valid"),
        ("MODEL.SEM_SEG_HEAD.NAME MyHead", "derive it from PixelWeightedHead"),
        ("MODEL.PNM.SEMANTIC_LOSS False", "no loss is weighted"),
    ],
)
def test_settings_that_cannot_be(overrides, message):
    with pytest.raises(UserError, match=message):
        load_config(SEMANTIC, ["MODEL.PNM.ENABLED", "True", *overrides.split()])


def test_model_with_the_flag_loads_the_base_models_weights():
    found = ["MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", "0.06", "MODEL.ROI_HEADS.NUM_CLASSES", "4"]
    configs = [load_config(PANOPTIC, ["MODEL.PNM.ENABLED", on, *found]) for on in ("False", "True")]
    base, weighted = map(build_model, configs)
    assert list(base.state_dict()) == list(weighted.state_dict())
    weighted.load_state_dict(base.state_dict())
    image = [{"image": torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8), "height": 77, "width": 131}]
    with torch.no_grad():
        ours, theirs = (model.eval()(image)[0] for model in (weighted, base))
    assert torch.equal(ours["sem_seg"], theirs["sem_seg"])
    assert torch.equal(ours["instances"].pred_masks, theirs["instances"].pred_masks)
    assert torch.equal(ours["panoptic_seg"][0], theirs["panoptic_seg"][0])
    assert ours["panoptic_seg"][1] == theirs["panoptic_seg"][1]
    assert {segment["isthing"] for segment in ours["panoptic_seg"][1]} == {True, False}


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
