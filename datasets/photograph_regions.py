"""Regions of a photograph whose boundaries can be seen: edges as cameras make them, for training scenes.

The gradient of the colours is flooded from its minima (watershed), and neighbours are merged, the most alike first,
while the mean colours and the gradient between them differ by little.
"""

import cv2
import numpy as np

_GRADIENT_SHARE = 0.25  # of a boundary's mean gradient in the difference of two regions
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_SMALL_PX = 60  # regions below it are merged in any case
_VISIBLE = 12.0  # gradient, in units of Lab, that three quarters of a region's rim exceed
_LEAST_PX, _MOST_SHARE = 500, 0.5  # area of a region, in pixels and of the image


def _gradient(lab: np.ndarray) -> np.ndarray:
    """(H, W) float32 of (H, W, 3) colours."""
    squares = [cv2.Sobel(lab[..., c], cv2.CV_32F, *axis) ** 2 for c in range(3) for axis in ((1, 0), (0, 1))]
    return np.sqrt(np.sum(squares, axis=0))


def _flooded(gradient: np.ndarray) -> np.ndarray:
    """(H, W) int32 labels from 1: one for each minimum of the gradient."""
    smooth = cv2.GaussianBlur(gradient, (0, 0), 2)
    minima = smooth <= cv2.erode(smooth, np.ones((9, 9), np.uint8)) + 1e-6
    _, markers = cv2.connectedComponents(minima.astype(np.uint8))
    grey = np.clip(2 * gradient, 0, 255).astype(np.uint8)
    labels = np.maximum(cv2.watershed(cv2.merge([grey] * 3), markers), 0)
    neighbours = cv2.dilate(labels.astype(np.float32), _NEIGHBOURS).astype(np.int32)
    return np.where(labels > 0, labels, neighbours)  # the lines between regions go to one of them


def _borders(labels: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) pairs of neighbouring labels, and the mean gradient along the border of each."""
    number = int(labels.max()) + 1
    sides = ((slice(None), slice(None, -1)), (slice(None), slice(1, None))), ((slice(None, -1),), (slice(1, None),))
    codes, steps = [], []
    for here, there in sides:
        low, high = np.minimum(labels[here], labels[there]), np.maximum(labels[here], labels[there])
        differ = low != high
        codes.append(low[differ].astype(np.int64) * number + high[differ])
        steps.append(np.maximum(gradient[here], gradient[there])[differ])
    pairs, of_pair = np.unique(np.concatenate(codes), return_inverse=True)
    mean = np.bincount(of_pair, np.concatenate(steps)) / np.bincount(of_pair)
    return np.stack([pairs // number, pairs % number], axis=1), mean


def _merged(labels: np.ndarray, lab: np.ndarray, gradient: np.ndarray, most: float) -> np.ndarray:
    """Labels after merging neighbours that differ by less than ``most``."""
    number = int(labels.max()) + 1
    area = np.bincount(labels.ravel(), minlength=number).astype(np.float64)
    sums = [np.bincount(labels.ravel(), lab[..., c].ravel(), minlength=number) for c in range(3)]
    mean = np.stack(sums, axis=1) / np.maximum(area, 1)[:, None]
    pairs, step = _borders(labels, gradient)
    order = np.argsort(np.linalg.norm(mean[pairs[:, 0]] - mean[pairs[:, 1]], axis=1) + _GRADIENT_SHARE * step)
    parent = list(range(number))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = k = parent[parent[k]]
        return k

    for n in order.tolist():
        a, b = root(int(pairs[n, 0])), root(int(pairs[n, 1]))
        if a == b:
            continue
        differ = float(np.linalg.norm(mean[a] - mean[b])) + _GRADIENT_SHARE * step[n]
        if differ < most or min(area[a], area[b]) < _SMALL_PX:
            mean[a] = (mean[a] * area[a] + mean[b] * area[b]) / (area[a] + area[b])
            area[a] += area[b]
            parent[b] = a
    return np.array([root(k) for k in range(number)], np.int32)[labels]


def _largest_part(mask: np.ndarray) -> np.ndarray:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])) if len(stats) > 1 else mask


def region_masks(image: np.ndarray, rng: np.random.Generator, number: int) -> list[np.ndarray]:
    """At most ``number`` masks (H, W) bool of regions that stand out from what is around them.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    lab = cv2.GaussianBlur(lab, (0, 0), float(rng.uniform(1, 2)))
    gradient = _gradient(lab)
    labels = _merged(_flooded(gradient), lab, gradient, float(rng.uniform(10, 40)))
    values, areas = np.unique(labels, return_counts=True)
    masks: list[np.ndarray] = []
    for value, area in rng.permutation(np.stack([values, areas], axis=1)).tolist():
        if len(masks) == number:
            break
        if not _LEAST_PX <= area <= _MOST_SHARE * labels.size:
            continue
        mask = _largest_part(cv2.medianBlur((labels == value).astype(np.uint8), 5) > 0)
        inner = cv2.erode(
            mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1
        )
        rim = mask & (inner == 0)
        if np.count_nonzero(mask) >= _LEAST_PX and rim.any() and np.percentile(gradient[rim], 25) >= _VISIBLE:
            masks.append(mask)
    return masks
