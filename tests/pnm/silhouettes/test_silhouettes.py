"""Silhouettes are those of a loop over pixels and neighbours, whatever the labels, the orientation and the crop."""

import pytest
import torch

from pnm.silhouettes.silhouettes import (
    at_stride,
    label_silhouettes,
    region_silhouettes,
    soft_region_silhouettes,
    soft_silhouettes,
    union_of_silhouettes,
)

SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (7, 12), (16, 11)]


def generator(*seed):
    return torch.Generator().manual_seed(hash(seed) % 2**31)


def blobs(size, rng, count=4):
    """A label map (H, W) of patches of 1 to 3 pixels a side."""
    height, width = size
    coarse = torch.randint(0, count, (height, width), generator=rng)
    rows, columns = ((torch.rand(n, generator=rng) < 0.6).cumsum(0) for n in size)
    return coarse[rows.clamp(max=height - 1)][:, columns.clamp(max=width - 1)]


def some(size, rng, share=0.8):
    return torch.rand(size, generator=rng) < share


def neighbours(y, x, height, width):
    near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return [(j, i) for j, i in near if 0 <= j < height and 0 <= i < width]


def silhouettes_by_loop(labels, valid):
    """A pixel is one if it and one of its 4 neighbours count and have different labels."""
    height, width = labels.shape
    result = torch.zeros(height, width, dtype=torch.bool)
    for y in range(height):
        for x in range(width):
            near = [place for place in neighbours(y, x, height, width) if valid[place]]
            result[y, x] = bool(valid[y, x]) and any(labels[y, x] != labels[place] for place in near)
    return result


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_labels_equal_the_loop_with_and_without_ignored_pixels(size, dtype):
    rng = generator(*size)
    for _ in range(5):
        labels, valid = blobs(size, rng).to(dtype), some(size, rng)
        everywhere = torch.ones_like(valid)
        assert torch.equal(label_silhouettes(labels), silhouettes_by_loop(labels, everywhere))
        assert torch.equal(label_silhouettes(labels, everywhere), label_silhouettes(labels))
        assert torch.equal(label_silhouettes(labels, valid), silhouettes_by_loop(labels, valid))


def test_a_stack_of_maps_gives_what_each_gives_alone():
    rng = generator(1)
    maps = torch.stack([blobs((7, 12), rng) for _ in range(6)])
    valid = some(maps.shape, rng)
    alone = torch.stack([label_silhouettes(*pair) for pair in zip(maps, valid)])
    assert torch.equal(label_silhouettes(maps, valid), alone)
    assert torch.equal(label_silhouettes(maps.view(2, 3, 7, 12), valid.view(2, 3, 7, 12)), alone.view(2, 3, 7, 12))


def test_renaming_the_labels_changes_nothing():
    labels = blobs((16, 11), generator(2))
    for names in ([3, 2, 1, 0], [0, 255, 256, 70_000], [-1, 1, -2, 2]):
        assert torch.equal(label_silhouettes(torch.tensor(names)[labels]), label_silhouettes(labels))


@pytest.mark.parametrize("move", [lambda m: m.flip(-1), lambda m: m.flip(-2), lambda m: m.transpose(-1, -2)])
def test_flips_and_transposition_move_silhouettes_along(move):
    rng = generator(3)
    labels, valid, probs = blobs((16, 11), rng), some((16, 11), rng), torch.rand(16, 11, generator=rng)
    assert torch.equal(label_silhouettes(move(labels), move(valid)), move(label_silhouettes(labels, valid)))
    assert torch.equal(soft_silhouettes(move(probs)), move(soft_silhouettes(probs)))


@pytest.mark.parametrize("size", SIZES)
def test_the_image_frame_is_no_border(size):
    assert not label_silhouettes(torch.full(size, 7)).any()
    assert not soft_silhouettes(torch.full(size, 0.7)).any()


@pytest.mark.parametrize("names", [(1, 2, 3), (1, 9, 3)])
def test_stripes_of_one_pixel_are_all_silhouette(names):
    """A Laplacian gives 0 on the middle one of 1 | 2 | 3."""
    assert label_silhouettes(torch.tensor(names).expand(4, 3)).all()


def test_the_line_is_two_pixels_wide():
    labels = torch.zeros(6, 8, dtype=torch.int64)
    labels[:, 4:] = 5
    assert torch.equal(label_silhouettes(labels), torch.tensor([0, 0, 0, 1, 1, 0, 0, 0]).bool().expand(6, 8))


def test_ignored_pixels_are_none_and_make_none():
    rng = generator(4)
    for _ in range(20):
        labels, valid = blobs((7, 12), rng), some((7, 12), rng, 0.5)
        others = torch.where(valid, labels, torch.randint(0, 300, (7, 12), generator=rng))
        silhouettes = label_silhouettes(labels, valid)
        assert torch.equal(label_silhouettes(others, valid), silhouettes)
        assert not silhouettes[~valid].any() and not (silhouettes & ~label_silhouettes(labels)).any()


def test_nothing_given_is_changed():
    rng = generator(5)
    labels, valid = blobs((7, 12), rng), some((7, 12), rng)
    copies = labels.clone(), valid.clone()
    label_silhouettes(labels, valid)
    assert torch.equal(labels, copies[0]) and torch.equal(valid, copies[1])


@pytest.mark.parametrize("size", SIZES)
def test_soft_is_the_largest_difference_from_a_neighbour(size):
    probs = torch.rand(size, generator=generator(*size))
    truth = torch.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            truth[y, x] = max([abs(float(probs[y, x] - probs[place])) for place in neighbours(y, x, *size)], default=0)
    assert torch.equal(soft_silhouettes(probs), truth)


@pytest.mark.parametrize("size", SIZES)
def test_soft_equals_hard_on_zeros_and_ones(size):
    masks = some((5, *size), generator(*size), 0.5)
    assert torch.equal(soft_silhouettes(masks.float()), label_silhouettes(masks).float())
    assert torch.equal(soft_region_silhouettes(masks.float()), region_silhouettes(masks).float())


def test_a_ramp_has_a_silhouette_and_a_gradient():
    """A Laplacian has neither. Steeper by t is larger by t, so every gradient's product with the ramp is the value."""
    ramp = (torch.arange(8.0) / 8).repeat(5, 1).requires_grad_()
    soft = soft_silhouettes(ramp)
    assert torch.equal(soft, torch.full((5, 8), 1 / 8))
    for y, x in ((2, 3), (0, 0), (4, 7)):
        (gradient,) = torch.autograd.grad(soft[y, x], ramp, retain_graph=True)
        assert (gradient * ramp).sum().item() == 1 / 8


def test_soft_gradients_equal_finite_differences():
    probs = torch.rand(2, 5, 6, generator=generator(6), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(soft_silhouettes, probs)
    assert torch.autograd.gradcheck(soft_region_silhouettes, probs)


def test_a_full_region_is_bounded_by_its_contour():
    contour = torch.ones(1, 6, 6, dtype=torch.bool)
    contour[:, 1:-1, 1:-1] = False
    assert torch.equal(region_silhouettes(torch.ones(1, 6, 6, dtype=torch.bool)), contour)
    assert torch.equal(soft_region_silhouettes(torch.full((1, 6, 6), 0.25)), contour * 0.25)


def test_regions_equal_the_loop_on_a_larger_image_of_background():
    masks = some((4, 9, 9), generator(7), 0.7)
    for mask, silhouettes in zip(masks, region_silhouettes(masks)):
        image = torch.zeros(15, 15, dtype=torch.bool)
        image[3:12, 3:12] = mask
        assert torch.equal(silhouettes, silhouettes_by_loop(image, torch.ones_like(image))[3:12, 3:12])


def test_no_regions():
    assert region_silhouettes(torch.zeros(0, 6, 6, dtype=torch.bool)).shape == (0, 6, 6)
    probs = torch.zeros(0, 6, 6, requires_grad=True)
    soft_region_silhouettes(probs).sum().backward()
    assert probs.grad is not None


def tight_boxes(masks):
    boxes = []
    for mask in masks:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        empty = not len(rows)
        boxes.append([0] * 4 if empty else [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def partition(rng, size=(21, 17), count=6):
    """A label map of rectangles over 0, and the mask of each label from 1."""
    labels = torch.zeros(size, dtype=torch.int64)
    for n in range(1, count + 1):
        y, x = (int(torch.randint(-3, length, (), generator=rng)) for length in size)
        high, wide = torch.randint(1, 9, (2,), generator=rng).tolist()
        labels[max(y, 0) : max(y + high, 0), max(x, 0) : max(x + wide, 0)] = n
    return labels, torch.stack([labels == n for n in range(1, count + 1)])


@pytest.mark.parametrize("slack", [0, 0.4, 3.7, 100])
def test_the_union_over_a_partition_is_the_silhouette_of_its_label_map(slack):
    """In tight boxes, in loose ones, and in those that leave the frame."""
    rng = generator(8)
    for _ in range(20):
        labels, masks = partition(rng)
        boxes = tight_boxes(masks) + torch.tensor([-slack, -slack, slack, slack])
        valid = some(labels.shape, rng)
        assert torch.equal(union_of_silhouettes(masks, boxes), label_silhouettes(labels))
        assert torch.equal(union_of_silhouettes(masks, boxes, valid), label_silhouettes(labels, valid))


def test_the_union_does_not_depend_on_the_order_and_keeps_what_overlaps():
    rng = generator(9)
    _, masks = partition(rng)
    masks = masks | partition(rng)[1]
    boxes, each = tight_boxes(masks), label_silhouettes(masks).any(0)
    for _ in range(5):
        order = torch.randperm(6, generator=rng)
        assert torch.equal(union_of_silhouettes(masks[order], boxes[order]), each)


@pytest.mark.parametrize("y, x", [(0, 0), (0, 6), (4, 0), (4, 6), (2, 3)])
def test_one_pixel_at_the_frame_has_itself_and_its_neighbours(y, x):
    mask = torch.zeros(1, 5, 7, dtype=torch.bool)
    mask[0, y, x] = True
    union = union_of_silhouettes(mask, torch.tensor([[x, y, x + 1, y + 1]], dtype=torch.float32))
    assert {tuple(place) for place in union.nonzero().tolist()} == {(y, x), *neighbours(y, x, 5, 7)}


@pytest.mark.parametrize(
    "box", [[-50, -50, -20, -20], [90, 2, 99, 4], [2, 90, 4, 99], [-3, -3, -2, 9], [3, 3, 3, 3], [-1e9, -1e9, 1e9, 1e9]]
)
def test_empty_masks_add_nothing_wherever_their_boxes_are(box):
    mask = torch.zeros(2, 8, 9, dtype=torch.bool)
    mask[1, 2:5, 3:9] = True
    boxes = torch.tensor([box, [3, 2, 9, 5]], dtype=torch.float32)
    assert torch.equal(union_of_silhouettes(mask, boxes), label_silhouettes(mask[1]))


def test_a_box_that_covers_the_image_leaves_no_silhouette():
    assert not union_of_silhouettes(torch.ones(1, 8, 9, dtype=torch.bool), torch.tensor([[0.0, 0, 9, 8]])).any()


def test_no_instances_have_no_silhouette():
    union = union_of_silhouettes(torch.zeros(0, 8, 9, dtype=torch.bool), torch.zeros(0, 4))
    assert union.shape == (8, 9) and union.dtype == torch.bool and not union.any()


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(8, 12), (7, 13), (9, 10), (1, 5), (2, 3)])
def test_strides_equal_the_loop(size, stride):
    rng = generator(*size, stride)
    silhouettes, valid = some((3, *size), rng, 0.1), some((3, *size), rng, 0.4)
    coarse, counted = at_stride(silhouettes, valid, stride)
    shape = 3, -(-size[0] // stride), -(-size[1] // stride)
    assert coarse.shape == counted.shape == shape and coarse.dtype == counted.dtype == torch.bool
    for n in range(3):
        for row in range(shape[1]):
            for column in range(shape[2]):
                cell = n, slice(row * stride, (row + 1) * stride), slice(column * stride, (column + 1) * stride)
                assert counted[n, row, column] == valid[cell].any()
                assert coarse[n, row, column] == (silhouettes[cell] & valid[cell]).any()


def test_strides_of_no_images():
    none = torch.zeros(0, 9, 10, dtype=torch.bool)
    coarse, counted = at_stride(none, none, 4)
    assert coarse.shape == counted.shape == (0, 3, 3)
