"""The classes of panoptic data, numbered for a network: things first, then stuff."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pnm.errors import UserError

MOST_CLASSES = 254  # label maps have 8 bits, and one label is ignored


def category_of(segment: Mapping[str, Any]) -> int:
    """One number for a panoptic category, whose contiguous id counts things and stuff apart: ~id for stuff."""
    return segment["category_id"] if segment.get("isthing", True) else ~segment["category_id"]


@dataclass(frozen=True)
class PanopticClasses:
    """Classes in the network's order, each by its category id in result files and its category in dataset dicts.

    Attributes:
        things, stuff: (category id, category) of each; the category is what :func:`category_of` gives: the contiguous
            id of a thing, ~id of stuff.
    """

    things: tuple[tuple[int, int], ...]
    stuff: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.things) + len(self.stuff)

    @property
    def categories(self) -> list[int]:
        """Category of each class."""
        return [category for _, category in (*self.things, *self.stuff)]

    @property
    def by_category_id(self) -> dict[int, int]:
        """Category of each category id."""
        return dict((*self.things, *self.stuff))

    def indices(self, categories: Iterable[int], name: str) -> tuple[int, ...]:
        """Index of each category.

        Args:
            name: of the image, for messages.

        Raises:
            UserError: a category that isn't there.
        """
        index_of = {category: k for k, category in enumerate(self.categories)}
        wanted = list(categories)
        strange = sorted(set(wanted) - set(index_of))
        if strange:
            raise UserError(
                f"{name} has segments of categories {strange[:5]}, which the model doesn't know: "
                "correct them, or the data set's list of classes"
            )
        return tuple(index_of[category] for category in wanted)

    def indices_of_segments(self, segments: Iterable[Mapping[str, Any]], name: str) -> tuple[int, ...]:
        """Index of each segment's class.

        Args:
            segments: "segments_info" of a dataset dict. Without "isthing", as Detectron2 loads Cityscapes, things and
                stuff are numbered in one go, and the number says what it is.
            name: see :meth:`indices`.

        Raises:
            UserError: see :meth:`indices`.
        """
        things = {category for _, category in self.things}
        rows = [s if "isthing" in s else {**s, "isthing": s["category_id"] in things} for s in segments]
        return self.indices(map(category_of, rows), name)

    @property
    def are_dense(self) -> bool:
        """Whether dataset dicts number things from 0 and stuff from 1 without gaps, as Panoptic FPN's heads do."""
        return self.categories == [*range(len(self.things)), *(~k for k in range(1, len(self.stuff) + 1))]


def classes_of(name: str, metadata: Any) -> PanopticClasses:
    """The classes of a registered data set; Detectron2's stuff class "things" is none.

    Raises:
        UserError: it has no panoptic classes, or too many.
    """
    things = metadata.get("thing_dataset_id_to_contiguous_id", None)
    stuff = metadata.get("stuff_dataset_id_to_contiguous_id", None)
    if things is None or stuff is None:
        raise UserError(f"data set {name} has no panoptic annotations: give a data set that has")
    names: Sequence[str] = metadata.get("stuff_classes", None) or [""]
    stuff = {id_: k for id_, k in stuff.items() if not (k == 0 and names[0] == "things")}
    classes = PanopticClasses(
        tuple(sorted(things.items(), key=lambda item: item[1])),
        tuple((id_, ~k) for id_, k in sorted(stuff.items(), key=lambda item: item[1])),
    )
    if not classes.things or len(classes) > MOST_CLASSES:
        raise UserError(
            f"data set {name} has {len(classes.things)} thing and {len(classes.stuff)} stuff classes, expected at "
            f"least one thing and at most {MOST_CLASSES} in all"
        )
    return classes


def shared_classes(metadata: Mapping[str, Any]) -> PanopticClasses:
    """The classes of data sets that are used together, ``{name: metadata}``.

    Raises:
        UserError: there is no data set, they have other classes, or see :func:`classes_of`.
    """
    if not metadata:
        raise UserError("no data set is named to learn classes from: name one in DATASETS.TRAIN")
    tables = {name: classes_of(name, one) for name, one in metadata.items()}
    (first, classes), *others = tables.items()
    for name, other in others:
        if other != classes:
            raise UserError(f"data sets {first} and {name} have other classes: they cannot be used together")
    return classes
