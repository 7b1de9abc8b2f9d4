"""What is in a data set: counts and sizes by class, and what is doubtful, image by image."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from pnm.annotations.annotation_set import NO_CLASS, AnnotatedImage, AnnotationSet, Segments, object_masks
from pnm.annotations.doubts import Doubt, doubts_of
from pnm.errors import UserError, listed
from pnm.usable_cores import usable_cores

_MANY = 20  # classes of a table
SMALL, MEDIUM = 32**2, 96**2  # pixels, as COCO counts


@dataclass
class Survey:
    """Counts over images.

    Attributes:
        sizes: images by (height, width).
        objects: of each class, by "small", "medium", "large" and "crowds".
        images: of each class, those that have it.
        pixels: of each class; of none in ``unlabelled``.
        without: images without any object or class.
        doubts: of all images.
    """

    sizes: Counter = field(default_factory=Counter)
    objects: dict[int, Counter] = field(default_factory=dict)
    images: Counter = field(default_factory=Counter)
    pixels: Counter = field(default_factory=Counter)
    unlabelled: int = 0
    without: int = 0
    doubts: list[Doubt] = field(default_factory=list)


def survey(annotations: AnnotationSet, workers: int | None = None) -> Survey:
    """Reads all images' annotations.

    Raises:
        UserError: one or more can't be read; the message has a line for each.
    """
    whole, errors = Survey(), []

    def look(image: AnnotatedImage) -> tuple[list[tuple[int, int, bool]], int, list[Doubt]] | UserError:
        try:
            return (*_areas(annotations, image), doubts_of(annotations, image))
        except UserError as error:
            return error

    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        results = tqdm(
            pool.map(look, annotations.images), total=len(annotations.images), unit="image", desc="annotations"
        )
        for image, result in zip(annotations.images, results):
            if isinstance(result, UserError):
                errors.append(str(result))
                continue
            rows, unlabelled, doubts = result
            whole.sizes[image.size] += 1
            whole.unlabelled += unlabelled
            whole.without += not rows
            whole.doubts += doubts
            whole.images.update({category for category, _, _ in rows})
            for category, area, iscrowd in rows:
                whole.pixels[category] += area
                whole.objects.setdefault(category, Counter())["crowds" if iscrowd else _size(area)] += 1
    if errors:
        raise UserError("\n".join(errors))
    return whole


def _areas(annotations: AnnotationSet, image: AnnotatedImage) -> tuple[list[tuple[int, int, bool]], int]:
    """(class, pixels, is it a crowd) of each object, segment or class of a map; pixels of none."""
    content = annotations.read(image)
    if isinstance(content, Segments):
        ids, count = np.unique(content.ids, return_counts=True)
        area_of = dict(zip(ids.tolist(), count.tolist()))
        rows = [(thing.category, area_of.get(thing.id, 0), thing.iscrowd) for thing in content.segments]
        return rows, content.ids.size - sum(area for _, area, _ in rows)
    if isinstance(content, np.ndarray):
        classes, count = np.unique(content, return_counts=True)
        areas = dict(zip(classes.tolist(), count.tolist()))
        unlabelled = areas.pop(NO_CLASS, 0)
        return [(category, area, False) for category, area in areas.items()], unlabelled
    masks = object_masks(image, content)
    rows = [(t.category, int(np.count_nonzero(mask.pixels)), t.iscrowd) for t, mask in zip(content, masks)]
    return rows, 0


def _size(area: int) -> str:
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


def tables(annotations: AnnotationSet, counts: Survey) -> str:
    """The counts, for people: classes, sizes of images, what is missing."""
    names = [category.name for category in annotations.categories]
    lines = [_class_table(annotations, names, counts)]
    common = ", ".join(f"{height} x {width} ({number})" for (height, width), number in counts.sizes.most_common(3))
    more = f" and {len(counts.sizes) - 3} other sizes" if len(counts.sizes) > 3 else ""
    lines.append(f"{len(annotations.images)} images (height x width): {common}{more}")
    if counts.without:
        lines.append(f"{counts.without} images have no {'object' if annotations.task == 'instance' else 'class'}")
    absent = [name for k, name in enumerate(names) if not counts.images[k]]
    if absent:
        lines.append(f"classes that never occur: {listed(absent, 20)}")
    return "\n".join([*lines, *annotations.remarks])


def _class_table(annotations: AnnotationSet, names: Sequence[str], counts: Survey) -> str:
    total = max(sum(counts.pixels.values()) + counts.unlabelled, 1)
    columns = ("small", "medium", "large", "crowds") if annotations.task != "semantic" else ()
    rows = []
    is_long = len(names) > _MANY  # then classes that never occur are named below alone
    for k, name in enumerate(names):
        if is_long and not counts.images[k]:
            continue
        numbers = [counts.objects.get(k, Counter())[column] for column in columns]
        every = [sum(numbers)] if columns else []
        share = [] if annotations.task == "instance" else [f"{100 * counts.pixels[k] / total:.2f}"]
        rows.append([name, counts.images[k], *every, *numbers, *share])
    if annotations.task != "instance":
        rows.append(["no class", *[""] * (len(columns) + bool(columns) + 1), f"{100 * counts.unlabelled / total:.2f}"])
    objects = ["objects" if annotations.task == "instance" else "segments"] if columns else []
    share = [] if annotations.task == "instance" else ["% of pixels"]
    return tabulate(
        rows,
        headers=("class", "images", *objects, *columns, *share),
        disable_numparse=True,
        colalign=("left", *["right"] * (1 + len(objects) + len(columns) + len(share))),
    )
