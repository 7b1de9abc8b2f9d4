"""Kinds of coarse masks made of true ones, each the error of one way in which masks are made.

Every function takes a true mask (H, W) bool, with a margin of background where the image goes on, and a generator, and
returns a mask of that shape. The extent of an object is the square root of its area, in pixels. Kept apart from
pnm.masks.degraded_masks, by which refiners are trained: a test must not change with the training.
"""

from collections.abc import Callable

import cv2
import numpy as np

HEAD_SIDE = 28
EDGE_SHARE = 0.03  # of the extent, by which an edge is shifted and a head's box may be off
POLYGON_SHARE, VERTEX_SHARE = 0.02, 0.01
SMALL_AREA = 64 * 64  # objects of fewer pixels come from an output of stride 4, others of stride 8
BLOB_SHARES = (0.04, 0.1)  # radii of holes and leaks


def extent_px(mask: np.ndarray) -> float:
    return float(np.sqrt(np.count_nonzero(mask)))


def perfect(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return mask.copy()


def shifted_edge(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grown or shrunk by 3 % of the extent, at least 1 px; the image's frame shrinks nothing."""
    radius = max(1.0, EDGE_SHARE * extent_px(mask))
    shrunk = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > radius
    if rng.random() < 0.5 and shrunk.any():
        return shrunk
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= radius


def head28(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drawn from 28 x 28 samples of its box, as Mask R-CNN's head does, each side of the box off by up to 3 %."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    most = max(1.0, EDGE_SHARE * extent_px(mask))
    off = np.round(rng.uniform(-most, most, 4)).astype(int)
    top, left = max(0, rows[0] + off[0]), max(0, columns[0] + off[1])
    bottom, right = max(top + 1, rows[-1] + 1 + off[2]), max(left + 1, columns[-1] + 1 + off[3])
    box = mask[top:bottom, left:right].astype(np.float32)  # what lies outside of the image is cut off
    samples = cv2.resize(box, (HEAD_SIDE, HEAD_SIDE), interpolation=cv2.INTER_AREA)
    out = np.zeros_like(mask)
    out[top:bottom, left:right] = cv2.resize(samples, box.shape[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5
    return out


def polygon(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Its contours as polygons, off by up to 2 % of the extent, whose vertices have moved by 1 % (deviation)."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    extent, corners = extent_px(mask), []
    for contour in contours:
        points = cv2.approxPolyDP(contour, POLYGON_SHARE * extent, True)[:, 0].astype(np.float64)
        moved = np.round(points + rng.normal(0, VERTEX_SHARE * extent, points.shape)).astype(np.int32)
        if len(moved) >= 3:
            corners.append(moved)
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(drawn, corners, 1)  # even-odd: holes stay holes
    return drawn > 0


def stride8(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sampled as a semantic network's output: averages of 8 x 8 pixels (4 x 4 of small objects), bilinear, 0.5."""
    stride = 4 if np.count_nonzero(mask) < SMALL_AREA else 8
    height, width = mask.shape
    padded = np.pad(mask.astype(np.float32), ((0, -height % stride), (0, -width % stride)), "edge")
    size = (padded.shape[1] // stride, padded.shape[0] // stride)
    samples = cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
    drawn = cv2.resize(samples, padded.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return drawn[:height, :width] >= 0.5


def holes_and_leaks(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to three elliptic holes inside, and as many leaks over the contour: what promptable models leave."""
    out, extent = mask.astype(np.uint8), extent_px(mask)
    inner = cv2.erode(out, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    for places, value in ((np.argwhere(mask), 0), (np.argwhere(mask & (inner == 0)), 1)):
        for y, x in rng.choice(places, int(rng.integers(1, 4))) if len(places) else ():
            axes = np.maximum(1, np.round(rng.uniform(*BLOB_SHARES, 2) * extent)).astype(int)
            cv2.ellipse(out, (int(x), int(y)), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, value, -1)
    return out > 0


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    kind.__name__: kind for kind in (perfect, shifted_edge, head28, polygon, stride8, holes_and_leaks)
}
