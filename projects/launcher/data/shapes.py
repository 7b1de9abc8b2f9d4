"""Registers the synthetic data set ``shapes`` that ``datasets/make_shapes.py`` writes."""

import os
from pathlib import Path

from .register_data import PanopticFiles, Semantic, register_coco, register_panoptic, register_semantic

THING_CLASSES = {1: "blob", 2: "ring", 3: "pole", 4: "urchin"}
STUFF_CLASSES = {11: "sky", 12: "rock", 13: "field", 14: "water"}
_COMMAND = "python datasets/make_shapes.py"


def register_shapes() -> None:
    """Registers ``shapes_{train,val}``, ``shapes_{train,val}_panoptic`` and ``shapes_{train,val}_sem_seg``.

    They lie under ``$DETECTRON2_DATASETS/shapes`` (default ``datasets/shapes``), which need not exist yet.
    """
    root = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser() / "shapes"
    for split in ("train", "val"):
        images, instances = root / "images" / split, root / f"annotations/instances_{split}.json"
        register_coco(f"shapes_{split}", instances, images, THING_CLASSES, made_by=_COMMAND)
        files = PanopticFiles(
            panoptic_json=root / f"annotations/panoptic_{split}.json",
            panoptic_folder=root / f"panoptic_{split}",
            stuff_folder=root / f"panoptic_stuff_{split}",
            instances_json=instances,
        )
        register_panoptic(f"shapes_{split}_panoptic", images, files, THING_CLASSES, STUFF_CLASSES, made_by=_COMMAND)
        names = (*THING_CLASSES.values(), *STUFF_CLASSES.values())
        semantic = Semantic(root / f"semantic_{split}", names, segments=root / f"panoptic_{split}")
        register_semantic(f"shapes_{split}_sem_seg", images, semantic, made_by=_COMMAND)
