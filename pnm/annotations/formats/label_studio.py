"""Label Studio's JSON export: tasks with an image, annotations and predictions. https://labelstud.io/guide/export

Coordinates are percents of the image's width and height. Brushes are read where they cover half of a pixel; rectangles
and ellipses as what they enclose. Of several annotations of a task the last one counts that was not cancelled, and its
predictions where there is none. A task without either is not annotated. What has no place: several polygons of one
object, which are written as a brush, attributes, and that an object stands for a crowd.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category
from pnm.annotations.formats.entry_checks import size_in
from pnm.annotations.formats.label_studio_images import image_name, stated_size
from pnm.annotations.formats.label_studio_regions import (
    NOTES,
    kind_of,
    labels_of,
    new_region,
    object_of,
    redrawn_region,
)
from pnm.annotations.formats.safe_xml import read_xml, xml_text
from pnm.annotations.image_folder import ImageFolder
from pnm.errors import UserError, listed
from pnm.formats.atomic_files import write_text
from pnm.formats.coco_instances import read_json

NAME = "label-studio"
CONFIG = "labeling_config.xml"
_EXPECTED = 'a JSON export of Label Studio, [{"data": {"image": ...}, "annotations": [{"result": [...]}]}, ...]'
_LISTS = ("annotations", "completions", "predictions")  # the second is what the first was called before 1.0
_HEAD = 2**16  # bytes that are looked at to recognise a file


class _Task(NamedTuple):
    """A task that is annotated: its number in the file, its content, and which of its results are read."""

    number: int
    content: dict[str, Any]
    key: str
    place: int

    @property
    def entry(self) -> dict[str, Any]:
        return self.content[self.key][self.place]

    @property
    def score(self) -> float | None:
        """Of the whole prediction."""
        score = self.entry.get("score") if self.key == "predictions" else None
        return score if type(score) in (int, float) else None

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.entry["result"]


def recognises(path: Path) -> bool:
    """Whether a file is a JSON with a list of tasks, be it the small export, too."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if not head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
            return False
        content = read_json(path, _EXPECTED)
    except (UserError, OSError):
        return False
    first = content[0] if content else None
    return isinstance(first, dict) and (_is_task(first) or _is_small(first))


def _is_task(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("data"), dict) and any(key in entry for key in _LISTS)


def _is_small(entry: Mapping[str, Any]) -> bool:
    return "annotation_id" in entry and "lead_time" in entry and "data" not in entry


def read(source: Source) -> AnnotationSet:
    """Objects of an export.

    Raises:
        FileNotFoundError, UserError: it is damaged, another kind of export, or two tasks are of one image.
    """
    path = source.path
    content = read_json(path, _EXPECTED)
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} has no list of tasks: expected {_EXPECTED}")
    folder = ImageFolder(source.images) if source.images is not None else None
    every = [_task(entry, n, path) for n, entry in enumerate(content)]
    tasks = [task for task in every if task is not None]
    images: dict[str, AnnotatedImage] = {}
    for task in tasks:
        image = _image(task, folder, path)
        if image.name in images:
            raise UserError(
                f"{path}: tasks[{images[image.name].raw.number}] and tasks[{task.number}] are both of image "
                f"{image.name}: remove one, or name the folder of images (--images)"
            )
        images[image.name] = image
    named = _configured(path.parent / CONFIG)
    used = sorted({labels_of(row)[0] for task in tasks for row in task.rows if kind_of(row)})
    labels = list(dict.fromkeys([*named, *used]))
    places = {label: place for place, label in enumerate(labels)}

    def read_objects(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
        rows, where, score = image.raw.rows, f"{path}: tasks[{image.raw.number}]", image.raw.score
        every = (
            object_of(n, rows, places[labels_of(row)[0]], image, where, score)
            for n, row in enumerate(rows)
            if kind_of(row)
        )
        return tuple(every)

    left_out = [(n, entry) for n, (entry, task) in enumerate(zip(content, every)) if task is None]
    categories = tuple(Category(label) for label in places)
    return AnnotationSet(
        NAME, "instance", categories, tuple(images.values()), read_objects, source.images, left_out,
        _remarks(tasks, len(left_out), path),
    )  # fmt: skip


def _task(entry: Any, number: int, path: Path) -> _Task | None:
    """A task with what is to be read of it; None if nobody annotated it."""
    where = f"{path}: tasks[{number}]"
    if isinstance(entry, dict) and _is_small(entry):
        raise UserError(
            f"{path} is the export JSON-MIN, which leaves sizes out: export it again from Label Studio as JSON"
        )
    if not isinstance(entry, dict) or not isinstance(entry.get("data"), dict):
        raise UserError(f"{where} is {str(entry)[:60]}, expected {_EXPECTED}")
    for key in _LISTS:
        entries = entry.get(key) or []
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise UserError(
                f"{where}: {key} is {str(entries)[:60]}, expected a list as in {_EXPECTED}; export it whole"
            )
        valid = [n for n, one in enumerate(entries) if not (one.get("was_cancelled") or one.get("skipped"))]
        if entries and not valid and key != "predictions":
            return None
        if valid:
            times = [str(entries[n].get("updated_at") or entries[n].get("created_at") or "") for n in valid]
            place = max(range(len(valid)), key=lambda k: (times[k], k))
            rows = entries[valid[place]].get("result")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise UserError(f"{where}: {key}[{valid[place]}] has no list of results: expected {_EXPECTED}")
            return _Task(number, entry, key, valid[place])
    return None


def _image(task: _Task, folder: ImageFolder | None, path: Path) -> AnnotatedImage:
    where = f"{path}: tasks[{task.number}]"
    name = image_name(task.content, folder, where)
    sized = next((row for row in task.rows if "original_width" in row), None)
    number, stated = task.content.get("id"), stated_size(task.content)
    if sized is not None:
        size = size_in(
            sized.get("original_height"), sized["original_width"], f"{where}: original_height, original_width"
        )
    elif stated is not None:
        size = stated
    elif folder is not None:
        size = folder.size(name)
    else:
        raise UserError(f"{where} doesn't say the size of {name}: name the folder of images (--images)")
    return AnnotatedImage(name, *size, number if type(number) is int else None, raw=task)


def _remarks(tasks: Sequence[_Task], unread: int, path: Path) -> tuple[str, ...]:
    several = sum(len(task.content[task.key]) > 1 for task in tasks)
    predicted = sum(task.key == "predictions" for task in tasks)
    rows = [row for task in tasks for row in task.rows]
    others = [str(row.get("type")) for row in rows if not kind_of(row) and str(row.get("type")) not in NOTES]
    many = sum(len(labels_of(row)) > 1 for row in rows if kind_of(row))
    full = sum(kind_of(row) in ("rectangle", "ellipse") for row in rows)
    lines = (
        (unread, "tasks left out that nobody annotated"),
        (several, "tasks have several annotations; the last that was not cancelled is read"),
        (predicted, "tasks have predictions alone, which are read"),
        (len(others), f"results left out that are no masks with a label: {listed(sorted(set(others)))}"),
        (many, "regions have several labels; the first is read"),
        (full, "rectangles and ellipses read as what they enclose"),
    )
    return tuple(f"{path}: {number} {text}" for number, text in lines if number)


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``tasks_<split>.json`` of each split, or ``tasks.json``, and ``labeling_config.xml`` for a new project.

    New tasks name images as local files, ``/data/local-files/?d=<image>``. Objects without any pixel have no place.
    """
    labels: dict[str, None] = {}
    for split, annotations in parts.items():
        own = annotations.format == NAME
        labels |= dict.fromkeys(category.name for category in annotations.categories)
        brush = _brush_control(annotations) if own else ""
        tasks = [(n, entry) for n, entry in annotations.raw or () if not split] if own else []
        for n, image in enumerate(annotations.images):
            if own:
                tasks.append((image.raw.number, _old_task(annotations, image, brush)))
            else:
                tasks.append((n, _new_task(annotations, image)))
        ordered = [task for _, task in sorted(tasks, key=lambda pair: pair[0])]
        write_text(output / (f"tasks_{split}.json" if split else "tasks.json"), json.dumps(ordered))
    write_text(output / CONFIG, _config(list(labels)))


def _brush_control(annotations: AnnotationSet) -> str:
    rows = (row for image in annotations.images for row in image.raw.rows)
    return next((str(row.get("from_name")) for row in rows if row.get("type") == "brushlabels"), "brush")


def _old_task(annotations: AnnotationSet, image: AnnotatedImage, brush: str) -> dict[str, Any]:
    """The task with the regions of objects that are redrawn or new; those of objects that are gone are left out."""
    task: _Task = image.raw
    at: dict[int, Any] = {n: row for n, row in enumerate(task.rows) if not kind_of(row)}
    for n, thing in enumerate(annotations.read(image)):
        label = annotations.categories[thing.category].name
        old = task.rows[thing.raw] if thing.raw is not None else None
        if old is None:
            at[len(task.rows) + n] = new_region(thing, str(thing.id or f"object{n}"), label, image)
        elif thing.redrawn or labels_of(old)[0] != label:
            at[thing.raw] = redrawn_region(thing, old, label, image, brush)
        else:
            at[thing.raw] = old
    rows = [row for _, row in sorted(at.items()) if row is not None]
    entries = list(task.content[task.key])
    entries[task.place] = task.entry | {"result": rows}
    return task.content | {task.key: entries}


def _new_task(annotations: AnnotationSet, image: AnnotatedImage) -> dict[str, Any]:
    objects = annotations.read(image)
    ids = [str(thing.id) for thing in objects]
    names = ids if len(set(ids)) == len(ids) and "None" not in ids else [f"object{n}" for n in range(len(ids))]
    regions = [
        new_region(thing, name, annotations.categories[thing.category].name, image)
        for thing, name in zip(objects, names)
    ]
    address = f"/data/local-files/?d={quote(image.name)}"
    data = {"image": address, "height": image.height, "width": image.width}
    return {"data": data, "annotations": [{"result": [region for region in regions if region is not None]}]}


def _configured(path: Path) -> list[str]:
    """Labels of the labeling interface that lies beside the tasks, in its order; none if there is none."""
    try:
        return [str(label.get("value")) for label in read_xml(path, "a labeling interface").iter("Label")]
    except (UserError, OSError):
        return []


def _config(labels: Sequence[str]) -> str:
    """The labeling interface that the tasks need, for the settings of a new project."""
    view = Element("View")
    SubElement(view, "Image", name="image", value="$image", zoom="true")
    for tag, name in (("BrushLabels", "brush"), ("PolygonLabels", "polygon")):
        control = SubElement(view, tag, name=name, toName="image")
        for label in labels:
            SubElement(control, "Label", value=label)
    return xml_text(view).split("\n", 1)[1]


FORMAT = AnnotationFormat(
    NAME,
    "Label Studio (a JSON export)",
    ("instance",),
    ("instance",),
    recognises,
    read,
    write,
    is_folder=False,
    names_files=False,
    no_place_for=("crowds", "empty objects"),
)
