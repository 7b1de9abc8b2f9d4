"""``DATASETS.REGISTER``: the user's own data sets from a config or the command line, without Python.

Each entry is a mapping; paths are relative to the working directory:

- ``{name, type: coco, annotations, images, crowds: left out}``: COCO instances; crowds (``iscrowd: 1``) may be trained
  on as ``objects``
- ``{name, type: semantic, images, labels, classes, ignore_label: 255}``: label PNGs, ``classes`` a list of names
  or a text file with a name on each line; ``segments``, a folder of panoptic PNGs, is for ``MODEL.PNM.LABELS panoptic``
- ``{name, type: panoptic, images, annotations, panoptic}``: COCO panoptic JSON and PNG folder, which are enough to
  train on and for PQ. ``stuff`` and ``instances``, made of them by ``datasets/prepare_panoptic_fpn.py``, add mask AP
  and mIoU; they are ``<panoptic>_stuff`` and ``<annotations without .json>_instances.json`` where both are there
- ``{name, type: labelme | yolo | voc | ..., annotations}``: other formats, see :mod:`.converted_data`; ``images``,
  ``classes``, ``split``, ``task``, ``map`` and ``unlabelled`` are what ``tools/convert.py`` calls so
"""

import difflib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from pnm.annotations.known_formats import FORMATS
from pnm.errors import UserError
from pnm.formats.coco_instances import read_coco_categories

from .converted_data import OPTIONAL, REQUIRED, listed_classes, register_converted
from .register_data import PanopticFiles, Semantic, register_coco, register_panoptic, register_semantic, require

logger = logging.getLogger(__name__)

_KEYS = {
    "coco": ({"name", "type", "annotations", "images"}, {"crowds"}),
    "semantic": ({"name", "type", "images", "labels", "classes"}, {"ignore_label", "segments"}),
    "panoptic": ({"name", "type", "images", "annotations", "panoptic"}, {"stuff", "instances"}),
}
_KEYS = {name: (REQUIRED, OPTIONAL) for name in FORMATS} | _KEYS


def register_user_data(cfg: CfgNode) -> None:
    """Registers every entry of ``DATASETS.REGISTER`` and logs its categories.

    Raises:
        UserError: an entry is malformed, a path is missing or a file cannot be understood.
    """
    if not isinstance(cfg.DATASETS.REGISTER, list | tuple):
        raise UserError(f"DATASETS.REGISTER is {str(cfg.DATASETS.REGISTER)[:80]}, expected a list of mappings")
    for entry in cfg.DATASETS.REGISTER:
        check_entry(entry)
        register = {"coco": _register_coco, "semantic": _register_semantic, "panoptic": _register_panoptic}
        own = register.get(entry["type"])
        summary = own(entry) if own else _listed(register_converted(cfg, entry))
        logger.info("registered data set %s (%s): %s", entry["name"], entry["type"], summary)


def check_entry(entry: Any) -> None:
    """A UserError that says what is wrong with an entry, or which of its keys aren't known."""
    kind, name = (entry.get("type"), entry.get("name")) if isinstance(entry, Mapping) else (None, None)
    if isinstance(kind, str) and kind not in _KEYS:
        near = difflib.get_close_matches(kind, _KEYS, n=1)
        advice = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"DATASETS.REGISTER, {name}: there is no type {kind!r}; {advice}Known are {', '.join(sorted(_KEYS))}"
        )
    if not isinstance(kind, str) or kind not in _KEYS or not isinstance(name, str) or not name:
        raise UserError(
            f"DATASETS.REGISTER: {str(entry)[:200]} is not a mapping with a name and a type ({', '.join(_KEYS)}); "
            "see datasets/README.md"
        )
    required, optional = _KEYS[kind]
    missing, unknown = required - set(entry), set(entry) - required - optional
    if missing or unknown:
        faults = [
            f"{what} {', '.join(sorted(map(str, k)))}" for what, k in (("missing", missing), ("unknown", unknown)) if k
        ]
        raise UserError(
            f"DATASETS.REGISTER, {name}: {'; '.join(faults)}; type {kind} takes "
            f"{', '.join(sorted(required | optional))}"
        )
    for key in entry.keys() - {"classes", "ignore_label", "crowds"}:
        if not isinstance(entry[key], str) or "\0" in entry[key]:
            raise UserError(f"DATASETS.REGISTER, {name}: {key} is {str(entry[key])[:80]!r}, expected text")
    ignored = entry.get("ignore_label", 255)
    if type(ignored) is not int or not 0 <= ignored < 2**16:
        raise UserError(
            f"DATASETS.REGISTER, {name}: ignore_label is {str(ignored)[:80]!r}, expected a label from 0; where "
            "nothing is ignored, leave it out, or give one that no pixel has"
        )
    if entry.get("crowds", "left out") not in ("left out", "objects"):
        raise UserError(
            f"DATASETS.REGISTER, {name}: crowds is {str(entry['crowds'])[:80]!r}, expected left out or objects"
        )


def _read_categories(path: Path, name: str) -> list[dict]:
    """The ``categories`` of a COCO file, by id."""
    try:
        return sorted(read_coco_categories(path), key=lambda category: category["id"])
    except UserError as error:
        raise UserError(f"data set {name}: {error}") from None


def _listed(classes) -> str:
    names = list(classes)
    shown = ", ".join(names[:12]) + (f", ... {names[-1]}" if len(names) > 12 else "")
    return f"{len(names)} classes: {shown}"


def _register_coco(entry: Mapping[str, Any]) -> str:
    annotations, images = Path(entry["annotations"]), Path(entry["images"])
    require({"annotation file": annotations, "image folder": images}, entry["name"])
    classes = {c["id"]: c["name"] for c in _read_categories(annotations, entry["name"])}
    register_coco(entry["name"], annotations, images, classes, crowds_are_objects=entry.get("crowds") == "objects")
    return _listed(classes.values())


def _register_semantic(entry: Mapping[str, Any]) -> str:
    name, images, labels, classes = entry["name"], Path(entry["images"]), Path(entry["labels"]), entry["classes"]
    segments = Path(entry["segments"]) if "segments" in entry else None
    folders = {"image folder": images, "label folder": labels}
    require(folders | ({} if segments is None else {"folder of segment ids": segments}), name)
    names = listed_classes(classes, name)
    register_semantic(name, images, Semantic(labels, names, entry.get("ignore_label", 255), segments))
    return _listed(names)


def _register_panoptic(entry: Mapping[str, Any]) -> str:
    name, annotations, folder = entry["name"], Path(entry["annotations"]), Path(entry["panoptic"])
    require({"image folder": Path(entry["images"]), "annotation file": annotations, "PNG folder": folder}, name)
    stuff = Path(entry.get("stuff", f"{folder}_stuff"))
    instances = Path(entry.get("instances", f"{annotations.with_suffix('')}_instances.json"))
    command = (
        f"python datasets/prepare_panoptic_fpn.py --panoptic-json {annotations} --panoptic-folder {folder} "
        f"--output {stuff} --instances-json {instances}"
    )
    files, remark = PanopticFiles(annotations, folder, stuff, instances), ""
    if "stuff" in entry or "instances" in entry:
        require({"stuff label folder": stuff, "instance annotation file": instances}, name, command)
    elif not (stuff.exists() and instances.exists()):
        files, remark = PanopticFiles(annotations, folder), "; without instance annotations and stuff labels"
    categories = _read_categories(annotations, name)
    for category in categories:
        if "isthing" not in category:
            raise UserError(
                f"data set {name}: category {category['id']} of {annotations} has no isthing: add it, 1 for things "
                "and 0 for stuff"
            )
    things, stuffs = ({c["id"]: c["name"] for c in categories if bool(c.get("isthing")) == t} for t in (True, False))
    register_panoptic(name, Path(entry["images"]), files, things, stuffs, made_by=command)
    return f"{_listed(things.values())}; stuff: {_listed(stuffs.values())}{remark}"
