"""The classes that a config's data sets name, without the data: what their metadata say, or small files beside them.

A model that is only to predict needs no image and no label of the data that it learned from, but the names of its
classes, and where the config leaves their number open, that.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import Category
from pnm.annotations.formats.coco import numbers_of
from pnm.annotations.staging import named_annotations
from pnm.errors import UserError
from pnm.formats.coco_instances import read_coco_categories

from .converted_data import listed_classes
from .register_data import PanopticFiles, Semantic, register_coco, register_panoptic, register_semantic
from .user_data import check_entry

logger = logging.getLogger(__name__)
_NOWHERE = Path("data that were not looked for")


def register_names(cfg: CfgNode) -> list[str]:
    """Registers each entry of ``DATASETS.REGISTER`` by its classes alone; what it would load isn't looked for.

    Returns:
        Why the classes of some entries aren't known, a line for each.

    Raises:
        UserError: an entry that is malformed.
    """
    remarks = []
    for entry in cfg.DATASETS.REGISTER:
        check_entry(entry)
        try:
            _register(entry, *_classes_of(entry))
        except (UserError, OSError) as error:
            remarks.append(f"the classes of data set {entry['name']} aren't known ({error})")
    return remarks


def _classes_of(entry: Mapping[str, Any]) -> tuple[str, Sequence[Category]]:
    """Task and categories of an entry."""
    if entry["type"] == "semantic":
        return "semantic", [Category(name) for name in listed_classes(entry["classes"], entry["name"])]
    if entry["type"] in ("coco", "panoptic"):
        rows = sorted(read_coco_categories(Path(entry["annotations"])), key=lambda row: row["id"])
        task = "instance" if entry["type"] == "coco" else "panoptic"
        return task, [Category(row["name"], row["id"], bool(row.get("isthing", 1))) for row in rows]
    classes = listed_classes(entry["classes"], entry["name"]) if "classes" in entry else None
    images = Path(entry["images"]) if "images" in entry else None
    source = Source(Path(entry["annotations"]), images, classes, entry.get("split"), entry.get("task"))
    class_map = Path(entry["map"]) if "map" in entry else None
    annotations = named_annotations(source, entry["type"], class_map, entry.get("unlabelled"))
    return annotations.task, annotations.categories


def _register(entry: Mapping[str, Any], task: str, categories: Sequence[Category]) -> None:
    if task == "semantic":
        semantic = Semantic(_NOWHERE, [c.name for c in categories], entry.get("ignore_label", 255))
        register_semantic(entry["name"], _NOWHERE, semantic)
        return
    by_id = sorted(zip(numbers_of([c.id for c in categories]), categories))
    things, stuff = ({k: c.name for k, c in by_id if c.isthing == isthing} for isthing in (True, False))
    if task == "instance":
        register_coco(entry["name"], _NOWHERE, _NOWHERE, {k: c.name for k, c in by_id})
    else:
        register_panoptic(entry["name"], _NOWHERE, PanopticFiles(_NOWHERE, _NOWHERE), things, stuff)


class ModelClasses:
    """The categories of what a model predicts, as result files have them.

    Attributes:
        categories: in the model's order, with their ids.
        source: the data set that named them; "" where there is none, and they are numbers.
    """

    def __init__(self, cfg: CfgNode, task: str):
        known = set(DatasetCatalog.list())
        wanted = [name for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN) if name in known]
        self._tables: Mapping[bool, dict[int, int]] = {True: {}, False: {}}  # ids of things, and of stuff
        self.categories: tuple[Category, ...] = ()
        self.source = next((name for name in wanted if self._take(MetadataCatalog.get(name), task)), "")
        if not self.source:
            self._number(cfg, task)

    def _take(self, metadata: Any, task: str) -> bool:
        """Whether a data set names the classes of a task."""
        if task == "semantic":
            names = metadata.get("stuff_classes", None)
            self.categories = tuple(Category(name, k, False) for k, name in enumerate(names or ()))
            return bool(names)
        things, names = metadata.get("thing_dataset_id_to_contiguous_id", None), metadata.get("thing_classes", None)
        stuff, others = metadata.get("stuff_dataset_id_to_contiguous_id", None), metadata.get("stuff_classes", None)
        if not things or not names or (task == "panoptic" and not (stuff and others)):
            return False
        rows = [Category(names[k], number) for number, k in things.items()]
        self._tables = {True: {k: number for number, k in things.items()}, False: {}}
        if task == "panoptic":
            is_class = {number: k for number, k in stuff.items() if not (k == 0 and others[0] == "things")}
            rows += [Category(others[k], number, False) for number, k in is_class.items() if number not in things]
            self._tables = {**self._tables, False: {k: number for number, k in is_class.items()}}
        self.categories = tuple(rows)
        return True

    def _number(self, cfg: CfgNode, task: str) -> None:
        """Things and stuff are called by their numbers in the model."""
        things, stuff = cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        rows = [] if task == "semantic" else [Category(str(k), k) for k in range(things)]
        if task != "instance":
            first = len(rows)
            rows += [Category(str(first + k), first + k, False) for k in range(stuff)]
            self._tables = {True: {k: k for k in range(things)}, False: {k: first + k for k in range(stuff)}}
        else:
            self._tables = {True: {k: k for k in range(things)}, False: {}}
        self.categories = tuple(rows)

    def id_of(self, category: int, isthing: bool = True) -> int:
        """Id in result files of a class as the model numbers it.

        Raises:
            UserError: there is none: the model was made for other data.
        """
        table = self._tables[isthing]
        if category not in table:
            kind = "thing" if isthing else "stuff"
            raise UserError(
                f"the model predicts {kind} class {category}, but {self.source or 'the config'} has {len(table)} "
                f"{kind} classes: give the config that the model was trained with"
            )
        return table[category]
