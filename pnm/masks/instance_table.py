"""Annotations or detections of many images as columns: what is looked at one by one costs more than its numbers."""

from typing import NamedTuple

import numpy as np

from pnm.masks.mask_codes import MaskCodes


class InstanceTable(NamedTuple):
    """N annotations or detections, those of an image in the order in which they came.

    Attributes:
        image: (N,) int64, index of the image.
        column: (N,) int64, index of the class.
        score: (N,) float64; 0 of annotations.
        area: (N,) float64, in pixels; nan if it is that of the mask (without masks, of the box).
        crowd: (N,) bool.
        boxes_xywh: (N, 4) float64, x, y, width, height; nan if it is that of the mask.
        codes: the masks, of N; of none where only boxes count.
    """

    image: np.ndarray
    column: np.ndarray
    score: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    boxes_xywh: np.ndarray
    codes: MaskCodes

    def of_images(self, first: int, last: int) -> "InstanceTable":
        """The rows of images first..last - 1, numbered from 0, of a table that is sorted by image."""
        a, b = (int(at) for at in np.searchsorted(self.image, (first, last)))
        codes = self.codes
        if codes.bounds.size > 1:
            codes = codes._replace(bounds=codes.bounds[a : b + 1], polygons=codes.polygons[a : b + 1])
        return InstanceTable(
            self.image[a:b] - first,
            self.column[a:b],
            self.score[a:b],
            self.area[a:b],
            self.crowd[a:b],
            self.boxes_xywh[a:b],
            codes,
        )
