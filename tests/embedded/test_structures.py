"""Boxes, masks, image batches and instance tables, against loops, torchvision and pycocotools."""

import copy
import pickle

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    ImageList,
    Instances,
    PolygonMasks,
    ROIMasks,
    pairwise_iou,
    polygons_to_bitmask,
)
from detectron2.structures.boxes import matched_pairwise_iou, pairwise_intersection
from torchvision.ops import box_iou

# The embedded engine raises ValueError where the real one asserts.
BAD_INPUT = (ValueError, AssertionError, NotImplementedError)


def random_boxes(count: int, seed: int = 0) -> Boxes:
    corners = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed)) * 50
    return Boxes(torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], dim=1))


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor])
def test_box_mode_round_trip_keeps_type_and_input(make):
    xywh = make([3.0, 4.0, 10.0, 20.0])
    if not isinstance(xywh, (list, tuple)):
        xywh = xywh[None]
    before = copy.deepcopy(xywh)
    xyxy = BoxMode.convert(xywh, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    assert type(xyxy) is type(xywh)
    assert np.array_equal(np.asarray(xyxy).ravel(), [3, 4, 13, 24])
    back = BoxMode.convert(xyxy, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert np.array_equal(np.asarray(back), np.asarray(before)) and np.array_equal(np.asarray(xywh), np.asarray(before))


def test_box_mode_same_mode_is_the_same_object_and_integers_stay_integers():
    box = [1, 2, 3, 4]
    assert BoxMode.convert(box, BoxMode.XYXY_ABS, BoxMode.XYXY_ABS) is box
    assert BoxMode.convert(box, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) == [1, 2, 4, 6]
    assert [mode.value for mode in BoxMode] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("modes", [(BoxMode.XYXY_REL, BoxMode.XYXY_ABS), (BoxMode.XYXY_ABS, BoxMode.XYWHA_ABS)])
def test_box_mode_refuses_what_it_cannot_do(modes):
    with pytest.raises(BAD_INPUT):
        BoxMode.convert([0.0, 0.0, 1.0, 1.0], *modes)


def test_boxes_refuse_other_shapes():
    with pytest.raises(BAD_INPUT):
        Boxes(torch.zeros(3, 5))


def test_boxes_geometry_against_loops():
    boxes = random_boxes(20)
    height, width = 60, 70
    rows = boxes.tensor.tolist()
    assert boxes.area().tolist() == pytest.approx([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in rows], rel=1e-5)
    assert boxes.get_centers().tolist() == [
        [pytest.approx((a + c) / 2), pytest.approx((b + d) / 2)] for a, b, c, d in rows
    ]
    inside = [a >= -3 and b >= -3 and c < width + 3 and d < height + 3 for a, b, c, d in rows]
    assert boxes.inside_box((height, width), 3).tolist() == inside
    assert boxes.nonempty(20).tolist() == [c - a > 20 and d - b > 20 for a, b, c, d in rows]
    clipped = boxes.clone()
    clipped.clip((height, width))
    expected = [[min(a, width), min(b, height), min(c, width), min(d, height)] for a, b, c, d in rows]
    assert clipped.tensor.tolist() == expected and boxes.tensor.tolist() == rows
    scaled = boxes.clone()
    scaled.scale(2.0, 0.5)
    assert torch.equal(scaled.tensor, boxes.tensor * torch.tensor([2.0, 0.5, 2.0, 0.5]))


def test_boxes_cannot_clip_nan():
    with pytest.raises(BAD_INPUT):
        Boxes(torch.full((1, 4), float("nan"))).clip((5, 5))


def test_boxes_indexing_and_cat():
    boxes = random_boxes(5)
    assert len(boxes[2]) == 1 and torch.equal(boxes[2].tensor[0], boxes.tensor[2])
    assert len(boxes[1:4]) == 3
    assert torch.equal(boxes[torch.tensor([True, False, True, False, False])].tensor, boxes.tensor[[0, 2]])
    assert torch.equal(Boxes.cat([boxes[:2], boxes[2:]]).tensor, boxes.tensor)
    assert len(Boxes.cat([])) == 0 and len(Boxes(torch.zeros(0))) == 0
    assert len(list(boxes)) == 5


def test_overlaps_against_torchvision():
    first, second = random_boxes(13, 1), random_boxes(7, 2)
    expected = box_iou(first.tensor, second.tensor)
    inter = pairwise_intersection(first, second)
    assert torch.allclose(pairwise_iou(first, second), expected, atol=1e-6)
    assert torch.allclose(inter, expected / (1 + expected) * (first.area()[:, None] + second.area()), atol=1e-2)
    assert torch.allclose(matched_pairwise_iou(first[:7], second), expected[:7].diag(), atol=1e-6)


def test_empty_boxes_overlap_nothing():
    point = Boxes(torch.tensor([[3.0, 3.0, 3.0, 3.0]]))
    assert pairwise_iou(point, point).item() == 0
    assert pairwise_iou(point, Boxes(torch.zeros(0, 4))).shape == (1, 0)


def some_masks() -> torch.Tensor:
    masks = torch.rand(6, 17, 23, generator=torch.Generator().manual_seed(3)) > 0.97
    masks[2] = False
    masks[3] = False
    masks[3, 16, 22] = True  # one pixel in the corner
    return masks


def test_bitmask_boxes_against_a_loop():
    masks = some_masks()
    boxes = BitMasks(masks).get_bounding_boxes().tensor
    for mask, box in zip(masks, boxes):
        y, x = mask.nonzero().unbind(1)
        expected = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0]
        assert box.tolist() == [float(v) for v in expected]
    assert BitMasks(masks).nonempty().tolist() == [bool(mask.any()) for mask in masks]
    assert len(BitMasks(masks[:0]).get_bounding_boxes()) == 0


def test_bitmask_crop_of_the_whole_is_the_mask_and_of_a_part_is_that_part():
    masks = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(4)) > 0.5
    bitmasks = BitMasks(masks)
    assert torch.equal(bitmasks.crop_and_resize(torch.tensor([[0.0, 0.0, 16.0, 16.0]] * 3), 16), masks)
    assert torch.equal(bitmasks.crop_and_resize(torch.tensor([[4.0, 2.0, 12.0, 10.0]] * 3), 8), masks[:, 2:10, 4:12])
    with pytest.raises(BAD_INPUT):
        bitmasks.crop_and_resize(torch.zeros(2, 4), 16)


def test_bitmask_indexing_and_cat():
    bitmasks = BitMasks(some_masks().numpy())
    assert len(bitmasks[1]) == 1 and len(bitmasks[torch.tensor([0, 0, 5])]) == 3
    assert torch.equal(BitMasks.cat([bitmasks[:2], bitmasks[2:]]).tensor, bitmasks.tensor)
    assert tuple(bitmasks.image_size) == (17, 23)


TRIANGLE = np.array([2.0, 3.0, 12.0, 3.0, 2.0, 9.0])
SQUARE = np.array([20.0, 5.0, 28.0, 5.0, 28.0, 13.0, 20.0, 13.0])


def test_polygon_area_and_boxes():
    masks = PolygonMasks([[TRIANGLE], [TRIANGLE, SQUARE]])
    assert masks.area().tolist() == [30.0, 94.0]
    assert masks.get_bounding_boxes().tensor.tolist() == [[2, 3, 12, 9], [2, 3, 28, 13]]
    assert masks.nonempty().tolist() == [True, True]


def test_polygons_to_bitmask_draws_the_union():
    drawn = polygons_to_bitmask([SQUARE, SQUARE + 4], 30, 40)
    expected = np.zeros((30, 40), dtype=bool)
    expected[5:13, 20:28] = expected[9:17, 24:32] = True
    assert drawn.dtype == bool and np.array_equal(drawn, expected)
    assert not polygons_to_bitmask([], 4, 5).any()


def test_polygon_crop_is_the_stretched_polygon():
    boxes = torch.tensor([[1.0, 2.0, 15.0, 10.0], [18.5, 3.0, 30.0, 12.0]])
    targets = PolygonMasks([[TRIANGLE], [SQUARE]]).crop_and_resize(boxes, 28)
    for target, polygon, (x0, y0, x1, y1) in zip(targets, (TRIANGLE, SQUARE), boxes.tolist()):
        local = (polygon.reshape(-1, 2) - [x0, y0]) * [28 / (x1 - x0), 28 / (y1 - y0)]
        rle = coco_mask.merge(coco_mask.frPyObjects([local.ravel().tolist()], 28, 28))
        assert np.mean(coco_mask.decode(rle).astype(bool) != target.numpy()) < 0.01
    assert targets.dtype == torch.bool and targets.shape == (2, 28, 28)
    assert PolygonMasks([]).crop_and_resize(torch.zeros(0, 4), 28).shape == (0, 28, 28)


def test_polygon_crop_of_a_thin_box_is_finite():
    assert PolygonMasks([[TRIANGLE]]).crop_and_resize(torch.tensor([[3.0, 4.0, 3.0, 8.0]]), 14).shape == (1, 14, 14)


@pytest.mark.parametrize(
    "index, expected",
    [
        (1, [1]),
        (slice(0, 2), [0, 1]),
        ([2, 0], [2, 0]),
        (torch.tensor([2, 2]), [2, 2]),
        (torch.tensor([True, False, True]), [0, 2]),
    ],
)
def test_polygon_indexing(index, expected):
    masks = PolygonMasks([[TRIANGLE], [SQUARE], [TRIANGLE, SQUARE]])
    assert masks[index].area().tolist() == masks.area()[expected].tolist()
    assert len(PolygonMasks.cat([masks, masks[index]])) == 3 + len(expected)


@pytest.mark.parametrize("polygons", [[TRIANGLE], "x", [[TRIANGLE[:4]]], [[TRIANGLE[:5]]]])
def test_polygon_masks_refuse_bad_input(polygons):
    with pytest.raises(ValueError):
        PolygonMasks(polygons)


def test_bitmasks_from_polygons():
    masks = BitMasks.from_polygon_masks(PolygonMasks([[SQUARE]]), 20, 30)
    assert masks.tensor.shape == (1, 20, 30) and masks.tensor.sum() == 64


def test_roi_masks_fill_their_boxes():
    boxes = Boxes(torch.tensor([[2.0, 3.0, 8.0, 13.0], [0.0, 0.0, 20.0, 15.0]]))
    pasted = ROIMasks(torch.ones(2, 28, 28)).to_bitmasks(boxes, 15, 20).tensor
    expected = torch.zeros(2, 15, 20, dtype=torch.bool)
    expected[0, 3:13, 2:8] = expected[1] = True
    assert torch.equal(pasted, expected)
    with pytest.raises(ValueError):
        ROIMasks(torch.ones(2, 1, 28, 28))


def test_image_list_pads_at_the_bottom_and_right():
    tensors = [torch.ones(3, 5, 9), 2 * torch.ones(3, 8, 4)]
    batch = ImageList.from_tensors(tensors, size_divisibility=4, pad_value=7)
    assert batch.tensor.shape == (2, 3, 8, 12) and batch.image_sizes == [(5, 9), (8, 4)] and len(batch) == 2
    for index, tensor in enumerate(tensors):
        assert torch.equal(batch[index], tensor)
    assert (batch.tensor[0, :, 5:] == 7).all() and (batch.tensor[1, :, :, 4:] == 7).all()
    assert tensors[0].shape == (3, 5, 9)


def test_image_list_constraints_and_other_ranks():
    square = ImageList.from_tensors([torch.zeros(6, 9)], 4, padding_constraints={"square_size": 16})
    assert square.tensor.shape == (1, 16, 16)
    overridden = ImageList.from_tensors([torch.zeros(6, 9)], 4, padding_constraints={"size_divisibility": 5})
    assert overridden.tensor.shape == (1, 10, 10)
    assert ImageList.from_tensors([torch.zeros(6, 9)]).tensor.shape == (1, 6, 9)
    with pytest.raises(BAD_INPUT):
        ImageList.from_tensors([])
    with pytest.raises(BAD_INPUT):
        ImageList.from_tensors([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)])


def instances(count: int = 4) -> Instances:
    return Instances(
        (30, 40),
        gt_boxes=random_boxes(count),
        scores=torch.arange(count) / 10,
        names=[f"n{i}" for i in range(count)],
        gt_masks=PolygonMasks([[TRIANGLE]] * count),
    )


def test_instances_rows_stay_together():
    table = instances()
    for index in (torch.tensor([3, 1]), torch.tensor([False, True, False, True])):
        del_names = copy.deepcopy(table)
        del_names.remove("names")  # lists take integers and slices only
        assert sorted(del_names[index].scores.tolist()) == pytest.approx([0.1, 0.3])
    assert table[1:3].names == ["n1", "n2"] and table[-1].names == ["n3"] and len(table[0]) == 1
    assert table.image_size == (30, 40) and table.has("scores") and not table.has("boxes")
    with pytest.raises(IndexError):
        table[4]


def test_instances_fields():
    table = instances()
    with pytest.raises(BAD_INPUT):
        table.extra = torch.zeros(3)
    with pytest.raises(AttributeError):
        table.nothing  # noqa: B018
    table.extra = torch.zeros(4)
    assert set(table.get_fields()) == {"gt_boxes", "scores", "names", "gt_masks", "extra"}
    assert "num_instances=4" in str(table) and "image_height=30" in str(table)
    with pytest.raises(NotImplementedError):
        len(Instances((2, 2)))
    with pytest.raises(NotImplementedError):
        iter(table)


def test_instances_cat_copy_and_pickle():
    table = instances()
    joined = Instances.cat([table, table[:1]])
    assert len(joined) == 5 and joined.names == ["n0", "n1", "n2", "n3", "n0"] and len(joined.gt_masks) == 5
    assert torch.equal(joined.gt_boxes.tensor[4], table.gt_boxes.tensor[0])
    for other in (copy.deepcopy(table), pickle.loads(pickle.dumps(table)), table.to("cpu")):
        assert torch.equal(other.gt_boxes.tensor, table.gt_boxes.tensor) and other.image_size == (30, 40)
    with pytest.raises(BAD_INPUT):
        Instances.cat([table, Instances((1, 1), **table.get_fields())])
