"""Outlines of the rectangles and ellipses that programs for annotation let people draw. Lengths are pixels."""

import math

import numpy as np

TOLERANCE_PX = 0.02  # between an ellipse and its polygon


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """(4, 2) corners, clockwise from the first, as the picture is seen."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    """(N, 2) corners on an ellipse, so many that nowhere its edges are farther from it than the tolerance."""
    radius = max(radius_x, radius_y)
    flat = min(1.0, TOLERANCE_PX / radius) if radius > 0 else 1.0
    corners = max(16, math.ceil(math.pi / math.acos(1 - flat)))
    angles = np.arange(corners) * (2 * math.pi / corners)
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)


def turned(points: np.ndarray, centre: tuple[float, float], degrees: float) -> np.ndarray:
    """(N, 2) points turned about a centre, clockwise as the picture is seen."""
    angle = math.radians(degrees)
    x, y = (points - centre).T
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1) + centre
