"""How much of each class lies near a boundary: Table 1 of SegFix's supplement."""

from collections.abc import Sequence

import numpy as np

from pnm.errors import UserError
from pnm.interior_offsets.distances import MOST_REACH, checked_labels, nearest_of_other_label


class BoundaryShares:
    """Shares of the pixels of each class whose nearest pixel of another label is at most w px away.

    Pixels at an edge have distance 1. Void is another label, and counts as no class. ::

        shares = BoundaryShares(19, widths_px=(1, 2, 3))
        for labels in label_maps:
            shares.add(labels)
        shares.by_class()  # (3, 19)

    Raises:
        UserError: no classes or widths, or widths out of range.
    """

    def __init__(self, num_classes: int, widths_px: Sequence[int] = (1, 2, 3, 4, 5), ignore_label: int | None = 255):
        if num_classes < 1:
            raise UserError(f"there are {num_classes} classes, expected at least 1")
        if not widths_px or not all(1 <= width <= MOST_REACH for width in widths_px):
            raise UserError(f"widths are {tuple(widths_px)}, expected some from 1 to {MOST_REACH} px")
        self.num_classes, self.widths_px, self.ignore_label = num_classes, tuple(sorted(widths_px)), ignore_label
        self.near = np.zeros((len(self.widths_px), num_classes), np.int64)
        self.pixels = np.zeros(num_classes, np.int64)

    def counts(self, labels: np.ndarray) -> np.ndarray:
        """(widths + 1, classes) int64: pixels near a boundary, and all pixels, of one label map.

        Raises:
            UserError: no label map, or a label that is neither a class nor ignored.
        """
        labels = checked_labels(labels)
        counted = labels != self.ignore_label if self.ignore_label is not None else np.ones(labels.shape, np.bool_)
        classes = labels[counted].astype(np.int64)
        if classes.size and not 0 <= classes.min() <= classes.max() < self.num_classes:
            strange = classes.max() if classes.max() >= self.num_classes else classes.min()
            raise UserError(
                f"label {strange} is none of {self.num_classes} classes, 0 to {self.num_classes - 1}, and is not the "
                f"ignored one, {self.ignore_label}"
            )
        squared = nearest_of_other_label(labels, self.widths_px[-1]).squared[counted]
        rows = [classes[squared <= width**2] for width in self.widths_px]
        return np.stack([np.bincount(row, minlength=self.num_classes) for row in (*rows, classes)])

    def add(self, labels: np.ndarray) -> None:
        """Counts one label map, see :meth:`counts`."""
        self.add_counts(self.counts(labels))

    def add_counts(self, counts: np.ndarray) -> None:
        """Adds what :meth:`counts` gave, perhaps in another thread."""
        self.near += counts[:-1]
        self.pixels += counts[-1]

    def by_class(self) -> np.ndarray:
        """(widths, classes) float64, 0..1; nan for a class without pixels."""
        with np.errstate(invalid="ignore"):
            return self.near / self.pixels

    def of_all(self) -> np.ndarray:
        """(widths,) float64: the share of all classes' pixels together, the table's mean."""
        with np.errstate(invalid="ignore"):
            return self.near.sum(axis=1) / self.pixels.sum()
