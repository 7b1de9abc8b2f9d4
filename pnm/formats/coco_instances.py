"""COCO's instance annotations and results, read from files that may have been written by anybody."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pnm.errors import UserError, listed
from pnm.formats.json_list import JsonList
from pnm.masks.runs import MOST_PIXELS, decode_entries

Id = int | str
EXPECTED_RESULTS = 'COCO results, [{"image_id": ..., "category_id": ..., "segmentation": ..., "score": ...}, ...]'
_LARGEST = 1e300  # of any number; neither inf, nan nor an integer that no float can hold


class CocoImage(NamedTuple):
    """Size in pixels; file name as the ground truth has it, "" if it has none."""

    height: int
    width: int
    file_name: str


@dataclass(frozen=True)
class CocoGroundTruth:
    """A checked ground truth.

    Attributes:
        path: of the file.
        images: by id.
        categories: names by id.
        annotations: of each image id, as in the file; an empty list for an image without any.
        unlisted: numbers of the annotations of images that the file doesn't list, which are left out.
        thinned: numbers of those of whose polygons some have fewer than three points. These are left out, the rest not.
    """

    path: str
    images: dict[Id, CocoImage]
    categories: dict[int, str]
    annotations: dict[Id, list[dict[str, Any]]]
    unlisted: list[int] = field(default_factory=list)
    thinned: list[int] = field(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """A line for each kind of thing that was left out."""
        lines = []
        if self.unlisted:
            lines.append(f"{len(self.unlisted)} annotations left out, of images that it doesn't list")
        if self.thinned:
            lines.append(f"polygons of fewer than three points left out of {len(self.thinned)} annotations")
        numbers = (self.unlisted, self.thinned)
        return [f"{self.path}: {line}: annotations[...] {listed(n)}" for line, n in zip(lines, filter(None, numbers))]


@dataclass(frozen=True)
class CocoResults:
    """Checked results, and what doesn't belong to the ground truth.

    Attributes:
        path: of the file.
        by_image: detections of each image of the ground truth in the order of the file; an empty list if none.
        images_without_results: ids of the ground truth for which there is no detection. That may be as it should be.
        unknown_images, unknown_categories: ``{id: number of detections}`` that the ground truth doesn't have.
        wrong_sizes: numbers of the entries, from 0, whose RLE has another size than the image.
            Detections of these three kinds are left out of ``by_image``.
    """

    path: str
    by_image: dict[Id, list[dict[str, Any]]]
    images_without_results: list[Id] = field(default_factory=list)
    unknown_images: dict[Id, int] = field(default_factory=dict)
    unknown_categories: dict[Id, int] = field(default_factory=dict)
    wrong_sizes: list[int] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """One line for each kind of mismatch; none if all detections could be used."""
        lines = []
        for ids, what in ((self.unknown_images, "image"), (self.unknown_categories, "category")):
            if ids:
                number = sum(ids.values())
                lines.append(f"{number} detections left out, of {len(ids)} unknown {what} ids: {listed(ids)}")
        if self.wrong_sizes:
            number, entries = len(self.wrong_sizes), listed(self.wrong_sizes)
            lines.append(f"{number} detections left out, masks of another size than the image: entries {entries}")
        return [f"{self.path}: {line}" for line in lines]

    @property
    def remarks(self) -> list[str]:
        """A line on images without detections, which may be as it should be; none if all have some."""
        without = self.images_without_results
        if not without:
            return []
        return [f"{self.path}: no detections for {len(without)} of {len(self.by_image)} images: {listed(without)}"]


def read_json(path: Path, expected: str) -> Any:
    """The content of a JSON file; errors name it and say that it should be ``expected``."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: expected {expected}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): expected {expected}") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): expected {expected}") from None


def read_coco_ground_truth(path: str | Path, *, masks: bool = True) -> CocoGroundTruth:
    """Reads and checks a COCO instance annotation file.

    Args:
        path: a JSON with "images", "annotations" and "categories". Empty lists are all right.
        masks: whether each annotation needs a sound segmentation; without, one isn't looked at.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it isn't such a JSON; an id comes twice or is referred to in vain; a segmentation is damaged or of
            another size than its image. The message names the file and the entry, counted from 0.
    """
    path = Path(path)
    expected = 'a COCO ground truth, {"images": [...], "annotations": [...], "categories": [...]}'
    content = read_json(path, expected)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise UserError(f"{path} doesn't have the three lists, {_what_it_is(content)}: expected {expected}")
    images = _images(path, content["images"])
    categories = {
        category: str(entry.get("name", category))
        for category, entry in _by_id(path, content["categories"], "categories", int)
    }
    truth = CocoGroundTruth(str(path), images, categories, {})
    annotations = _annotations(path, content["annotations"], truth)
    if masks:
        for image, numbered in annotations.items():
            names = [f"{path}: annotations[{n}]" for n, _ in numbered]
            _check_masks(images[image], [annotation for _, annotation in numbered], names)
    for image, entries in annotations.items():
        truth.annotations[image] = [annotation for _, annotation in entries]
    return truth


def read_coco_categories(path: str | Path) -> list[dict[str, Any]]:
    """The categories of COCO annotations, instances or panoptic, as the file has them.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it isn't a COCO annotation file, has no categories, or two with the same id.
    """
    path, expected = Path(path), 'COCO annotations, with "categories": [{"id", "name"}]'
    content = read_json(path, expected)
    categories = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(categories, list):
        raise UserError(f"{path} is not a COCO annotation file, {_what_it_is(content)}: expected {expected}")
    if not categories:
        raise UserError(f"{path} has no categories: expected {expected}")
    return [{**entry, "name": str(entry.get("name", k))} for k, entry in _by_id(path, categories, "categories", int)]


_OTHER_FORMATS = {"labelme": {"shapes", "imagePath"}, "VIA": {"_via_img_metadata"}, "Datumaro": {"items", "categories"}}


def _what_it_is(content: Any) -> str:
    """What is missing, or which other format a JSON looks like, and the way out."""
    first = content[0] if isinstance(content, list) and content else content
    keys = set(first) if isinstance(first, dict) else set()
    if isinstance(content, list):
        if {"image_id", "score"} <= keys:
            return "it looks like COCO results, which are predictions"
        name = "Label Studio" if {"data", "annotations"} <= keys else ""
    else:
        name = next((name for name, marks in _OTHER_FORMATS.items() if marks <= keys), "")
    if name:
        return f"it looks like {name}'s format; export or convert it to COCO's"
    without = [key for key in ("images", "annotations", "categories") if key not in keys]
    return f"it has no list of {', '.join(without)}" if without and keys else "one of them is no list"


def _images(path: Path, entries: list) -> dict[Id, CocoImage]:
    images: dict[Id, CocoImage] = {}
    for image, entry in _by_id(path, entries, "images", int, str):
        where = f"images[{len(images)}]"
        height, width = [_value(path, where, entry, key, int) for key in ("height", "width")]
        if min(height, width) < 1 or height * width > MOST_PIXELS:
            raise UserError(f"{path}: {where} is {height} x {width}, expected 1 to {MOST_PIXELS} pixels")
        images[image] = CocoImage(height, width, str(entry.get("file_name") or ""))
    if len({type(image) for image in images}) > 1:
        raise UserError(f"{path}: some image ids are numbers and some text: use one kind")
    return images


def _annotations(path: Path, entries: list, truth: CocoGroundTruth) -> dict[Id, list[tuple[int, dict[str, Any]]]]:
    """Annotations with their numbers, by image."""
    annotations: dict[Id, list[tuple[int, dict[str, Any]]]] = {image: [] for image in truth.images}
    seen: dict[Any, int] = {}
    for n, entry in enumerate(entries):
        where = f"annotations[{n}]"
        image = _value(path, where, entry, "image_id", int, str)
        category = entry["category_id"] = _value(path, where, entry, "category_id", int)
        if image not in truth.images:
            _check_kind(path, where, image, truth.images)
            truth.unlisted.append(n)
            continue
        if category not in truth.categories:
            raise UserError(f"{path}: {where} is of category {category}, which the file doesn't list: add or remove it")
        if "id" in entry and seen.setdefault(_value(path, where, entry, "id", int, str), n) != n:
            raise UserError(f"{path}: annotations {seen[entry['id']]} and {n} have the same id {entry['id']}: renumber")
        for key in ("area", "iscrowd"):
            if entry.get(key, 0) is None:
                del entry[key]
            elif key in entry:
                _number(path, where, entry, key)
        if _drop_thin_polygons(entry):
            truth.thinned.append(n)
        annotations[image].append((n, entry))
    return annotations


def _check_kind(path: Path, where: str, image: Id, images: dict[Id, CocoImage]) -> None:
    """An image id of another kind than the images have is no mere leftover."""
    kinds = {type(other) for other in images}
    if kinds and type(image) not in kinds:
        have = "numbers" if kinds == {int} else "text"
        raise UserError(f"{path}: {where} has image_id {image!r}, but the ids of the images are {have}: use one kind")


def _drop_thin_polygons(entry: dict[str, Any]) -> bool:
    """Leaves polygons of fewer than three points out where others remain, as Detectron2 does in training."""
    polygons = entry.get("segmentation")
    if not isinstance(polygons, list):
        return False
    sound = [polygon for polygon in polygons if not (isinstance(polygon, list) and len(polygon) < 6)]
    if not sound or len(sound) == len(polygons):
        return False
    entry["segmentation"] = sound
    return True


def read_coco_results(path: str | Path, gt: CocoGroundTruth, *, masks: bool = True) -> CocoResults:
    """Reads and checks a COCO result file, a list of ``{"image_id", "category_id", "segmentation", "score"}``.

    Args:
        path: the JSON. An empty list is all right: nothing was found.
        gt: the ground truth that the results are for.
        masks: whether each detection needs a sound segmentation; without, it needs a "bbox" of four numbers instead.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it isn't such a list; a score isn't finite; a segmentation is damaged. The message names the file and
            the entry, counted from 0. What only doesn't fit the ground truth is no error but in the result.
    """
    path = Path(path)
    of_image: dict[Id, list[tuple[int, dict[str, Any]]]] = {image: [] for image in gt.images}
    results = CocoResults(str(path), {})

    def visit(n: int, entry: Any) -> None:
        image, category = check_result(path, n, entry)
        if image not in gt.images:
            results.unknown_images[image] = results.unknown_images.get(image, 0) + 1
        elif category not in gt.categories:
            results.unknown_categories[category] = results.unknown_categories.get(category, 0) + 1
        elif masks and _of_other_size(entry, gt.images[image]):
            results.wrong_sizes.append(n)
        else:
            of_image[image].append((n, entry))

    JsonList(path, EXPECTED_RESULTS, visit)
    for image, entries in of_image.items():
        names = [f"{path}: entry {n}" for n, _ in entries]
        results.by_image[image] = [detection for _, detection in entries]
        if masks:
            _check_masks(gt.images[image], results.by_image[image], names)
        else:
            _check_boxes(results.by_image[image], names)
    results.images_without_results.extend(image for image, entries in of_image.items() if not entries)
    return results


def check_result(path: Path, n: int, entry: Any) -> tuple[Id, int]:
    """Image and category of entry ``n`` of COCO results, whose segmentation and box are not looked at.

    Raises:
        UserError: image, category or score isn't what it should be.
    """
    where = f"entry {n}"
    image = _value(path, where, entry, "image_id", int, str)
    category = _value(path, where, entry, "category_id", int)
    _number(path, where, entry, "score")
    return image, category


_KINDS: dict[type, str] = {int: "a whole number", str: "text", float: "a number"}


def _value(path: Path, where: str, entry: Any, key: str, *kinds: type) -> Any:
    """``entry[key]``, checked for its kind; a bool is a number only as "iscrowd", and 1.0 is 1, as pandas writes it."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, float) and float not in kinds and value.is_integer():
        value = int(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and key != "iscrowd"):
        names = " or ".join(_KINDS[kind] for kind in kinds if (kind, kinds) != (int, (int, float)))
        raise UserError(f"{path}: {where} is {str(entry)[:80]}, expected {key!r} in it, {names}")
    return value


def _number(path: Path, where: str, entry: Any, key: str) -> float:
    value = _value(path, where, entry, key, int, float)
    if not -_LARGEST <= value <= _LARGEST:
        raise UserError(f"{path}: {where} has {key} {str(value)[:20]}, expected a finite number")
    return value


def _by_id(path: Path, entries: list, name: str, *kinds: type) -> list[tuple[Any, dict[str, Any]]]:
    """``(id, entry)`` of each, the ids being unlike."""
    seen: dict[Any, int] = {}
    for n, entry in enumerate(entries):
        first = seen.setdefault(_value(path, f"{name}[{n}]", entry, "id", *kinds), n)
        if first != n:
            raise UserError(f"{path}: {name} {first} and {n} have the same id {entry['id']}: renumber one")
    return list(zip(seen, entries))


def _of_other_size(entry: dict[str, Any], image: CocoImage) -> bool:
    segmentation = entry.get("segmentation")
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    return isinstance(size, list) and size != [image.height, image.width]


def _check_masks(image: CocoImage, entries: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    decode_entries(entries, (image.height, image.width), names.__getitem__)


def _check_boxes(entries: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    for name, entry in zip(names, entries):
        box = entry.get("bbox")
        numbers = (
            [v for v in box if type(v) in (int, float) and -_LARGEST <= v <= _LARGEST] if type(box) is list else []
        )
        if len(numbers) != 4 or numbers != box or min(numbers[2:]) < 0:
            raise UserError(f"{name} has bbox {str(box)[:60]}, expected [x, y, width, height] in pixels")
