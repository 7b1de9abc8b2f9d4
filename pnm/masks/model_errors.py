"""Coarse masks as models and people make them, from true ones: what a refiner that is to take any mask learns from.

Each way takes a mask (H, W) bool with some of its surroundings, the error's size in pixels, a generator and the image,
and returns a mask of that shape. A share of masks is left as it is, because a refiner has to learn when to leave one
alone. See :mod:`pnm.masks.degraded_masks` for the fewer ways of a refiner that is trained on one data set.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from pnm.masks.smooth_noise import smooth_noise

Way = Callable[[np.ndarray, float, np.random.Generator, np.ndarray], np.ndarray]

_LEAST_PX, _MOST_PX = 0.7, 16.0
_EXTENT_SHARES = (0.006, 0.08)  # of the square root of the area, log-uniform: the error's size
_LEAST_IOU = 0.5  # with the truth; a mask that is worse is of another object


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """(H, W) float32: distance to the contour in pixels, positive inside."""
    inside = mask.astype(np.uint8)
    return cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)


def contours_of(mask: np.ndarray) -> list[np.ndarray]:
    """Contours of parts and holes, each (N, 1, 2) int32."""
    return list(cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0])


def grown(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Grown or shrunk all around."""
    return signed_distance(mask) > (px if rng.random() < 0.5 else -px) * rng.uniform(0.5, 1.5)


def wavering(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A contour that wavers about the true one, slowly or quickly, and may be off on the whole."""
    cell = float(np.exp(rng.uniform(np.log(max(4, 1.5 * px)), np.log(max(8, 12 * px)))))
    wave = px * rng.uniform(0.5, 1.3) * smooth_noise(rng, mask.shape[0], mask.shape[1], cell)
    return signed_distance(mask) > wave + rng.normal(0, 0.4) * px


def mask_head(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Drawn from 14, 28 or 56 samples to a side of a box that is off, as by the heads of Mask R-CNN and others."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    off = rng.normal(0, 0.8 * px, 4)
    top, bottom, left, right = rows[0] + off[0], rows[-1] + 1 + off[1], columns[0] + off[2], columns[-1] + 1 + off[3]
    side, (height, width) = int(rng.choice([14, 28, 28, 28, 56])), mask.shape
    if bottom - top < 4 or right - left < 4:
        return mask
    cell = max(right - left, bottom - top) / side
    soft: np.ndarray = mask.astype(np.float32)
    soft = cv2.GaussianBlur(soft, (0, 0), 0.45 * cell) if cell > 1.1 else soft
    matrix = np.array([[(right - left) / side, 0, left], [0, (bottom - top) / side, top]], np.float32)
    samples = cv2.warpAffine(soft, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    samples = samples + rng.uniform(0, 0.18) * smooth_noise(rng, side, side, rng.uniform(1, 4))
    return cv2.warpAffine(samples, matrix, (width, height), flags=cv2.INTER_LINEAR) > 0.5


def network_stride(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Resized from the coarse output of a semantic network, rarely by nearest neighbours."""
    stride, (height, width) = float(np.clip(px * rng.uniform(1, 3), 2, 24)), mask.shape
    rows, columns = max(4, int(height / stride)), max(4, int(width / stride))
    samples = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    samples = cv2.GaussianBlur(samples, (0, 0), rng.uniform(0.3, 1.2))
    samples = samples + rng.uniform(0, 0.2) * smooth_noise(rng, rows, columns, rng.uniform(1, 4))
    how = cv2.INTER_NEAREST if rng.random() < 0.12 else cv2.INTER_LINEAR
    return cv2.resize(samples, (width, height), interpolation=how) > rng.uniform(0.35, 0.65)


def polygon(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A polygon of few vertices, which may have moved: a quick annotation."""
    drawn, moves = np.zeros(mask.shape, np.uint8), px * rng.choice([0, 0.3, 0.6])
    tolerance = px * rng.uniform(0.5, 1.5)
    rings = [cv2.approxPolyDP(contour, tolerance, True)[:, 0].astype(np.float64) for contour in contours_of(mask)]
    moved = [np.round(16 * (ring + rng.normal(0, moves, ring.shape))).astype(np.int32) for ring in rings]
    cv2.fillPoly(drawn, moved, 1, cv2.LINE_8, 4)
    return drawn > 0


def smoothed(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Corners rounded, thin parts lost."""
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(0.8, px * rng.uniform(0.6, 1.5))) > rng.uniform(
        0.4, 0.6
    )


def shifted(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Moved as a whole."""
    angle = rng.uniform(0, 2 * np.pi)
    matrix = np.array([[1, 0, px * np.cos(angle)], [0, 1, px * np.sin(angle)]], np.float32)
    return cv2.warpAffine(mask.astype(np.uint8), matrix, mask.shape[::-1]) > 0


def opened(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Thin parts cut off, or gaps closed."""
    radius = max(1, round(px))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    way = cv2.MORPH_OPEN if rng.random() < 0.65 else cv2.MORPH_CLOSE
    return cv2.morphologyEx(mask.astype(np.uint8), way, disk) > 0


def leaked(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Places of the contour where the mask has run out into, or lost, what looks alike."""
    colors, out = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32), mask
    places = np.argwhere(np.abs(signed_distance(mask)) < 2)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    for y, x in rng.choice(places, rng.integers(1, 4)) if len(places) else ():
        near = np.hypot(rows - y, columns - x) < px * rng.uniform(2, 6)
        alike = near & (np.abs(colors - colors[y, x]).max(axis=2) < rng.uniform(10, 45))
        out = out | alike if rng.random() < 0.5 else out & ~alike
    return cv2.medianBlur(out.astype(np.uint8), 3) > 0


def holed(mask: np.ndarray, px: float, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Holes and islands near the contour, as models that are asked by clicks leave them."""
    out, distance = mask.astype(np.uint8), signed_distance(mask)
    places = np.argwhere(np.abs(distance) < 6 * px)
    for y, x in rng.choice(places, rng.integers(1, 6)) if len(places) else ():
        axes = np.maximum(1, px * rng.uniform(0.4, 2, 2)).astype(int)
        value = int(distance[y, x] <= 0)
        cv2.ellipse(out, (int(x), int(y)), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, value, -1)
    return out > 0


# How often each way is taken.
WAYS: dict[Way, float] = {
    grown: 0.13, wavering: 0.13, mask_head: 0.2, network_stride: 0.14, polygon: 0.15,
    smoothed: 0.06, shifted: 0.05, opened: 0.04, leaked: 0.05, holed: 0.05,
}  # fmt: skip
# Those that say nothing of the image and nothing of the object: what a network learns to see edges from.
SHIFTS: dict[Way, float] = {grown: 0.6, wavering: 0.4}


def error_size_px(mask: np.ndarray, rng: np.random.Generator, least_share: float = _EXTENT_SHARES[0]) -> float:
    """Pixels by which a mask is off: a share of its extent, the square root of its area."""
    share = np.exp(rng.uniform(np.log(least_share), np.log(_EXTENT_SHARES[1])))
    return float(np.clip(np.sqrt(np.count_nonzero(mask)) * share, _LEAST_PX, _MOST_PX))


def coarse_mask(
    mask: np.ndarray,
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    unchanged: float = 0.25,
    least_share: float = _EXTENT_SHARES[0],
    ways: Mapping[Way, float] = WAYS,
) -> np.ndarray:
    """A mask with one error or two, all around or in some parts; never empty.

    Args:
        mask: (H, W) bool, not empty.
        image: (H, W, 3) uint8.
        unchanged: share of masks that stay as they are.
        least_share: least size of an error, as a share of the mask's extent.
        ways: how often each is taken.
    """
    if rng.random() < unchanged:
        return mask
    px, out, kinds = error_size_px(mask, rng, least_share), mask, list(ways)
    for _ in range(1 if rng.random() < 0.65 else 2):
        new = kinds[rng.choice(len(kinds), p=list(ways.values()))](out, px, rng, image)
        if rng.random() < 0.18:
            cell = max(12.0, np.sqrt(np.count_nonzero(mask)) * rng.uniform(0.3, 0.8))
            new = np.where(smooth_noise(rng, mask.shape[0], mask.shape[1], cell) > 0, new, out)
        shared, either = np.count_nonzero(new & mask), np.count_nonzero(new | mask)
        if shared <= _LEAST_IOU * either:
            break
        out = new
    return out
