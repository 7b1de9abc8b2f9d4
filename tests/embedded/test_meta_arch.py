"""Whole models, small: each goes through training and inference on odd sizes and on images without objects."""

import copy

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY, StandardROIHeads, build_model
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

ARCHITECTURES = ["GeneralizedRCNN", "PanopticFPN", "SemanticSegmentor"]
THINGS, STUFF = 3, 5


def small_cfg(architecture: str):
    """ResNet-18 FPN with 32 channels on the CPU."""
    cfg = get_cfg()
    model = cfg.MODEL
    model.META_ARCHITECTURE, model.DEVICE, model.MASK_ON = architecture, "cpu", True
    model.BACKBONE.NAME, model.BACKBONE.FREEZE_AT = "build_resnet_fpn_backbone", 0
    model.RESNETS.DEPTH, model.RESNETS.RES2_OUT_CHANNELS, model.RESNETS.NORM = 18, 64, "BN"
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model.FPN.OUT_CHANNELS = 32
    model.ANCHOR_GENERATOR.SIZES, model.ANCHOR_GENERATOR.ASPECT_RATIOS = [[16], [32], [64], [96], [128]], [[1.0]]
    model.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    model.RPN.PRE_NMS_TOPK_TRAIN = model.RPN.PRE_NMS_TOPK_TEST = 100
    model.RPN.POST_NMS_TOPK_TRAIN = model.RPN.POST_NMS_TOPK_TEST = 50
    model.ROI_HEADS.NAME, model.ROI_HEADS.NUM_CLASSES = "StandardROIHeads", THINGS
    model.ROI_HEADS.IN_FEATURES, model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = ["p2", "p3", "p4", "p5"], 32
    model.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model.ROI_BOX_HEAD.NAME, model.ROI_BOX_HEAD.NUM_FC, model.ROI_BOX_HEAD.FC_DIM = "FastRCNNConvFCHead", 1, 64
    model.ROI_BOX_HEAD.POOLER_RESOLUTION, model.ROI_MASK_HEAD.POOLER_RESOLUTION = 7, 14
    model.ROI_MASK_HEAD.NAME, model.ROI_MASK_HEAD.NUM_CONV = "MaskRCNNConvUpsampleHead", 1
    model.ROI_MASK_HEAD.CONV_DIM = model.SEM_SEG_HEAD.CONVS_DIM = 32
    model.SEM_SEG_HEAD.NUM_CLASSES = STUFF
    model.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT = 10
    model.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    return cfg


def sample(height: int, width: int, objects: int, polygons: bool = False) -> dict:
    """A noisy image with bright squares, one class per size, labelled in every way."""
    random = np.random.default_rng(height * width + objects)
    image, sem_seg = random.integers(0, 80, (3, height, width)), np.zeros((height, width), dtype=np.int64)
    sem_seg[height // 2 :] = 1
    sem_seg[0] = 255
    boxes, masks = [], np.zeros((objects, height, width), dtype=bool)
    for index in range(objects):
        side = 12 + 8 * (index % THINGS)
        y, x = random.integers(0, height - side), random.integers(0, width - side)
        image[:, y : y + side, x : x + side] += 150
        masks[index, y : y + side, x : x + side] = True
        boxes.append([x, y, x + side, y + side])
    outlines = [[np.array([a, b, c, b, c, d, a, d], dtype=float)] for a, b, c, d in boxes]
    instances = Instances(
        (height, width),
        gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        gt_classes=torch.arange(objects) % THINGS,
        gt_masks=PolygonMasks(outlines) if polygons else BitMasks(masks),
    )
    fields = {"image": torch.from_numpy(image.clip(0, 255).astype(np.uint8)), "instances": instances}
    return {**fields, "sem_seg": torch.from_numpy(sem_seg), "height": height, "width": width}


def train_losses(model, batch: list[dict]) -> dict[str, torch.Tensor]:
    with EventStorage():
        return model.train()(batch)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_fall_in_a_few_steps(architecture):
    torch.manual_seed(0)
    model = build_model(small_cfg(architecture))
    batch = [sample(70, 101, 3), sample(96, 64, 2)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    totals = []
    for _ in range(8):
        losses = train_losses(model, batch)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        totals.append(total.item())
    assert np.isfinite(totals).all() and min(totals[-2:]) < 0.9 * totals[0]
    names = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
    expected = {
        "GeneralizedRCNN": names,
        "PanopticFPN": names | {"loss_sem_seg"},
        "SemanticSegmentor": {"loss_sem_seg"},
    }
    assert set(losses) == expected[architecture]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_without_any_object(architecture):
    model = build_model(small_cfg(architecture))
    losses = train_losses(model, [sample(64, 50, 0), sample(33, 47, 0)])
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    if architecture != "SemanticSegmentor":
        assert losses["loss_mask"] == 0 and losses["loss_box_reg"] == 0
        assert all(p.grad is not None for p in model.parameters())  # distributed training needs every one


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [(33, 65), (64, 64), (1, 7)])
def test_inference_returns_the_size_that_is_asked_for(architecture, size):
    torch.manual_seed(0)
    model = build_model(small_cfg(architecture)).eval()
    image = torch.zeros(3, *size, dtype=torch.uint8)
    with torch.no_grad():
        plain, asked = model([{"image": image}, {"image": image, "height": 40, "width": 50}])
    for result, (height, width) in ((plain, size), (asked, (40, 50))):
        if "instances" in result:
            found = result["instances"]
            assert found.image_size == (height, width) and found.pred_masks.shape == (len(found), height, width)
            assert len(found) <= 10 and found.pred_boxes.inside_box((height + 1, width + 1)).all()
            assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        if "sem_seg" in result:
            assert result["sem_seg"].shape == (STUFF, height, width)
        if "panoptic_seg" in result:
            ids, segments = result["panoptic_seg"]
            assert set(ids.unique().tolist()) - {0} == {segment["id"] for segment in segments}


def test_no_detection_at_all():
    cfg = small_cfg("PanopticFPN")
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 1.0
    model = build_model(cfg).eval()
    with torch.no_grad():
        (result,) = model([{"image": torch.zeros(3, 40, 40, dtype=torch.uint8)}])
    assert len(result["instances"]) == 0 and result["instances"].pred_masks.shape == (0, 40, 40)
    assert not any(segment["isthing"] for segment in result["panoptic_seg"][1])


def test_a_batch_predicts_what_its_images_do_alone():
    torch.manual_seed(0)
    model = build_model(small_cfg("PanopticFPN")).eval()
    inputs = [{"image": sample(64, 96, 3)["image"]}, {"image": sample(64, 96, 1)["image"]}]
    with torch.no_grad():
        together, alone = model(inputs), [model([x])[0] for x in inputs]
    for first, second in zip(together, alone):
        assert torch.allclose(first["sem_seg"], second["sem_seg"], atol=1e-4)
        assert torch.allclose(first["instances"].scores, second["instances"].scores, atol=1e-4)


def test_training_leaves_its_inputs_alone():
    model, batch = build_model(small_cfg("PanopticFPN")), [sample(64, 64, 2)]
    before = copy.deepcopy(batch[0])
    train_losses(model, batch)
    assert torch.equal(batch[0]["image"], before["image"]) and torch.equal(batch[0]["sem_seg"], before["sem_seg"])
    assert torch.equal(batch[0]["instances"].gt_boxes.tensor, before["instances"].gt_boxes.tensor)
    assert torch.equal(batch[0]["instances"].gt_classes, before["instances"].gt_classes)


def test_polygons_and_bitmaps_give_nearly_the_same_mask_loss():
    torch.manual_seed(0)
    model = build_model(small_cfg("GeneralizedRCNN"))
    losses = []
    for polygons in (False, True):
        torch.manual_seed(1)
        losses.append(train_losses(model, [sample(70, 101, 3, polygons)])["loss_mask"].item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_mask_head_on_predicted_boxes_and_ignored_anchors():
    cfg = small_cfg("GeneralizedRCNN")
    cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES, cfg.MODEL.RPN.BOUNDARY_THRESH = True, 0
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = True
    losses = train_losses(build_model(cfg), [sample(70, 101, 3)])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_given_boxes_get_masks():
    torch.manual_seed(0)
    model = build_model(small_cfg("GeneralizedRCNN")).eval()
    inputs = [{"image": sample(64, 96, 3)["image"]}]
    with torch.no_grad():
        (found,) = model.inference(inputs, do_postprocess=False)
        given = Instances(found.image_size, pred_boxes=found.pred_boxes, pred_classes=found.pred_classes)
        (again,) = model.inference(inputs, [given], do_postprocess=False)
    assert torch.allclose(found.pred_masks, again.pred_masks, atol=1e-5)


def test_logged_scalars():
    model = build_model(small_cfg("GeneralizedRCNN"))
    with EventStorage() as storage:
        model.train()([sample(70, 101, 3)])
        logged = {name: value for name, (value, _) in storage.latest().items()}
    assert logged["rpn/num_pos_anchors"] + logged["rpn/num_neg_anchors"] == 256
    assert logged["roi_head/num_fg_samples"] >= 3
    assert logged["roi_head/num_fg_samples"] + logged["roi_head/num_bg_samples"] <= 32
    names = {"mask_rcnn/accuracy", "mask_rcnn/false_positive", "mask_rcnn/false_negative"}
    assert names | {"fast_rcnn/cls_accuracy", "fast_rcnn/fg_cls_accuracy", "fast_rcnn/false_negative"} <= set(logged)


def test_state_dict_holds_no_constants():
    names = build_model(small_cfg("PanopticFPN")).state_dict()
    assert not [name for name in names if "pixel" in name or "anchor_generator" in name]
    prefixes = {
        "backbone.bottom_up.stem.conv1.norm.weight",
        "backbone.fpn_lateral2.weight",
        "sem_seg_head.p5.0.norm.bias",
    }
    heads = {"proposal_generator.rpn_head.anchor_deltas.bias", "roi_heads.box_head.fc1.weight"}
    masks = {
        "roi_heads.mask_head.mask_fcn1.weight",
        "roi_heads.mask_head.deconv.bias",
        "roi_heads.mask_head.predictor.bias",
    }
    assert prefixes | heads | masks <= set(names)


def test_users_extend_heads_by_subclassing():
    if "HalvingMaskHead" not in ROI_MASK_HEAD_REGISTRY:

        @ROI_MASK_HEAD_REGISTRY.register()
        class HalvingMaskHead(MaskRCNNConvUpsampleHead):
            def layers(self, x):
                return super().layers(x) / 2

        @ROI_HEADS_REGISTRY.register()
        class CountingROIHeads(StandardROIHeads):
            masks_made = 0

            def _forward_mask(self, features, instances):
                self.masks_made += 1
                return super()._forward_mask(features, instances)

    cfg = small_cfg("GeneralizedRCNN")
    torch.manual_seed(0)
    plain = build_model(cfg).eval()
    cfg.MODEL.ROI_MASK_HEAD.NAME, cfg.MODEL.ROI_HEADS.NAME = "HalvingMaskHead", "CountingROIHeads"
    torch.manual_seed(0)
    extended = build_model(cfg).eval()
    inputs = [{"image": sample(64, 96, 3)["image"]}]
    with torch.no_grad():
        (first,), (second,) = (model.inference(inputs, do_postprocess=False) for model in (plain, extended))
    assert torch.allclose(first.pred_masks.logit() / 2, second.pred_masks.logit(), atol=1e-4)
    assert extended.roi_heads.masks_made == 1
