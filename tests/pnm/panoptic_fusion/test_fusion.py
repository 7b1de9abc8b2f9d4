"""Fusion against the engine's own function, the truth through it, ties, and what it refuses."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs as engine_combines

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from panoptic_scenes import ISTHING, random_map

from pnm.errors import UserError
from pnm.masks.crops import EMPTY, MaskCrop, crop_array
from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.panoptic_fusion.detectron2_interface import combine_semantic_and_instance_outputs, mask_extent
from pnm.panoptic_fusion.fusion import FusedSegment, FusionSettings, fuse

ALL = FusionSettings(min_score=0, max_overlap=1, min_stuff_area_px=0)


def random_instances(rng, height, width):
    """Ellipses and single pixels, some empty, with distinct scores."""
    count = int(rng.integers(0, 13))
    grid = np.mgrid[:height, :width]
    centers, radii = rng.uniform(0, (height, width), (count, 2)), rng.uniform(0.3, max(height, width) / 2, (count, 2))
    away = ((grid[None] - centers[:, :, None, None]) / radii[:, :, None, None]) ** 2
    masks = torch.from_numpy(away.sum(1) < 1)
    scores = torch.from_numpy(rng.permutation(np.linspace(0.2, 1, count, dtype=np.float32)))
    return SimpleNamespace(pred_masks=masks, scores=scores, pred_classes=torch.from_numpy(rng.integers(0, 5, count)))


def test_equals_the_engine():
    things = stuff = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        height, width = (int(n) for n in rng.integers(1, 70, 2))
        instances = random_instances(rng, height, width)
        labels = torch.from_numpy(
            np.kron(rng.integers(0, 5, (9, 9)), np.ones((8, 8), np.int64))[:height, :width].copy()
        )
        limits = (
            float(rng.choice([0.0, 0.3, 0.5, 0.9])),
            int(rng.choice([1, 20, 200])),
            float(rng.choice([0, 0.5, 0.8])),
        )
        before = instances.pred_masks.clone(), labels.clone()
        wanted, wanted_segments = engine_combines(instances, labels, *limits)
        ids, segments = combine_semantic_and_instance_outputs(instances, labels, *limits)
        assert ids.dtype == torch.int32 and (ids == wanted).all()
        assert segments == wanted_segments
        assert [list(segment) for segment in segments] == [list(segment) for segment in wanted_segments]
        assert (before[0] == instances.pred_masks).all() and (before[1] == labels).all()
        things, stuff = things + sum(s["isthing"] for s in segments), stuff + sum(not s["isthing"] for s in segments)
    assert things > 200 and stuff > 200


def test_extents_against_numpy():
    rng = np.random.default_rng(0)
    for width in (1, 7, 8, 9, 64, 131):
        masks = rng.random((20, 30, width)) < rng.choice([0.0, 0.001, 0.01, 0.5], (20, 1, 1))
        for mask in masks:
            crop, (top, left, bottom, right) = crop_array(mask), mask_extent(mask.view(np.uint8))
            assert (top, left, bottom - top, right - left) == (crop.top, crop.left, *crop.pixels.shape)


def test_the_truth_gives_the_truth():
    quality = PanopticQuality(ISTHING)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        ids, segments = random_map(rng, *rng.integers(1, 48, 2), crowds=False)
        of_stuff = {s["category_id"]: s["id"] for s in segments if not ISTHING[s["category_id"]]}  # one a category
        segments = [s for s in segments if ISTHING[s["category_id"]] or of_stuff[s["category_id"]] == s["id"]]
        things = [s for s in segments if ISTHING[s["category_id"]]]
        labels = np.zeros(ids.shape, np.int64)
        for segment in segments:
            labels[(ids == segment["id"]) & (not ISTHING[segment["category_id"]])] = segment["category_id"]
        crops = [crop_array(ids == s["id"]) for s in things]
        fused = fuse(crops, [1.0] * len(things), [s["category_id"] for s in things], labels, ALL)
        assert [s.id for s in fused.segments] == list(range(1, len(segments) + 1))
        for segment in fused.segments:
            mask = fused.ids == segment.id
            assert segment.area == mask.sum()
            wanted = things[segment.row]["id"] if segment.isthing else of_stuff[segment.category]
            assert (mask == (ids == wanted)).all()
        predicted = [{"id": s.id, "category_id": s.category} for s in fused.segments]
        quality.update(np.where(np.isin(ids, [s["id"] for s in segments]), ids, 0), segments, fused.ids, predicted)
    assert quality.compute().means["PQ"] == pytest.approx(1)


def in_order(order, crops, scores, classes, labels, settings):
    fused = fuse([crops[n] for n in order], [scores[n] for n in order], [classes[n] for n in order], labels, settings)
    return fused.ids.tolist(), [s._replace(row=None if s.row is None else order[s.row]) for s in fused.segments]


def test_the_order_of_storage_says_nothing():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        masks = rng.random((8, 6, 7)) < rng.choice([0.2, 0.5, 0.8])
        crops = [MaskCrop(mask, 0, 0) if n % 2 else crop_array(mask) for n, mask in enumerate(masks)]
        scores, classes = rng.choice([0.5, 0.9], 8).tolist(), rng.integers(0, 2, 8).tolist()
        labels, settings = rng.integers(0, 3, (6, 7)), FusionSettings(0.1, 0.7, 1)
        wanted = in_order(list(range(8)), crops, scores, classes, labels, settings)
        assert in_order(rng.permutation(8).tolist(), crops, scores, classes, labels, settings) == wanted


def test_equal_scores_go_by_area_place_and_class():
    labels, row = np.zeros((2, 4), np.uint8), np.ones((1, 2), bool)
    crops = [MaskCrop(row, 1, 0), MaskCrop(row, 0, 2), MaskCrop(row, 0, 0), MaskCrop(np.ones((1, 3), bool), 1, 1)]
    assert [s.row for s in fuse(crops, [0.9] * 4, [0] * 4, labels, ALL).segments] == [3, 2, 1, 0]
    same = [MaskCrop(row, 0, 0), MaskCrop(row, 0, 0)]
    assert [s.category for s in fuse(same, [0.9] * 2, [5, 4], labels, ALL).segments] == [4]


def test_an_overlap_that_is_just_allowed():
    labels = np.zeros((1, 10), np.uint8)
    crops = [MaskCrop(np.ones((1, 5), bool), 0, left) for left in (0, 3)]  # two fifths of the second are taken
    fused = fuse(crops, [0.9, 0.8], [1, 2], labels, FusionSettings(max_overlap=0.4))
    assert [s.area for s in fused.segments] == [5, 3]
    assert len(fuse(crops, [0.9, 0.8], [1, 2], labels, FusionSettings(max_overlap=0.39)).segments) == 1
    assert len(fuse(crops, [0.9, 0.44], [1, 2], labels, FusionSettings()).segments) == 1


def test_stuff_needs_its_area_and_the_other_label_stays_empty():
    labels = np.array([[3, 3, 3, 5, 5, 9]], np.int16)
    fused = fuse([], [], [], labels, FusionSettings(min_stuff_area_px=2), other_label=3)
    assert fused.ids.tolist() == [[0, 0, 0, 1, 1, 0]]
    assert fused.segments == (FusedSegment(1, False, 5, 2),)
    taken = MaskCrop(np.ones((1, 1), bool), 0, 3)
    assert len(fuse([taken], [1.0], [0], labels, FusionSettings(min_stuff_area_px=2), other_label=3).segments) == 1
    hidden = MaskCrop(np.ones((1, 2), bool), 0, 3)
    assert [s.category for s in fuse([hidden], [1.0], [0], labels, ALL).segments] == [0, 3, 9]  # 5 has no pixel left


def test_nothing_at_all():
    fused = fuse([EMPTY], [1.0], [0], np.zeros((3, 4), np.uint8), ALL)
    assert not fused.ids.any() and fused.ids.dtype == np.int32 and fused.segments == ()
    assert fuse([], [], [], np.zeros((0, 4), np.uint8), ALL).segments == ()


def test_errors():
    labels, crop = np.zeros((3, 4), np.uint8), MaskCrop(np.ones((2, 2), bool), 0, 0)
    for settings in ({"min_score": -0.1}, {"max_overlap": 1.1}, {"min_stuff_area_px": -1}, {"min_score": np.nan}):
        with pytest.raises(UserError, match=f"{next(iter(settings))} is .*, expected 0 "):
            FusionSettings(**settings)
    with pytest.raises(UserError, match="expected as many"):
        fuse([crop], [], [1], labels, ALL)
    with pytest.raises(UserError, match="expected finite numbers"):
        fuse([crop], [np.nan], [1], labels, ALL)
    with pytest.raises(UserError, match="rows 2 to 4"):
        fuse([crop._replace(top=2)], [1.0], [1], labels, ALL)
    with pytest.raises(UserError, match="expected bool"):
        fuse([crop._replace(pixels=np.ones((2, 2), np.uint8))], [1.0], [1], labels, ALL)
    with pytest.raises(UserError, match="integer labels"):
        fuse([crop], [1.0], [1], labels.astype(float), ALL)
    with pytest.raises(UserError, match="expected 0 to 65535"):
        fuse([crop], [1.0], [1], labels.astype(int) - 1, ALL)
