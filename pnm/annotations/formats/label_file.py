"""A label PNG of a set of semantic annotations, written anew with no more changes than its labels have."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet
from pnm.annotations.formats.label_maps import numbers_of_places, places_of, where_changed
from pnm.annotations.formats.png_encoding import grey_png
from pnm.formats.label_png import read_bytes, read_label_png
from pnm.formats.label_png_rewriting import most_value, with_samples


@dataclass(frozen=True)
class LabelFile:
    """A file, and what its values mean.

    Attributes:
        path: of a PNG, grey with 8 or 16 bits, or with a palette.
        names: of the classes.
        places: in ``names`` of the numbers of classes.
        void: numbers that stand for no class.
        advice: what to do about other numbers.
    """

    path: Path
    names: tuple[str, ...]
    places: Mapping[int, int]
    void: Collection[int]
    advice: str

    def labels(self) -> np.ndarray:
        """(H, W) int32 places; raises what :func:`pnm.annotations.formats.label_maps.places_of` does."""
        return places_of(read_label_png(self.path), self.places, self.void, self.path, self.advice)

    def rewritten(self, labels: np.ndarray, values: np.ndarray) -> bytes:
        """The PNG with other labels; values stay where labels do, as do bit depth and palette if they hold the others.

        Args:
            labels: (H, W) places in ``names``.
            values: (H, W) their numbers.
        """
        before, png = self.labels(), read_bytes(self.path)
        if np.array_equal(labels, before):
            return png
        values = where_changed(values, read_label_png(self.path), labels, before)
        return with_samples(png, values) if values.max() <= most_value(png) else grey_png(values)


def read_label_file(image: AnnotatedImage) -> np.ndarray:
    """(H, W) int32 labels of an image whose ``raw`` is a :class:`LabelFile`."""
    labels: np.ndarray = image.raw.labels()
    return labels


def label_file_png(
    annotations: AnnotationSet, image: AnnotatedImage, numbers: list[int], void: int, name: str
) -> bytes:
    """The PNG of an image's labels, based on the one that they were read from if that was of the format ``name``.

    Args:
        numbers: of the classes.
        void: the number of no class.
    """
    labels = annotations.read(image)
    values = numbers_of_places(labels, numbers, void)
    file, names = image.raw, tuple(category.name for category in annotations.categories)
    if annotations.format == name and isinstance(file, LabelFile) and file.names == names:
        return file.rewritten(labels, values)
    return grey_png(values)
