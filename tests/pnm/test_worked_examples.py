"""The worked examples in the heads of the kernels."""

import doctest
import importlib

import pytest

MODULES = (
    "kernels", "kernel_arguments", "masks.polygon_runs", "masks.mask_codes", "formats.coco_segmentations",
    "metrics.error_counts", "metrics.connected_regions", "metrics.panoptic_errors",
    "masks.runs", "masks.label_runs", "masks.pair_runs", "masks.simd_lanes", "metrics.segment_pairs",
    "null_model.run_planes", "boundary_patches.extraction", "formats.png_samples", "formats.json_list",
    "interior_offsets.distances", "interior_offsets.gradients", "interior_offsets.shifting",
    "panoptic_grouping.panoptic_map", "panoptic_grouping.encoding", "panoptic_grouping.peaks",
    "panoptic_grouping.nearest_centers", "panoptic_grouping.grouping", "panoptic_grouping.merging",
    "panoptic_fusion.pasting", "panoptic_fusion.stuff", "panoptic_fusion.fusion", "panoptic_fusion.duplicates",
    "panoptic_fusion.detectron2_interface", "annotations.outlines", "annotations.formats.brush_rle",
    "object_refinement.cpu_local_regression", "region_pooling.axis_taps",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_worked_example(name, request):
    module = importlib.import_module(f"pnm.{name}")
    result = doctest.testmod(module, extraglobs={"getfixture": request.getfixturevalue})
    assert result.attempted > 0 and result.failed == 0
