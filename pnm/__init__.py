"""Segmentation boundaries, made right: the pixel null model, boundary refinement and boundary metrics.

The public face; each name is imported when it is first used.

Pixel null model (Zhang et al., "PNM", 2022)
    pixel_null_model          the null model of a label map, NumPy (H, W)
    pixel_null_model_torch    of a batch, torch (N, H, W)
    pixel_weights             weights of pixels made of it
    PNMSettings               locality, transform, border; gives a batch its weights
    weighted_cross_entropy    softmax cross-entropy, weighted by pixel
    weighted_bce_with_logits  binary cross-entropy, weighted by pixel

Any mask of any image, without training
    Refiner                   a function of an image and its masks, with weights that come with this package
    RefinedMask               what became of a mask: its pixels, a confidence, how many changed

Boundary patches (Hu et al., "BPR", IJCV 2022)
    find_boundary_patches     boxes that cover a mask's boundary
    reassemble                a mask of its refined patches
    load_refiner              a trained refiner from its config, by file or name, and its weights
    TrainedRefiner            what that gives: a function of an image and its masks

Offsets to the interior (Yuan et al., "SegFix", ECCV 2020)
    label_distances           exact distance of each pixel to the nearest pixel of another label
    offset_targets            where boundaries are and which way the interior lies, of a label map
    StoredOffsets             what a trained SegFix made of images, on disk

Panoptic maps as fields (Sun et al., "PRN", WACV 2023)
    instance_fields           centres, offsets and boxes of instances
    group_pixels              instances of predicted fields, by boxes and foreground
    GroupingSettings          how

Silhouettes (Chang et al., "SE-PSNet", 2022)
    label_silhouettes         lines along the borders of label maps or masks, torch
    soft_silhouettes          of probabilities, with a gradient
    silhouette_scores         their similarity (Eq. 1)
    silhouette_loss           1 - score of predicted logits

Annotations in the formats that people have
    read_annotations          labelme, YOLO, CVAT, Label Studio, VOC, COCO and others, as one type
    AnnotationSource          what a user says of them: path, images, classes, split, task
    object_masks              the pixels of an image's objects
    mask_outlines             polygons that COCO's rule makes the same pixels of

Predictions of any model in files
    open_predictions          COCO, panoptic, label PNGs, Cityscapes: read image by image, written back refined
    ImageFiles                the images that they belong to
    Partition                 a label map with its segments and their categories
    segment_changes           segments inserted, deleted, re-classed, split and merged

Metrics
    SemanticMetrics           mIoU, PNM IoU, Boundary IoU, boundary F
    InstanceMetrics           AP, AP90, Boundary AP, AF by COCO's rules
    CityscapesInstanceAP      AP by Cityscapes' rules
    PanopticQuality           PQ and Boundary PQ
    compare                   two predictions, with bootstrap intervals

Importing this package makes ``detectron2`` importable: the installed one if there is one, otherwise the engine in
``embedded/``. The Detectron2 plug-ins are in ``pnm.projects``, the programs in ``pnm.tools``; nothing else here imports
Detectron2. A user's mistakes are ``UserError``.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "pixel_null_model": "null_model.null_model",
    "pixel_null_model_torch": "null_model.batched",
    "pixel_weights": "null_model.pixel_weights",
    "PNMSettings": "null_model.settings",
    "weighted_cross_entropy": "null_model.weighted_losses",
    "weighted_bce_with_logits": "null_model.weighted_losses",
    "find_boundary_patches": "boundary_patches.extraction:boundary_patches",
    "reassemble": "boundary_patches.reassembly",
    "label_distances": "interior_offsets.distances",
    "offset_targets": "interior_offsets.targets",
    "StoredOffsets": "interior_offsets.stored",
    "instance_fields": "panoptic_grouping.encoding",
    "group_pixels": "panoptic_grouping.grouping",
    "label_silhouettes": "silhouettes.silhouettes",
    "soft_silhouettes": "silhouettes.silhouettes",
    "silhouette_scores": "silhouettes.overlap_losses",
    "silhouette_loss": "silhouettes.overlap_losses",
    "GroupingSettings": "panoptic_grouping.grouping",
    "load_refiner": "projects.launcher.refiner_loading",
    "TrainedRefiner": "projects.refining.trained_refiner",
    "Refiner": "object_refinement.refiner",
    "RefinedMask": "object_refinement.refining",
    "read_annotations": "annotations.known_formats",
    "AnnotationSource": "annotations.annotation_format:Source",
    "object_masks": "annotations.annotation_set",
    "mask_outlines": "annotations.outlines",
    "open_predictions": "predictions.opening",
    "ImageFiles": "formats.image_files",
    "Partition": "predictions.image_predictions",
    "segment_changes": "predictions.segment_changes",
    "SemanticMetrics": "metrics.semantic_metrics",
    "InstanceMetrics": "metrics.instance_ap",
    "CityscapesInstanceAP": "metrics.cityscapes_instance_ap",
    "PanopticQuality": "metrics.panoptic_quality",
    "compare": "scoring.compare",
    "UserError": "errors",
}
__all__ = [*_PUBLIC, "ensure_detectron2"]

_HERE = Path(__file__).resolve().parent
_CLONE = _HERE.parent if (_HERE.parent / "embedded" / "detectron2").is_dir() else None


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pnm' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(f"pnm.{module}"), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _RoomsBeside:
    """Finds ``pnm.projects`` and ``pnm.tools`` in a clone, where they lie beside this package and not in it."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in ("pnm.projects", "pnm.tools") or _CLONE is None:
            return None
        folder = _CLONE / name.removeprefix("pnm.")
        places = [str(folder)]
        return importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=places)


def ensure_detectron2() -> None:
    """Makes ``import detectron2`` work; importing ``pnm`` has done so already."""
    if importlib.util.find_spec("detectron2") is None:
        sys.path.append(str((_CLONE or _HERE) / "embedded"))


if _CLONE is not None:
    sys.meta_path.append(_RoomsBeside)
ensure_detectron2()
