"""Losses against closed forms, over processes; targets of images against loops."""

import copy
import math

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from drawn_batch import ALONE, batch_of, losses_of, losses_of_a_process, sample_of

from pnm.fcos.cells import distances_of_boxes
from pnm.projects.se_psnet.losses import box_loss, centerness_loss, class_loss, mask_losses, mask_targets, positives_of
from pnm.projects.se_psnet.mask_branch import _at_most
from pnm.projects.se_psnet.pooling import masks_in_boxes, objects_of, shares_inside
from pnm.projects.se_psnet.targets import image_targets


@pytest.fixture
def scene():
    """Four cells of which two learn one of two boxes."""
    boxes = torch.tensor([[0.0, 0, 20, 10], [4, 4, 12, 30]])
    positions = torch.tensor([[10.0, 5], [8, 20], [1, 1], [50, 50]])
    return boxes, positives_of(torch.tensor([[0, 1, -1, -1]]), positions, boxes)


def test_perfect_boxes_and_classes_cost_nothing(scene):
    boxes, positives = scene
    distances = distances_of_boxes(positives.positions, boxes[positives.objects])
    assert box_loss(distances, positives, boxes).abs() < 1e-5
    logits = torch.full((1, 4, 2), -40.0)
    logits[0, 0, 1] = logits[0, 1, 0] = 40.0
    assert class_loss(logits, positives, torch.tensor([1, 0]), 0.25, 2.0) < 1e-6


def test_centerness_costs_its_entropy_at_best(scene):
    _, positives = scene
    c = positives.centerness
    assert c[0] == 1  # the cell at the centre
    entropy = -sum(x * math.log(x) + (1 - x) * math.log(1 - x) for x in c.tolist() if 0 < x < 1)
    logits = torch.logit(c.clamp(1e-7, 1 - 1e-7))
    assert centerness_loss(logits, positives).item() == pytest.approx(entropy, abs=1e-4)


def test_box_loss_is_weighted_giou(scene):
    boxes, positives = scene
    halves = distances_of_boxes(positives.positions, boxes[positives.objects]) / 2
    # A box of half the sides about the same cell: IoU a quarter, the hull is the true box.
    expected = (0.75 * positives.centerness).sum()
    torch.testing.assert_close(box_loss(halves, positives, boxes), expected, atol=1e-4, rtol=0)


def test_mask_losses_of_a_perfect_mask():
    masks = torch.zeros(2, 12, 12, dtype=torch.bool)
    masks[0, 3:9, 2:8] = masks[1] = True
    targets = mask_targets(masks, None)
    bce, iou, silhouette = mask_losses((masks.float() - 0.5) * 80, targets, torch.tensor([0, 1]))
    assert all(loss.abs().max() < 1e-6 for loss in (bce, iou, silhouette))
    assert targets.silhouettes[1].sum() == 4 * 11 and targets.silhouettes[0].sum() == 4 * 5 + 4 * 6


OF_ITS_OWN_PIXELS = {"loss_sem_seg", "loss_basis_semantic"}  # as Detectron2's: means over those of each process


def test_two_processes_lose_what_one_does_with_the_joint_batch(tmp_path, model, new_process):
    """Images with other numbers of objects, and none in the second case; gradients are averaged as losses are here."""
    first = batch_of(1)[0]
    for n, labels in enumerate((np.pad(np.ones((30, 40), np.int64), ((9, 25), (9, 47))), np.zeros((64, 96), np.int64))):
        second, folder = sample_of(labels, (1,)), tmp_path / str(n)
        folder.mkdir()
        processes = [new_process(losses_of_a_process, rank, str(folder), ([first], [second])) for rank in (0, 1)]
        for process in processes:
            process.join(120)
        apart = [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]
        joint = losses_of(model(*ALONE), [first, second])
        assert apart[0].keys() == apart[1].keys() == joint.keys()
        for name in joint.keys() - OF_ITS_OWN_PIXELS:
            assert apart[0][name] != apart[1][name]
            torch.testing.assert_close((apart[0][name] + apart[1][name]) / 2, joint[name].detach(), msg=name)


def test_targets_of_an_image():
    sample = batch_of(1)[0]
    truth = sample["instances"]
    targets = image_targets([truth], [sample["sem_seg"]], (64, 128), 255)
    height, width = sample["sem_seg"].shape
    masks = truth.gt_masks.tensor.numpy()
    ignored = sample["sem_seg"].numpy() == 255
    line = np.zeros((height, width), bool)
    for mask in masks:
        for y in range(height):
            for x in range(width):
                for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                    if 0 <= v < height and 0 <= u < width and mask[y, x] != mask[v, u]:
                        line[y, x] |= not (ignored[y, x] or ignored[v, u])
    cells = line.reshape(16, 4, 24, 4).any((1, 3))
    assert (targets.silhouettes[0, :, :24].numpy() == cells).all() and not targets.silhouettes[0, :, 24:].any()
    counted = (~ignored).reshape(16, 4, 24, 4).any((1, 3))
    assert (targets.counted[0, :, :24].numpy() == counted).all() and not targets.counted[0, :, 24:].any()
    semantics = targets.semantics[0].numpy()
    assert semantics.shape == (8, 16) and (semantics[:, 12:] == -1).all()
    for i in range(8):
        for j in range(12):
            y, x = 8 * i + 4, 8 * j + 4
            of = [int(truth.gt_classes[n]) + 1 for n in range(len(masks)) if masks[n, y, x]]
            assert semantics[i, j] == (-1 if ignored[y, x] else of[0] if of else 0)


def test_things_without_an_instance_are_a_crowd_and_small_masks_lie_on_large_ones():
    labels = np.zeros((32, 32), np.int64)
    labels[4:20, 4:20] = 1
    sample = sample_of(labels, (0,))
    sample["sem_seg"][24:, :] = 0  # a thing, and nobody's
    large = sample["instances"]
    both = Instances((32, 32))
    small = torch.zeros(1, 32, 32, dtype=torch.bool)
    small[0, 10:14, 10:14] = True
    masks = torch.cat([small, large.gt_masks.tensor])
    both.gt_masks, both.gt_classes = BitMasks(masks), torch.tensor([1, 0])
    both.gt_boxes = BitMasks(masks).get_bounding_boxes()
    for order in ([0, 1], [1, 0]):
        targets = image_targets([both[torch.tensor(order)]], [sample["sem_seg"]], (32, 32), 255)
        assert targets.semantics[0, 1, 1] == 2 and targets.semantics[0, 2, 2] == 0
        assert (targets.semantics[0, 3] == -1).all() and not targets.counted[0, 6:].any()


def test_masks_in_boxes_are_detectron2s():
    truths = [x["instances"] for x in batch_of(2)]
    objects = objects_of(truths)
    rows = torch.tensor([5, 0, 3, 3, 1])
    boxes = torch.tensor([[60.0, 10, 96, 64], [0, 0, 50, 50], [6.5, 8.2, 30.1, 33], [0, 0, 96, 64], [38, 18, 70, 60]])
    found = masks_in_boxes(objects, rows, boxes, 28)
    for n, row in enumerate(rows.tolist()):
        mask = truths[row // 3].gt_masks[row % 3 : row % 3 + 1]
        assert torch.equal(found[n], mask.crop_and_resize(boxes[n : n + 1], 28)[0])
    shares = shares_inside(objects, rows, boxes)
    for n, row in enumerate(rows.tolist()):
        ys, xs = np.nonzero(truths[row // 3].gt_masks.tensor[row % 3].numpy())
        x0, y0, x1, y1 = boxes[n].tolist()
        inside = (xs + 0.5 >= x0) & (xs + 0.5 < x1) & (ys + 0.5 >= y0) & (ys + 0.5 < y1)
        assert shares[n].item() == pytest.approx(inside.mean(), abs=1e-6)


def test_at_most_so_many_of_each_image():
    images = torch.tensor([0] * 5 + [1] * 2 + [3] * 9)
    torch.manual_seed(0)
    drawn = [_at_most(images, 4) for _ in range(30)]
    assert all(images[rows].bincount().tolist() == [4, 2, 0, 4] for rows in drawn)
    assert all((rows.diff() > 0).all() for rows in drawn)
    assert set(torch.cat(drawn).tolist()) == set(range(16))
    assert len(_at_most(images[:0], 4)) == 0


def test_truth_is_not_changed(model):
    batch = batch_of(2)
    before = copy.deepcopy(batch)
    losses_of(model(), batch)
    for one, other in zip(batch, before, strict=True):
        assert torch.equal(one["sem_seg"], other["sem_seg"]) and torch.equal(one["image"], other["image"])
        assert torch.equal(one["instances"].gt_masks.tensor, other["instances"].gt_masks.tensor)
        assert torch.equal(one["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)


def test_boxes_without_area_are_left_out(model):
    batch = batch_of(1)
    truth = batch[0]["instances"]
    more = Instances(truth.image_size)
    more.gt_boxes = Boxes(torch.cat([torch.tensor([[0.0, 10, 0, 40]]), truth.gt_boxes.tensor]))
    more.gt_masks = BitMasks(torch.cat([torch.zeros(1, 64, 96, dtype=torch.bool), truth.gt_masks.tensor]))
    more.gt_classes = torch.cat([torch.tensor([1]), truth.gt_classes])
    network = model("MODEL.SE_PSNET.MASK_SCORE", False)
    plain, odd = losses_of(network, batch), losses_of(network, [{**batch[0], "instances": more}])
    assert plain.keys() == odd.keys()
    for name, loss in plain.items():
        torch.testing.assert_close(odd[name], loss)
