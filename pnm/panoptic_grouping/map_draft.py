"""A panoptic map that is being changed, event by event, and stays a partition."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from pnm.masks.crops import MaskCrop, crop_segments
from pnm.masks.nearest_label import filled_from_nearest
from pnm.panoptic_grouping.panoptic_map import PanopticMap

VOID = 0
FREED = -1  # from an event's first step to its last: pixels that look for a new label
# Void that no square of this side fits in is a seam between segments, across which freed pixels take a segment's
# label. Wider void is a neighbour like any other; otherwise a distant segment would get islands in it.
SEAM_PX = 11


@dataclass
class Draft:
    """The map; events change ``labels`` and ``classes``.

    Attributes:
        labels: (H, W) int32, 0 = void; other labels are keys of ``classes``.
        classes: class of each label; of labels that have lost their pixels, too.
        things, stuff: number of classes, T and S; a class below T is a thing's.
    """

    labels: np.ndarray
    classes: dict[int, int]
    things: int
    stuff: int

    @classmethod
    def of(cls, truth: PanopticMap, things: int, stuff: int) -> "Draft":
        """A copy of a map."""
        return cls(truth.labels.astype(np.int32), dict(enumerate(truth.classes, 1)), things, stuff)

    def is_thing(self, label: int) -> bool:
        """Whether a segment is an instance."""
        return self.classes[label] < self.things

    def instances(self) -> dict[int, MaskCrop]:
        """Masks of the instances that have pixels, by label."""
        return self._masks([label for label in self.classes if self.is_thing(label)])

    def stuff_masks(self) -> dict[int, MaskCrop]:
        """Masks of the stuff segments that have pixels, by label."""
        return self._masks([label for label in self.classes if not self.is_thing(label)])

    def _masks(self, labels: list[int]) -> dict[int, MaskCrop]:
        return {label: crop for label, crop in zip(labels, crop_segments(self.labels, labels)) if crop.pixels.size}

    def add(self, kind: int) -> int:
        """Label of a new segment of class ``kind``, which has no pixels yet."""
        label = max(self.classes, default=VOID) + 1
        self.classes[label] = kind
        return label

    def window(self, crop: MaskCrop) -> np.ndarray:
        """The labels in a crop's rectangle, to be read and written."""
        h, w = crop.pixels.shape
        return self.labels[crop.top : crop.top + h, crop.left : crop.left + w]

    def paint(self, crop: MaskCrop, label: int) -> None:
        """Gives the pixels of a mask the label."""
        self.window(crop)[crop.pixels] = label

    def is_any_of(self, labels: Collection[int]) -> np.ndarray:
        """(H, W) bool: pixels that have one of the labels."""
        table = np.zeros(max(self.classes, default=VOID) + 2, np.bool_)  # FREED, -1, is its last entry
        table[list(labels)] = True
        return table[self.labels]

    def relabel(self, new_labels: Mapping[int, int]) -> None:
        """Gives the pixels of each key its value's label, all at once; the keys are no segments any more."""
        if not new_labels:
            return
        table = np.arange(max(self.classes, default=VOID) + 1, dtype=np.int32)
        table[list(new_labels)] = list(new_labels.values())
        self.labels = table[self.labels]
        self.classes = {label: kind for label, kind in self.classes.items() if label not in new_labels}

    def join_stuff(self) -> None:
        """Makes stuff segments of one class one, the one of the lowest label."""
        first: dict[int, int] = {}
        for label in sorted(self.classes):
            if not self.is_thing(label):
                first.setdefault(self.classes[label], label)
        owners = {label: first.get(kind, label) for label, kind in self.classes.items()}
        self.relabel({label: owner for label, owner in owners.items() if label != owner})

    def fill_freed(self, shunned: Collection[int] = ()) -> None:
        """Gives FREED pixels the label of the nearest pixel that isn't freed, nor in a seam of void; without one, void.

        Args:
            shunned: labels that aren't given: those that the pixels were taken from.
        """
        freed = self.labels == FREED
        if not freed.any():
            return
        wide_void = cv2.erode((self.labels == VOID).view(np.uint8), np.ones((SEAM_PX, SEAM_PX), np.uint8))
        gives = self.is_any_of(self.classes.keys() - set(shunned)) | wide_void.view(np.bool_)
        self.labels = filled_from_nearest(self.labels, sources=gives, where=freed)
        self.labels[self.labels == FREED] = VOID  # nothing gives

    def renumbered(self) -> PanopticMap:
        """The map with segments 1..N, those without pixels left out, in the order of their labels."""
        areas = np.bincount(self.labels.ravel(), minlength=max(self.classes, default=VOID) + 1)
        present = [label for label in sorted(self.classes) if areas[label]]
        table = np.zeros(len(areas), np.int32)
        table[present] = np.arange(1, len(present) + 1)
        return PanopticMap(table[self.labels], tuple(self.classes[label] for label in present))
