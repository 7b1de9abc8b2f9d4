"""The cells' objects are those of a double loop over cells and objects, and of torchvision's FCOS where it is right."""

import math
import random
import time

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection.fcos import FCOS

from pnm.errors import UserError
from pnm.fcos.assignment import assign_objects
from pnm.fcos.cells import Level, cell_positions

RANGES = [64, 128, 256, 512]
LEVELS = [Level(25, 37, 8), Level(13, 19, 16), Level(7, 10, 32), Level(4, 5, 64), Level(2, 3, 128)]
SMALL_RANGES = [8, 16]
SMALL = [Level(9, 7, 4), Level(5, 3, 8), Level(1, 3, 16)]


def assigned_by_loops(boxes, levels, bounds, radius):
    """The rule as it is written down; Python floats, so nothing is rounded on a grid of 1/4 px."""
    owners, lows = [], [0, *bounds]
    for (height, width, stride), low, high in zip(levels, lows, [*bounds, math.inf]):
        for row in range(height):
            for column in range(width):
                x, y = column * stride + stride // 2, row * stride + stride // 2
                owner, smallest = -1, math.inf
                for n, (x0, y0, x1, y1) in enumerate(boxes):
                    sides = [x - x0, y - y0, x1 - x, y1 - y]
                    off = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2))
                    learns = min(sides) > 0 and off < radius * stride and low < max(sides) <= high
                    if learns and (x1 - x0) * (y1 - y0) < smallest:
                        owner, smallest = n, (x1 - x0) * (y1 - y0)
                owners.append(owner)
    return owners


def scene(rng, count, frame, sides, grid):
    """Boxes whose corners are multiples of ``grid`` px, some of them beyond the frame, some twice, some without area.

    ``frame`` is the image's width and height, ``sides`` are the longest sides to choose from, px.
    """
    boxes = []
    for _ in range(count):
        most = int(rng.choice(sides) / grid)
        wide, high = (rng.randint(most // 4, most) for _ in range(2))
        x0, y0 = (int(rng.uniform(-0.1, 1) * size / grid) - side // 2 for size, side in zip(frame, (wide, high)))
        boxes.append([grid * corner for corner in (x0, y0, x0 + wide, y0 + high)])
        if rng.random() < 0.2:
            boxes.append(list(rng.choice(boxes)))
    return boxes


def assign(boxes, levels=LEVELS, bounds=RANGES, radius=1.5):
    return assign_objects(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), levels, bounds, radius)


@pytest.mark.parametrize("radius", [0.75, 1.0, 1.5, 2.25])
@pytest.mark.parametrize("grid", [0.25, 1, 4])
def test_small_pyramids_equal_the_double_loop(grid, radius):
    rng, learned = random.Random(f"{grid} {radius}"), 0
    for _ in range(40):
        boxes = scene(rng, rng.randint(0, 8), (28, 36), (12, 24, 60), grid)
        truth = assigned_by_loops(boxes, SMALL, SMALL_RANGES, radius)
        assert assign(boxes, SMALL, SMALL_RANGES, radius).tolist() == truth
        learned += sum(owner >= 0 for owner in truth)
    assert learned > 100


@pytest.mark.parametrize("radius", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("grid", [0.25, 4, 8, 16])
def test_five_levels_equal_the_double_loop(grid, radius):
    rng = random.Random(f"{grid} {radius}")
    for _ in range(5):
        boxes = scene(rng, 12, (296, 200), (40, 160, 400, 1000), grid)
        truth = assigned_by_loops(boxes, LEVELS, RANGES, radius)
        assert assign(boxes, radius=radius).tolist() == truth
        assert len(set(truth)) > 3


@pytest.mark.parametrize("stride", [1, 3, 5])
def test_odd_strides_equal_the_double_loop(stride):
    rng, levels = random.Random(stride), [Level(11, 13, stride), Level(6, 7, 2 * stride)]
    for _ in range(20):
        boxes = scene(rng, 5, (13 * stride, 11 * stride), (6 * stride, 20 * stride), 0.5)
        assert assign(boxes, levels, [4 * stride]).tolist() == assigned_by_loops(boxes, levels, [4 * stride], 1.5)


class Captured(nn.Module):
    """A head that keeps what torchvision matched, in place of losses."""

    def compute_loss(self, targets, head_outputs, anchors, matched_idxs):
        return {"matched": matched_idxs}


def assigned_by_torchvision(boxes, levels):
    """Its matching for anchors of a side of one stride about our cells; ranges are strict at both ends."""
    backbone = nn.Identity()
    backbone.out_channels = 1  # type: ignore[assignment]
    model = FCOS(backbone, 1, head=Captured())
    at, half = cell_positions(levels), torch.cat([torch.full((level.size, 1), level.stride / 2) for level in levels])
    anchors = torch.cat([at - half, at + half], 1)
    matched = model.compute_loss([{"boxes": boxes}], {}, [anchors], [level.size for level in levels])
    return matched["matched"][0]


def test_torchvision_assigns_the_same_away_from_ties_and_range_ends():
    rng, learned = random.Random(7), 0
    for _ in range(40):
        boxes: list[list[float]] = []
        areas: list[float] = []
        while len(boxes) < 15:
            x0, y0, wide, high = rng.uniform(-40, 290), rng.uniform(-40, 190), rng.uniform(2, 700), rng.uniform(2, 700)
            if all(abs(wide * high - area) > 32 for area in areas):  # its areas are 1e8 - area in float32
                boxes.append([x0, y0, x0 + wide, y0 + high])
                areas.append(wide * high)
        truth = assigned_by_torchvision(torch.tensor(boxes), LEVELS)
        assert torch.equal(assign(boxes), truth)
        learned += int((truth >= 0).sum())
    assert learned > 1000


def test_a_largest_distance_of_64_belongs_to_the_finer_level():
    (box,) = boxes = [[4, 4, 132, 132]]  # its centre, (68, 68), is row 8 and column 8 of stride 8
    center = 8 * LEVELS[0].width + 8
    assert assign(boxes)[center] == 0
    assert assigned_by_torchvision(torch.tensor([box]).float(), LEVELS)[center] == -1  # its gap
    shifted = assign([[8, 8, 136, 136]])  # now (72, 72): row 4 and column 4 of stride 16, which starts above 64
    coarse = shifted[LEVELS[0].size :][: LEVELS[1].size].reshape(LEVELS[1].height, LEVELS[1].width)
    assert coarse[4, 4] == -1 and coarse[3, 3] == coarse[5, 5] == coarse[4, 3] == 0


@pytest.mark.parametrize("seed", range(10))
def test_each_position_learns_an_object_on_exactly_one_level(seed):
    """Levels of one stride share their positions: together they learn what a single level without range would."""
    rng, level = random.Random(seed), Level(25, 37, 8)
    bounds = [12, 16, 32, 64]  # met exactly by corners on the grid of 4 px
    x0, y0 = 4 * rng.randint(0, 40), 4 * rng.randint(0, 25)
    boxes = [[x0, y0, x0 + 4 * rng.randint(4, 30), y0 + 4 * rng.randint(4, 30)]]
    on_levels = assign(boxes, [level] * 5, bounds, 3.0).reshape(5, -1) >= 0
    alone = assign(boxes, [level], [], 3.0) >= 0
    assert alone.any() and torch.equal(on_levels.sum(0), alone.long())


def test_of_equal_boxes_the_first_is_learned():
    box, other = [24, 24, 64, 64], [200, 100, 230, 150]
    alone = assign([box])
    assert (alone == 0).sum() == 9  # 3 x 3 cells of stride 8; nothing on coarser levels
    assert torch.equal(assign([box, box, box]), alone)
    assert set(assign([other, box, box]).tolist()) == {-1, 0, 1}


def test_of_equal_areas_the_first_is_learned():
    wide, high = [20, 30, 100, 70], [40, 10, 80, 90]
    assert assign([wide, high])[6 * 37 + 7] == 0  # (60, 52)
    assert assign([high, wide])[6 * 37 + 7] == 0


def test_of_several_objects_the_smallest_box_is_learned_however_they_are_ordered():
    sizes = [90, 60, 44, 30, 24]
    boxes = [[60 - size / 2, 60 - size / 2, 60 + size / 2, 60 + size / 2] for size in sizes]
    cell = 7 * 37 + 7  # (60, 60)
    rng = random.Random(0)
    for _ in range(10):
        order = rng.sample(range(5), 5)
        assert assign([boxes[n] for n in order])[cell] == order.index(4)


def test_areas_that_float32_cannot_tell_apart_are_compared():
    small, large = [0, 0, 8160, 8162], [0, 0, 8161, 8161]
    areas = [torch.tensor(box[2] * box[3]) for box in (small, large)]
    assert areas[0] < areas[1] and areas[0].float() == areas[1].float()
    for boxes, smallest in (([small, large], 0), ([large, small], 1)):
        owners = assign(boxes, [Level(512, 512, 16)], [])
        assert owners[255 * 512 + 254] == smallest  # (4072, 4088), near the centre of both


def test_an_image_without_objects_is_background():
    owners = assign([])
    assert owners.dtype == torch.int64 and owners.tolist() == [-1] * sum(level.size for level in LEVELS)


def test_an_object_of_one_pixel_is_learned_only_by_a_cell_within():
    assert assign([[11.5, 19.5, 12.5, 20.5]]).nonzero().numel() == cells_but(1)
    assert assign([[11.5, 19.5, 12.5, 20.5]])[2 * 37 + 1] == 0  # (12, 20)
    assert (assign([[12, 20, 13, 21]]) == -1).all()  # the cell is on its corner, not inside
    assert (assign([[14, 22, 15, 23]]) == -1).all()


def cells_but(learned):
    """How many entries are not 0 where so many cells learn the first object."""
    return sum(level.size for level in LEVELS) - learned


def test_a_box_beyond_the_frame_is_learned_within_only():
    across = [-30, -30, 14, 14]  # its centre, (-8, -8), is outside: only (4, 4)'s distance of 12 is within 1.5 strides
    assert (assign([across], radius=1.0) == -1).all()
    assert (assign([across]).flatten()[: LEVELS[0].size] == -1).all()  # 12 is not less than 12
    assert assign([[-30, -30, 15, 15]])[0] == 0
    assert (assign([[-300, 20, -200, 80], [20, 5000, 80, 5060]]) == -1).all()


NO_OBJECTS = [
    [0, 0, 0, 0],
    [0, 20, 0, 60],
    [20, 40, 60, 40],
    [60, 60, 20, 20],
    [60, 20, 20, 60],
    [math.nan, 20, 60, 60],
    [20, 20, 60, math.nan],
    [math.nan] * 4,
    [20, 20, math.inf, 60],
    [-math.inf, -math.inf, math.inf, math.inf],
    [0, 0, 1e30, 1e30],
    [-1e30, 0, 60, 60],
    [1e30, 1e30, 2e30, 2e30],
    [-3e38, -3e38, -1e38, -1e38],
    [1e30, 1e30, -1e30, -1e30],
]


@pytest.mark.parametrize("wrong", NO_OBJECTS, ids=str)
def test_boxes_without_area_or_sense_have_no_cell_and_disturb_nobody(wrong):
    assert (assign([wrong]) == -1).all()
    boxes = [[20, 20, 60, 60], [30, 10, 200, 180], [0, 0, 9, 9]]
    alone = assign(boxes)
    assert {-1, 0, 1, 2} == set(alone.tolist())
    for place in range(4):
        moved = alone + (alone >= place).long()
        assert torch.equal(assign([*boxes[:place], wrong, *boxes[place:]]), moved)


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest result of any operation meanwhile."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(part, torch.Tensor):
                self.numel = max(self.numel, part.numel())
        return result


def crowd(count):
    rng = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=rng) * torch.tensor([1300.0, 760.0])
    return torch.cat([corners, corners + 4 + 300 * torch.rand(count, 2, generator=rng)], 1)


FULL = [Level(-(-800 // stride), -(-1344 // stride), stride) for stride in (8, 16, 32, 64, 128)]


def test_memory_is_linear_in_objects_and_in_cells():
    cells, count = sum(level.size for level in FULL), 2000
    with LargestTensor() as largest:
        assign_objects(crowd(count), FULL, RANGES)
    assert largest.numel <= max(cells, 9 * 4 * count)  # all pairs would be 45 million


def test_2000_objects_take_less_than_a_second():
    boxes, seconds = crowd(2000), []
    for _ in range(3):
        start = time.perf_counter()
        assign_objects(boxes, FULL, RANGES)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1


def test_the_boxes_given_are_left_alone_and_have_no_gradient():
    boxes = torch.tensor([[20.0, 20, 60, 60], [60, 60, 20, 20]], requires_grad=True)
    before = boxes.detach().clone()
    owners = assign_objects(boxes, LEVELS, RANGES)
    assert torch.equal(boxes, before) and not owners.requires_grad


@pytest.mark.parametrize("bounds", [[64], [64, 128, 256, 512, 1024], [64, 256, 128, 512]])
def test_ranges_that_do_not_fit_are_told(bounds):
    with pytest.raises(UserError, match=rf"{bounds[:1]}".strip("[]") + rf".*, expected {len(LEVELS) - 1} "):
        assign([[0, 0, 9, 9]], bounds=bounds)
