"""Several masks that may be of one instance: the one with the best silhouette score stays (SE-PSNet, section III-D).

Going down the ranking, a mask joins the first group whose head it duplicates, or founds one. An example of one class:
the second mask has all pixels of the first and one more, the third is elsewhere::

    >>> crops = [MaskCrop(np.ones((1, width), np.bool_), 0, left) for width, left in ((4, 0), (5, 0), (3, 9))]
    >>> kept = without_duplicates(crops, [1, 1, 1], [0.9, 0.8, 0.7], [0.5, 0.6, 0.1])
    >>> kept.rows.tolist(), kept.scores.tolist()          # the second stands in the first's place, with its score
    ([1, 2], [0.9, 0.7])
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, crop_iou


class KeptMasks(NamedTuple):
    """What is left of a ranking: ``rows`` (R,) int64, best first, and the ``scores`` (R,) float64 that rank them."""

    rows: np.ndarray
    scores: np.ndarray


class _Heads:
    """Heads of the groups of one class, with what says at once that a mask is no duplicate of one."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.boxes: list[np.ndarray] = []  # top, left, bottom, right
        self.areas: list[int] = []

    def near(self, box: np.ndarray, area: int, min_iou: float) -> list[int]:
        """Groups, first ones first, whose head's box shares so much with a mask's that their IoU can exceed the least.

        Two masks share no more pixels than their boxes do, and their union is no smaller than the larger of them.
        """
        if not self.boxes:
            return []
        boxes, areas = np.stack(self.boxes), np.array(self.areas)
        sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
        shared = sides.clip(0).prod(1)
        return np.flatnonzero((shared > 0) & (shared > min_iou * np.maximum(areas, area))).tolist()

    def add(self, row: int, box: np.ndarray, area: int) -> list[int]:
        self.groups.append([row])
        self.boxes.append(box)
        self.areas.append(area)
        return self.groups[-1]


def without_duplicates(
    crops: Sequence[MaskCrop], classes: Any, mask_scores: Any, silhouette_scores: Any, min_iou: float = 0.5
) -> KeptMasks:
    """One mask of each group of duplicates.

    Masks go by descending ``mask_scores``, equal ones by row. A mask of the same class as a group's head whose IoU with
    the head exceeds ``min_iou`` joins the first such group; other members are not compared. Of a group the mask with
    the best silhouette score is kept (of equal ones the earlier, so the head first), in the head's place of the
    ranking. Between classes nothing is decided, for a silhouette says nothing of the class.

    Args:
        crops: N masks of one image.
        classes, mask_scores, silhouette_scores: (N,).
        min_iou: 0 to 1.

    Returns:
        Rows that are kept, and the Mask Scores of their groups' heads, descending.

    Raises:
        UserError: lengths differ, or ``min_iou`` is out of range.
    """
    count = len(crops)
    classes, ranks, silhouettes = (np.asarray(part) for part in (classes, mask_scores, silhouette_scores))
    if not classes.shape == ranks.shape == silhouettes.shape == (count,):
        shapes = ", ".join(str(part.shape) for part in (classes, ranks, silhouettes))
        raise UserError(f"classes and scores are {shapes} for {count} masks, expected ({count},) each")
    if not 0 <= min_iou <= 1:
        raise UserError(f"min_iou is {min_iou}, expected 0 to 1")
    heads: dict[int, _Heads] = {}
    groups: list[list[int]] = []
    for row in np.argsort(-ranks, kind="stable").tolist():
        crop = crops[row]
        corner = np.array([crop.top, crop.left])
        box, area = np.concatenate((corner, corner + crop.pixels.shape)), int(np.count_nonzero(crop.pixels))
        same_class = heads.setdefault(int(classes[row]), _Heads())
        for n in same_class.near(box, area, min_iou):
            if crop_iou(crop, crops[same_class.groups[n][0]]) > min_iou:
                same_class.groups[n].append(row)
                break
        else:
            groups.append(same_class.add(row, box, area))
    kept = [max(group, key=lambda row: silhouettes[row]) for group in groups]  # the first of equal ones
    return KeptMasks(np.array(kept, np.int64), np.array([ranks[group[0]] for group in groups], np.float64))
