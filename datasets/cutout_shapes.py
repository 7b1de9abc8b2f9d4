"""Shapes of objects that nobody photographed: blobs, polygons, branches, hairy and holed ones.

Each gives (side, side) uint8, 255 inside, with a soft edge; it fills most of the square.
"""

from collections.abc import Callable

import cv2
import numpy as np

_FINE = 4  # bits behind the point of coordinates that OpenCV draws with
_POINTS = 200


def _filled(x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
    """The polygon of coordinates from -1 to 1."""
    points = np.stack([x, y], axis=1) * 0.475 * side + side / 2
    shape = np.zeros((side, side), np.uint8)
    cv2.fillPoly(shape, [np.round(points * 2**_FINE).astype(np.int32)], 255, cv2.LINE_AA, _FINE)
    return shape


def blob(rng: np.random.Generator, side: int) -> np.ndarray:
    """A radius that is a sum of waves around the centre."""
    angle, radius = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False), np.ones(_POINTS)
    for k in range(1, rng.integers(3, 14)):
        radius += rng.normal(0, 0.35 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.15, None)
    radius /= radius.max()
    return _filled(radius * np.cos(angle), rng.uniform(0.4, 1) * radius * np.sin(angle), side)


def polygon(rng: np.random.Generator, side: int) -> np.ndarray:
    """Three to eight corners around the centre."""
    number = rng.integers(3, 9)
    angle, radius = np.sort(rng.uniform(0, 2 * np.pi, number)), rng.uniform(0.35, 1, number)
    return _filled(radius * np.cos(angle), radius * np.sin(angle), side)


def _line(shape: np.ndarray, start: np.ndarray, end: np.ndarray, width: float) -> None:
    ends = (tuple(int(value * 2**_FINE) for value in point) for point in (start, end))
    cv2.line(shape, *ends, 255, max(1, int(width)), cv2.LINE_AA, _FINE)  # type: ignore[call-overload]


def branches(rng: np.random.Generator, side: int) -> np.ndarray:
    """A stem that forks and thins."""
    shape = np.zeros((side, side), np.uint8)

    def grow(start: np.ndarray, angle: float, length: float, width: float, forks: int) -> None:
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        _line(shape, start, end, width)
        for _ in range(rng.integers(1, 4) if forks else 0):
            grow(
                end,
                angle + rng.normal(0, 0.6),
                length * rng.uniform(0.6, 0.9),
                width * rng.uniform(0.5, 0.9),
                forks - 1,
            )

    foot, up = np.array([side / 2, 0.95 * side]), -np.pi / 2 + rng.normal(0, 0.2)
    grow(foot, up, side * rng.uniform(0.2, 0.35), side * rng.uniform(0.03, 0.12), int(rng.integers(2, 5)))
    return shape


def hairy(rng: np.random.Generator, side: int) -> np.ndarray:
    """A blob with hairs of a pixel or two."""
    shape, core = np.zeros((side, side), np.uint8), blob(rng, int(0.7 * side))
    first = (side - len(core)) // 2
    shape[first : first + len(core), first : first + len(core)] = core
    rim = np.argwhere(cv2.morphologyEx(shape, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 127)
    for y, x in rng.choice(rim, rng.integers(20, 120)) if len(rim) else ():
        angle = np.arctan2(y - side / 2, x - side / 2) + rng.normal(0, 0.5)
        start = np.array([x, y], np.float64)
        end = start + side * rng.uniform(0.03, 0.15) * np.array([np.cos(angle), np.sin(angle)])
        _line(shape, start, end, rng.integers(1, 3))
    return shape


def holed(rng: np.random.Generator, side: int) -> np.ndarray:
    """A blob with one to three round holes."""
    shape = blob(rng, side)
    for _ in range(rng.integers(1, 4)):
        center = rng.integers(side // 4, 3 * side // 4 + 1, 2).tolist()
        cv2.circle(shape, center, int(side * rng.uniform(0.05, 0.15)), 0, -1, cv2.LINE_AA)
    return shape


SHAPES: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (blob, blob, polygon, branches, hairy, holed)
