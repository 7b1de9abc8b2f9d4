"""The network as a whole: its switches, names, gradients, and what training-only parts leave behind."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_batch import STUFF, THINGS, batch_of, losses_of, sample_of
from torch import nn

from pnm.errors import UserError

SWITCHES = ("MASK_LOSS", "MASK_SCORE", "BASIS_SILHOUETTE", "MASK_AUX", "STUFF_SILHOUETTE")
OFF = tuple(word for switch in SWITCHES for word in (f"MODEL.SE_PSNET.{switch}", False))
OFF += ("MODEL.SE_PSNET.FCOS.SCALES", False)
BLENDMASK_LOSSES = {
    "loss_fcos_class", "loss_fcos_box", "loss_fcos_centerness", "loss_mask", "loss_basis_semantic", "loss_sem_seg",
}  # fmt: skip
ADDED = {
    "MASK_LOSS": ({"loss_mask_iou", "loss_mask_silhouette"}, ""),
    "MASK_SCORE": ({"loss_confidence_iou", "loss_confidence_silhouette"}, "mask_branch.confidence."),
    "BASIS_SILHOUETTE": ({"loss_basis_silhouette"}, "basis_module.silhouette."),
    "MASK_AUX": ({"loss_mask_auxiliary"}, "mask_branch.auxiliary."),
    "STUFF_SILHOUETTE": ({"loss_sem_seg_silhouette"}, "sem_seg_head.silhouette_predictor."),
}


def blendmask_keys(backbone):
    """The published names, facts of BlendMask's files; towers have GN, so weights and biases at 1, 4, 7, 10."""
    pair = ("weight", "bias")
    head = "proposal_generator.fcos_head."
    places = [f"{tower}.{n}" for tower in ("cls_tower", "bbox_tower") for n in range(12) if n % 3 < 2]
    keys = {f"{head}{place}.{p}" for place in places for p in pair}
    keys |= {f"{head}{name}.{p}" for name in ("cls_logits", "bbox_pred", "ctrness") for p in pair}
    keys |= {f"top_layer.{p}" for p in pair} | {f"basis_module.tower.5.{p}" for p in pair}
    for block in (*(f"refine.{k}" for k in range(3)), *(f"tower.{k}" for k in (0, 1, 2, 4))):
        keys |= {f"basis_module.{block}.0.weight", *(f"basis_module.{block}.1.{p}" for p in pair)}
    for k in (0, 3):
        keys |= {f"basis_module.seg_head.{k}.weight", *(f"basis_module.seg_head.{k + 1}.{p}" for p in pair)}
    keys |= {f"basis_module.seg_head.6.{p}" for p in pair} | {f"sem_seg_head.predictor.{p}" for p in pair}
    for level, convs in (("p2", (0,)), ("p3", (0,)), ("p4", (0, 2)), ("p5", (0, 2, 4))):
        for k in convs:
            keys |= {f"sem_seg_head.{level}.{k}.{name}" for name in ("weight", "norm.weight", "norm.bias")}
    return keys | {key for key in backbone if key.startswith("backbone.")}


def test_all_switches_off_has_blendmasks_names_and_losses(model, batch):
    network = model(*OFF)
    keys = set(network.state_dict())
    assert keys == blendmask_keys(keys)
    assert {"backbone.top_block.p6.weight", "backbone.fpn_lateral2.weight"} <= keys
    assert set(losses_of(network, batch)) == BLENDMASK_LOSSES


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_adds_only_its_own(model, batch, switch):
    without, network = model(*OFF), model(*OFF, f"MODEL.SE_PSNET.{switch}", True)
    losses, prefix = ADDED[switch]
    added = set(network.state_dict()) - set(without.state_dict())
    assert set(without.state_dict()) < set(network.state_dict()) or switch == "MASK_LOSS"
    assert bool(added) == bool(prefix) and all(key.startswith(prefix) for key in added)
    assert set(losses_of(network, batch)) == BLENDMASK_LOSSES | losses


def test_batch_norm_bases_load_blendmasks_names(model):
    network = model(*OFF, "MODEL.SE_PSNET.BASES.NORM", "BN", "MODEL.SE_PSNET.BASES.SEMANTIC_NORM", "BN")
    state = {key.replace("sem_seg_head.", "panoptic_module."): value + 1 for key, value in network.state_dict().items()}
    given = dict(state)
    assert not any(network.load_state_dict(state, strict=True))
    assert torch.equal(network.sem_seg_head.predictor.weight, given["panoptic_module.predictor.weight"])


def test_every_parameter_has_a_gradient_whatever_the_batch(model):
    height, width = 64, 96
    nothing = sample_of(np.zeros((height, width), np.int64), ())
    ignored = sample_of(np.zeros((height, width), np.int64), ())
    ignored["sem_seg"][:] = 255
    no_stuff = sample_of(np.ones((height, width), np.int64), (1,))
    unseen = sample_of(np.zeros((height, width), np.int64), (0,))
    unseen["instances"] = sample_of(np.pad([[1]], ((1, height - 2), (1, width - 2))), (0,))["instances"]  # one pixel
    for batch in ([nothing] * 2, [ignored] * 2, [no_stuff], [unseen], [nothing, no_stuff], batch_of(1, 61, 89)):
        network = model()
        losses = losses_of(network, batch)
        sum(losses.values()).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert not [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.requires_grad)


def test_nothing_to_learn_is_zero(model):
    ignored = sample_of(np.zeros((64, 96), np.int64), ())
    ignored["sem_seg"][:] = 255
    losses = losses_of(model(), [ignored])
    assert losses.pop("loss_fcos_class") > 0  # of the background
    assert all(loss == 0 for loss in losses.values()), losses


def test_scores_of_masks_change_no_other_gradient(model, batch):
    without, network = model("MODEL.SE_PSNET.MASK_SCORE", False), model()
    network.load_state_dict({**network.state_dict(), **without.state_dict()})
    for one in (without, network):
        sum(losses_of(one, batch).values()).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert all(torch.equal(parameter.grad, gradients[name]) for name, parameter in without.named_parameters())


def trained(network, batch, steps=3):
    """A few steps, so that no weight is what it was."""
    optimizer = torch.optim.SGD(network.parameters(), 0.001)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(losses_of(network, batch).values()).backward()
        optimizer.step()
    with torch.no_grad():  # untrained, it would find nothing
        network.proposal_generator.fcos_head.cls_logits.bias += 4.0
        network.proposal_generator.fcos_head.bbox_pred.bias += 1.5
    return network.eval()


def flattened(results):
    found = []
    for result in results:
        ids, segments = result["panoptic_seg"]
        instances = result["instances"]
        found += [ids, result["sem_seg"], instances.pred_boxes.tensor]
        found += [value for name, value in instances.get_fields().items() if name != "pred_boxes"]
        found.append(torch.tensor([[float(v) for v in segment.values()] for segment in segments if segment["isthing"]]))
    return found


def test_auxiliary_heads_leave_nothing_in_inference(model, batch):
    network = trained(model("MODEL.SE_PSNET.FUSION.SCORE_THRESH", 0.1), batch)
    with torch.no_grad():
        before = flattened(network(batch))
        network.mask_branch.auxiliary = network.basis_module.seg_head = None
        network.sem_seg_head.silhouette_predictor = None
        after = flattened(network(batch))
    assert len(before[2]) > 3
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_images_of_one_size_in_a_batch_are_each_alone(model, batch):
    network = trained(model("MODEL.SE_PSNET.FUSION.SCORE_THRESH", 0.1), batch)
    with torch.no_grad():
        together = network(batch)
        for result, one in zip(together, batch, strict=True):
            (alone,) = network([one])
            assert len(alone["instances"]) == len(result["instances"]) > 0
            torch.testing.assert_close(alone["instances"].scores, result["instances"].scores, atol=1e-5, rtol=0)
            assert (alone["panoptic_seg"][0] != result["panoptic_seg"][0]).float().mean() < 1e-3


def test_alpha_mixes_the_scores(model, batch):
    network = trained(model("MODEL.SE_PSNET.ALPHA", 1.0), batch)
    with torch.no_grad():
        plain = network(batch)[0]["instances"]
        network.node.defrost()
        network.node.ALPHA = 0.3
        mixed = network(batch)[0]["instances"]
    assert torch.equal(plain.scores, plain.fcos_scores)
    assert (plain.scores.diff() <= 0).all()
    torch.testing.assert_close(mixed.scores, 0.3 * plain.fcos_scores + 0.7 * plain.mask_iou_scores)
    assert ((mixed.scores >= 0) & (mixed.scores <= 1)).all()


def test_masks_are_those_of_a_plain_recomputation(model, batch):
    """From the weights, with the whole attention map."""
    network = trained(model(*OFF), batch)
    with torch.no_grad():
        output = network.predict(batch)[0]
        features = network.backbone(network.normalised_images(batch).tensor)
        head, found = network.proposal_generator.fcos_head, []
        bases = network.basis_module(features).bases
        for name in ("p3", "p4", "p5", "p6", "p7"):
            tower = features[name]
            for layer in head.bbox_tower:
                tower = layer(tower)
            maps = F.conv2d(tower, network.top_layer.weight, network.top_layer.bias, padding=1)
            found.append(maps[0].flatten(1).t())
        outputs = head([features[name] for name in ("p3", "p4", "p5", "p6", "p7")])
        cells = network.proposal_generator.detections(outputs, [(64, 96)] * 2)
        rows = cells.regions.images == 0
        attention = torch.cat(found)[cells.cells[rows]].view(-1, 4, 7, 7)
        attention = F.interpolate(attention, (28, 28), mode="bilinear").softmax(1)
        import torchvision

        boxes = [cells.regions.boxes_xyxy[rows]]
        regions = torchvision.ops.roi_align(bases[:1], boxes, (28, 28), 0.25, 1, aligned=True)
    assert len(output.mask_probs) > 3
    torch.testing.assert_close(output.mask_probs, (attention * regions).sum(1).sigmoid(), atol=1e-5, rtol=1e-5)


def test_half_precision_is_finite(model, batch):
    network = model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(network, batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    network.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        network(batch)


def test_pixel_weights_of_one_change_nothing(model, batch):
    plain = losses_of(model("MODEL.PNM.ENABLED", False), batch)
    keys = ("MODEL.PNM.ENABLED", True, "MODEL.PNM.LOCALITY", 1, "MODEL.PNM.ROI_LOCALITY", 1)
    weighted = losses_of(model(*keys), batch)
    real = losses_of(model("MODEL.PNM.ENABLED", True), batch)
    for name, loss in plain.items():
        torch.testing.assert_close(weighted[name], loss)
        assert (real[name] > loss) if name in ("loss_mask", "loss_sem_seg") else torch.equal(real[name], loss), name


def test_crowded_images_are_bounded(model):
    labels = np.zeros((64, 96), np.int64)
    for n in range(60):
        y, x = divmod(n, 12)
        labels[12 * y : 12 * y + 10, 8 * x : 8 * x + 7] = n + 1
    crowded = sample_of(labels, [n % THINGS for n in range(60)])
    network, seen = model("MODEL.SE_PSNET.MAX_POSITIVES", 7, "MODEL.SE_PSNET.CONFIDENCE.MAX_REGIONS", 3), []
    network.mask_branch.auxiliary[0].register_forward_hook(lambda _, given, out: seen.append(len(given[0])))
    network.mask_branch.confidence.fc.register_forward_hook(lambda _, given, out: seen.append(len(given[0])))
    losses_of(network, [crowded] * 2)
    assert seen[0] == 14 and seen[1] <= 6


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("INPUT.MASK_FORMAT", "polygon"), "INPUT.MASK_FORMAT bitmask"),
        (("MODEL.MASK_ON", False), "MODEL.MASK_ON True"),
        (("MODEL.SE_PSNET.BASES.WIDTH", 32), "from 64 on"),
        (("MODEL.SE_PSNET.FCOS.NORM", "XN"), "expected one of"),
        (("MODEL.SE_PSNET.ALPHA", 1.5), "ALPHA is 1.5"),
        (("MODEL.SE_PSNET.FCOS.SIZES_OF_INTEREST", [64, 32, 128, 256]), "ascending"),
        (("MODEL.SE_PSNET.LOSS_WEIGHTS.MASK", -1.0), "LOSS_WEIGHTS.MASK is -1.0"),
        (("MODEL.SE_PSNET.BLEND_SILHOUETTE", True, "MODEL.SE_PSNET.BASIS_SILHOUETTE", False), "BASIS_SILHOUETTE True"),
    ],
)
def test_keys_that_cannot_be(cfg, keys, words):
    with pytest.raises(UserError, match=words):
        cfg(*keys)


def test_models_that_cannot_be(model, batch):
    with pytest.raises(UserError, match="build_resnet_fpn_p2_to_p7_backbone"):
        model("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone")
    with pytest.raises(UserError, match="NUM_THINGS is 0"):
        model("MODEL.SE_PSNET.NUM_THINGS", 0)
    del batch[1]["sem_seg"]
    with pytest.raises(UserError, match="has no sem_seg"):
        losses_of(model(), batch)


def test_instances_only(model, batch):
    for one in batch:
        del one["sem_seg"]
    network = model("MODEL.SE_PSNET.PANOPTIC", False)
    assert network.sem_seg_head is None and not [n for n in losses_of(network, batch) if "sem_seg" in n]
    with torch.no_grad():
        assert set(network.eval()(batch)[0]) == {"instances"}


def test_silhouette_as_a_basis(model, batch):
    network = model("MODEL.SE_PSNET.BLEND_SILHOUETTE", True)
    assert isinstance(network.top_layer, nn.Conv2d) and network.top_layer.out_channels == 5 * 49
    assert set(losses_of(network, batch)) == set(losses_of(model(), batch))
    assert network.sem_seg_head.predictor.out_channels == STUFF + 1


def test_images_without_objects_as_detectron2s_mapper_gives_them(model, batch):
    """They have no masks."""
    from detectron2.data.detection_utils import annotations_to_instances

    empty = {**batch[0], "instances": annotations_to_instances([], (64, 96), "bitmask")}
    assert not empty["instances"].has("gt_masks")
    losses = losses_of(model(), [empty, batch[1]])
    assert all(torch.isfinite(loss) for loss in losses.values())
    batch[0]["instances"].remove("gt_masks")
    with pytest.raises(UserError, match="objects without masks"):
        losses_of(model(), batch)


def test_gradients_may_be_on_in_inference_and_masks_smaller_than_the_confidence_heads(model, batch):
    network = model("MODEL.SE_PSNET.MASK_SIZE", 8, "MODEL.SE_PSNET.ATTENTION_SIZE", 4).eval()
    assert not len(network(batch)[0]["instances"])  # untrained
    assert losses_of(network.train(), batch)
