"""Registers data sets from file names alone: COCO instances, COCO panoptic and label PNGs.

The checks that users need (paths, categories) are made when a data set is loaded, or at once for those
named in ``DATASETS.REGISTER``; see :mod:`.user_data`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from pnm.errors import UserError
from pnm.formats.coco_panoptic import read_annotations
from pnm.formats.folders import IMAGE_ENDINGS, files_below, label_pngs_below, stem
from pnm.formats.label_png import png_size_of

from ...dataset_mappers.label_files import SEGMENT_IDS


@dataclass(frozen=True)
class Semantic:
    """Label PNGs: a folder with one file for each image, named alike; pixel values index ``classes``.

    ``segments`` is a folder of such files in which every object has an id of its own, as panoptic PNGs have them.
    ``image_names``, where not all images of the folder are labelled, are those that are.
    """

    labels: Path
    classes: Sequence[str]
    ignore_label: int = 255
    segments: Path | None = None
    image_names: Collection[str] | None = None


@dataclass(frozen=True)
class PanopticFiles:
    """COCO panoptic annotations and, if they are there, twin files made of them, both or neither.

    ``stuff_folder`` holds label PNGs (0 = any thing, 1.. = stuff classes in order of category id, 255 = ignore),
    ``instances_json`` COCO instances; ``datasets/prepare_panoptic_fpn.py`` makes both.
    """

    panoptic_json: Path
    panoptic_folder: Path
    stuff_folder: Path | None = None
    instances_json: Path | None = None


def require(paths: Mapping[str, Path], name: str, made_by: str = "") -> None:
    """Raises UserError for the first of ``{what it is: path}`` that doesn't exist."""
    for what, path in paths.items():
        if not path.exists():
            remedy = f"make it with: {made_by}" if made_by else "check the path, and DETECTRON2_DATASETS"
            raise UserError(f"data set {name}: {what} {path} does not exist; {remedy}")


def _add(name: str, load, **metadata: Any) -> None:
    if name in DatasetCatalog.list():
        raise UserError(f"data set name {name!r} is taken already; choose another")
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)


def register_coco(
    name: str,
    annotation_json: Path,
    images: Path,
    classes: Mapping[int, str],
    made_by: str = "",
    crowds_are_objects: bool = False,
) -> None:
    """Registers COCO instances with ``{category id: name}``; crowds are trained on if asked for, evaluated never."""

    def load():
        require({"annotation file": annotation_json, "image folder": images}, name, made_by)
        records = load_coco_json(str(annotation_json), str(images), name)
        if crowds_are_objects:
            for annotation in (annotation for record in records for annotation in record["annotations"]):
                annotation["iscrowd"] = 0
        return records

    _add(
        name,
        load,
        json_file=str(annotation_json),
        image_root=str(images),
        made_by=made_by,
        crowds_are_objects=crowds_are_objects,
        evaluator_type="coco",
        thing_classes=list(classes.values()),
        thing_dataset_id_to_contiguous_id={category: k for k, category in enumerate(classes)},
    )


def register_semantic(name: str, images: Path, semantic: Semantic, made_by: str = "") -> None:
    """Registers a folder of images and one of label PNGs."""

    def load():
        require({"label folder": semantic.labels, "image folder": images}, name, made_by)
        records = _pair_by_name(name, images, semantic.labels, semantic.image_names)
        if semantic.segments is not None:
            require({"folder of segment ids": semantic.segments}, name, made_by)
            _add_segments(name, records, semantic)
        return records

    _add(
        name,
        load,
        image_root=str(images),
        sem_seg_root=str(semantic.labels),
        segments_root=None if semantic.segments is None else str(semantic.segments),
        evaluator_type="sem_seg",
        stuff_classes=list(semantic.classes),
        ignore_label=semantic.ignore_label,
    )


def _pair_by_name(name: str, images: Path, labels: Path, image_names: Collection[str] | None = None) -> list[dict]:
    """Dataset dicts of images and labels of equal relative path, suffix aside."""
    label_of = {stem(path): labels / path for path in label_pngs_below(labels)}
    image_of: dict[str, Path] = {}
    for path in files_below(images, *IMAGE_ENDINGS) if image_names is None else image_names:
        label = label_of.get(stem(path))
        if image_names is None and label is not None and label.samefile(images / path):
            continue  # images and labels lie in one folder
        other = image_of.setdefault(stem(path), images / path)
        if other != images / path:
            raise UserError(f"data set {name}: {other} and {images / path} are of one name: remove or rename one")
    without = sorted(set(image_of) - set(label_of))
    if without or not image_of:
        fault = f"{len(without)} images have no label PNG, first {without[:3]}" if without else "there is no image"
        raise UserError(f"data set {name}: {fault}; {images} and {labels} must hold files of equal names")
    return [{"file_name": str(image_of[stem]), "sem_seg_file_name": str(label_of[stem])} for stem in image_of]


def _add_segments(name: str, records: list[dict], semantic: Semantic) -> None:
    """Adds the file of segment ids of each label PNG to its dataset dict."""
    assert semantic.segments is not None
    below = {stem(path): semantic.segments / path for path in files_below(semantic.segments, ".png")}
    for record in records:
        label = Path(record["sem_seg_file_name"]).relative_to(semantic.labels)
        if stem(str(label)) not in below:
            raise UserError(
                f"data set {name}: {record['sem_seg_file_name']} has no PNG of segment ids; {semantic.segments} must "
                "hold files of the labels' names"
            )
        record[SEGMENT_IDS] = str(below[stem(str(label))])


def register_panoptic(
    name: str,
    images: Path,
    files: PanopticFiles,
    things: Mapping[int, str],
    stuff: Mapping[int, str],
    made_by: str = "",
) -> None:
    """Registers COCO panoptic data with the ``{category id: name}`` of things and stuff, in Panoptic FPN's numbers."""
    thing_ids = {category: k for k, category in enumerate(things)}
    stuff_ids = {category: k for k, category in enumerate(stuff, 1)}

    def contiguous(segment: dict) -> dict:
        isthing = segment["category_id"] in thing_ids
        category = (thing_ids if isthing else stuff_ids).get(segment["category_id"])
        if category is None:
            raise UserError(
                f"data set {name}: segment {segment['id']} in {files.panoptic_json} has category_id "
                f"{segment['category_id']}, which the file's categories don't list: add it to them, or correct it"
            )
        return {**segment, "category_id": category, "isthing": isthing}

    def load():
        wanted = {
            "image folder": images,
            "panoptic annotation file": files.panoptic_json,
            "panoptic PNG folder": files.panoptic_folder,
        }
        twins = {"stuff label folder": files.stuff_folder, "instance annotation file": files.instances_json}
        require(wanted | {what: path for what, path in twins.items() if path is not None}, name, made_by)
        content, annotations = read_annotations(files.panoptic_json)
        if files.stuff_folder is None or files.instances_json is None:
            records = _panoptic_records(name, images, files, content, annotations)
        else:
            records = load_coco_json(str(files.instances_json), str(images), name)
        for record in records:
            if record["image_id"] not in annotations:
                raise UserError(f"data set {name}: {files.panoptic_json} has no annotation of {record['file_name']}")
            annotation = annotations[record["image_id"]]
            png = annotation["file_name"]
            if files.stuff_folder is not None:
                require({"stuff label file": files.stuff_folder / png}, name, made_by)
                record["sem_seg_file_name"] = str(files.stuff_folder / png)
            record["pan_seg_file_name"] = str(files.panoptic_folder / png)
            record["segments_info"] = [contiguous(segment) for segment in annotation["segments_info"]]
        return records

    _add(
        name,
        load,
        image_root=str(images),
        panoptic_root=str(files.panoptic_folder),
        panoptic_json=str(files.panoptic_json),
        made_by=made_by,
        sem_seg_root=None if files.stuff_folder is None else str(files.stuff_folder),
        json_file=None if files.instances_json is None else str(files.instances_json),
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        label_divisor=1000,
        thing_classes=list(things.values()),
        # Detectron2's Panoptic FPN predicts one class "things" before the stuff classes.
        stuff_classes=["things", *stuff.values()],
        thing_dataset_id_to_contiguous_id=thing_ids,
        stuff_dataset_id_to_contiguous_id={0: 0, **stuff_ids},
    )


def _panoptic_records(
    name: str, images: Path, files: PanopticFiles, content: Mapping[str, Any], annotations: Mapping[Any, dict]
) -> list[dict]:
    """Image file, id and size of each image of a panoptic JSON; images and PNGs are all there."""
    rows = _image_rows(name, files.panoptic_json, content)
    png_of = {image: files.panoptic_folder / annotation["file_name"] for image, annotation in annotations.items()}
    file_of = _image_files(name, images, files.panoptic_folder, rows, annotations)
    for what, paths in (("image", file_of.values()), ("panoptic PNG", png_of.values())):
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise UserError(
                f"data set {name}: {len(missing)} {what}(s) of {files.panoptic_json} are missing, first {missing[0]}: "
                "check the folder, and file_name in the JSON"
            )
    records = []
    for image, file in file_of.items():
        size = {key: rows[image][key] for key in ("height", "width") if key in rows.get(image, {})}
        if len(size) < 2 and image in png_of:
            size = dict(zip(("height", "width"), png_size_of(png_of[image]), strict=True))
        records.append({"file_name": str(file), "image_id": image, **size})
    return records


def _image_files(
    name: str, images: Path, pngs: Path, rows: Mapping[Any, dict], annotations: Mapping[Any, dict]
) -> dict[Any, Path]:
    """File of each image: the one that "images" names, else the one of its PNG's name, whatever its ending.

    Of an image that is nowhere, the path where it should be.
    """
    below: dict[str, str] | None = None
    file_of: dict[Any, Path] = {}
    for image in dict.fromkeys([*rows, *annotations]):
        said = rows.get(image, {}).get("file_name", "")
        file_of[image] = images / (said or f"{image}.jpg")
        if image in annotations and not (said and file_of[image].is_file()):
            if below is None:
                below = _images_by_stem(name, images, {(pngs / a["file_name"]).resolve() for a in annotations.values()})
            png = annotations[image]["file_name"]
            file_of[image] = images / below.get(stem(png), said or f"{stem(png)}.jpg")
    return file_of


def _image_rows(name: str, path: Path, content: Mapping[str, Any]) -> dict[Any, dict]:
    """The "images" of a panoptic JSON by id; none if it has no such list."""
    if not isinstance(content.get("images", []), list):
        raise UserError(f"data set {name}: images of {path} is no list: correct it, or leave it out")
    kinds: dict[str, type | tuple[type, ...]] = {"id": (int, str), "file_name": str, "height": int, "width": int}
    rows: dict[Any, dict] = {}
    for n, row in enumerate(content.get("images", [])):
        fits = isinstance(row, dict) and "id" in row
        if not fits or not all(isinstance(row[key], kind) for key, kind in kinds.items() if key in row):
            raise UserError(
                f"data set {name}: images[{n}] of {path} is {str(row)[:80]}, expected an id, and file_name, height and "
                "width, if they are there, as text and whole numbers"
            )
        if row["id"] in rows:
            raise UserError(f"data set {name}: {path} lists image {row['id']} twice: keep one of them")
        rows[row["id"]] = row
    return rows


def _images_by_stem(name: str, folder: Path, others: Collection[Path]) -> dict[str, str]:
    """Paths of the images below a folder by their names without ending; ``others`` are no images."""
    by_stem: dict[str, str] = {}
    for path in files_below(folder, *IMAGE_ENDINGS):
        if (folder / path).resolve() in others:
            continue
        other = by_stem.setdefault(stem(path), path)
        if other != path:
            raise UserError(
                f"data set {name}: {folder / other} and {folder / path} are of one name: remove or rename one"
            )
    return by_stem
