"""Draws one synthetic scene: textured stuff, shaded overlapping things with thin parts, and exact labels.

Colours are averaged over 3x3 subpixels, so edges look like a camera's; labels are those of the pixel's centre.
"""

from dataclasses import dataclass

import cv2
import numpy as np

THING_CLASSES = ("blob", "ring", "pole", "urchin")
TYPICAL_HUES = (0.95, 0.75, 0.12, 0.42)  # in turns; things of a class vary about it
STUFF_CLASSES = ("sky", "rock", "field", "water")
SUBPIXELS = 3
MIN_VISIBLE_PX = 40  # a thing with fewer visible pixels cannot be learnt; its pixels become void


@dataclass
class Scene:
    """One scene of height H and width W.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        stuff: (H, W) uint8, index into STUFF_CLASSES of what lies behind the things.
        instances: (H, W) int32, 0 where no thing is, k for the k-th of ``classes``, -1 void.
        classes: index into THING_CLASSES of thing 1, 2, ...
    """

    image: np.ndarray
    stuff: np.ndarray
    instances: np.ndarray
    classes: list[int]


def _noise(
    rng: np.random.Generator, height: int, width: int, cell: tuple[float, float], octaves: int = 4
) -> np.ndarray:
    """Fractal noise, about standard normal; ``cell`` is the coarsest cell's height and width in (sub)pixels.

    It is made at pixel size and enlarged to subpixels: finer detail would be averaged away.
    """
    h, w = max(1, height // SUBPIXELS), max(1, width // SUBPIXELS)
    total = np.zeros((h, w), np.float32)
    for octave in range(octaves):
        rows, columns = (max(2, int(n * 2**octave / c)) for n, c in zip((height, width), cell, strict=True))
        grid = rng.standard_normal((min(rows, h), min(columns, w)), dtype=np.float32)
        total += cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC) / 1.7**octave
    return cv2.resize(total / (total.std() + 1e-6), (width, height), interpolation=cv2.INTER_LINEAR)


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB floats in 0..1 of a colour; ``hue`` in turns."""
    pixel = np.array([[[hue % 1 * 360, np.clip(saturation, 0, 1), np.clip(value, 0, 1)]]], np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]


def _wave(rng: np.random.Generator, width: int, amplitude: float, roughness: float) -> np.ndarray:
    """A random curve y(x): sines whose amplitude falls with frequency to the power ``roughness``."""
    x = np.linspace(0, 1, width)
    return sum(
        amplitude * k**-roughness * rng.normal() * np.sin(2 * np.pi * (k * x + rng.random())) for k in range(1, 13)
    )


def _stuff_layout(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y = np.arange(height)[:, None]
    horizon = height * rng.uniform(0.3, 0.6) + _wave(rng, width, 0.02 * height, 1.5)
    ridge = horizon - height * rng.uniform(-0.05, 0.25) - np.abs(_wave(rng, width, 0.12 * height, 1.0))
    layout = np.full((height, width), STUFF_CLASSES.index("sky"), np.uint8)
    layout[y > ridge] = STUFF_CLASSES.index("rock")
    layout[y > horizon] = STUFF_CLASSES.index("field")
    shore = _noise(rng, height, width, (0.25 * height, 0.6 * width), octaves=3)
    layout[(y > horizon) & (shore > rng.uniform(-0.3, 1.0))] = STUFF_CLASSES.index("water")
    return layout


def _paint_stuff(rng: np.random.Generator, layout: np.ndarray) -> np.ndarray:
    height, width = layout.shape
    looks = {  # hue, saturation, value, coarsest noise cell (height, width), contrast
        "sky": (rng.normal(0.58, 0.04), rng.uniform(0.1, 0.5), rng.uniform(0.6, 0.95), (0.3, 0.5), 0.07),
        "rock": (rng.normal(0.08, 0.05), rng.uniform(0.05, 0.35), rng.uniform(0.3, 0.65), (0.12, 0.1), 0.17),
        "field": (rng.normal(0.24, 0.06), rng.uniform(0.25, 0.6), rng.uniform(0.35, 0.7), (0.04, 0.1), 0.13),
        "water": (rng.normal(0.53, 0.05), rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.7), (0.03, 0.4), 0.12),
    }
    image = np.zeros((height, width, 3), np.float32)
    fade = np.linspace(0.12, -0.12, height, dtype=np.float32)[:, None]
    for k, name in enumerate(STUFF_CLASSES):
        hue, saturation, value, cell, contrast = looks[name]
        texture = contrast * _noise(rng, height, width, (cell[0] * height, cell[1] * width))
        tint = 0.05 * _noise(rng, height, width, (0.4 * height, 0.4 * width), octaves=2)
        brightness = 1 + texture + fade * rng.choice([-1, 1])
        there = layout == k
        image[there] = brightness[there][:, None] * _hsv(hue, saturation, value) + tint[there][:, None] * _hsv(
            hue + 0.3, 0.8, 1.0
        )
    return image


def _closed_curve(rng: np.random.Generator, radius: float, wobble: float, n: int = 90) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    r = np.ones(n)
    for k in range(2, 7):
        r += wobble / k * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    r = radius * np.clip(r, 0.25, 2.0)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)


def _rectangle(width: float, top: float, bottom: float) -> np.ndarray:
    return np.array([[-width / 2, top], [width / 2, top], [width / 2, bottom], [-width / 2, bottom]])


def _outline(rng: np.random.Generator, name: str, unit: float) -> list[np.ndarray]:
    """Polygons (n, 2) in pixels about the origin, filled by the even-odd rule; ``unit`` is 1/180 of the height."""
    if name == "blob":
        return [_closed_curve(rng, unit * rng.uniform(12, 32), 0.25)]
    if name == "ring":
        outer = _closed_curve(rng, unit * rng.uniform(18, 36), 0.12)
        return [outer, outer * (1 - unit * rng.uniform(7, 15) / np.abs(outer).max())]
    if name == "pole":
        width, length = unit * rng.uniform(4, 10), unit * rng.uniform(50, 120)
        parts = [_rectangle(width, -length / 2, length / 2)]
        if rng.random() < 0.3:  # a sign on top; it ends where the shaft begins, so even-odd fills both
            side = unit * rng.uniform(14, 26)
            parts.append(_rectangle(side, -length / 2 - side * rng.uniform(0.6, 1.2), -length / 2))
        return parts
    spikes = int(rng.integers(5, 11))
    core, reach = unit * rng.uniform(9, 16), unit * rng.uniform(20, 36)
    half_width = unit * rng.uniform(3.0, 5.0) / core
    points = []
    for angle in 2 * np.pi * (np.arange(spikes) + rng.uniform(-0.25, 0.25, spikes)) / spikes:
        r = reach * rng.uniform(0.7, 1.0)
        for offset, distance in ((-half_width, core), (0.0, r), (half_width, core)):
            points.append([distance * np.cos(angle + offset), distance * np.sin(angle + offset)])
    return [np.array(points)]


def _thing_mask(rng: np.random.Generator, name: str, height: int, width: int) -> np.ndarray:
    """(H, W) bool mask of a random thing at a random place; part of it may lie outside the image."""
    unit = height / 180
    turn = rng.normal(0, 0.15) if name == "pole" else rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    stretch = np.array([rng.uniform(0.75, 1.3), 1.0])
    centre = rng.uniform([0.02 * width, 0.1 * height], [0.98 * width, 0.95 * height])
    polygons = [np.round(((p * stretch) @ rotation + centre) * 16).astype(np.int32) for p in _outline(rng, name, unit)]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, polygons, 1, shift=4)
    return mask.astype(bool)


def _paint_thing(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, hue: float) -> None:
    """Lays a shaded, textured thing with a soft shadow over the image, in place, within the box that it touches."""
    full_height = len(mask)
    margin = int(0.1 * full_height)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = tuple(slice(max(0, index[0] - margin), index[-1] + margin + 1) for index in (rows, columns))
    view, mask = image[box], mask[box]
    height, width = mask.shape
    shift = np.float32([[1, 0, full_height * rng.uniform(-0.03, 0.03)], [0, 1, full_height * rng.uniform(0.0, 0.04)]])
    shadow = cv2.warpAffine(mask.astype(np.float32), shift, (width, height))
    shadow = cv2.GaussianBlur(shadow, (0, 0), full_height * rng.uniform(0.004, 0.02))
    view *= (1 - np.float32(rng.uniform(0.15, 0.45)) * shadow)[..., None]
    depth = np.sqrt(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3))
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(depth, (0, 0), 2))
    light = rng.uniform(0, 2 * np.pi)
    shade = 1 + np.clip(0.9 * (slope_x * np.cos(light) + slope_y * np.sin(light)), -0.45, 0.45)
    cell = full_height * rng.uniform(0.02, 0.15)
    texture = rng.uniform(0.03, 0.16) * _noise(rng, height, width, (cell, cell), octaves=3)
    if rng.random() < 0.25:
        y, x = np.mgrid[:height, :width] * (2 * np.pi / (full_height * rng.uniform(0.03, 0.08)))
        angle = rng.uniform(0, np.pi)
        texture += 0.15 * np.sign(np.sin(x * np.cos(angle) + y * np.sin(angle)))
    colour = _hsv(rng.normal(hue, 0.1), rng.uniform(0.25, 0.85), rng.uniform(0.3, 0.9))
    view[mask] = colour * (shade * (1 + texture))[mask][:, None]


def draw_scene(rng: np.random.Generator, height: int = 192, width: int = 256) -> Scene:
    """Draws a scene with 2 to 6 things; equal generators give equal scenes."""
    big = (height * SUBPIXELS, width * SUBPIXELS)
    stuff = _stuff_layout(rng, *big)
    image = _paint_stuff(rng, stuff)
    instances = np.zeros(big, np.int32)
    classes: list[int] = []
    for _ in range(rng.integers(2, 7)):
        kind = int(rng.integers(len(THING_CLASSES)))
        mask = _thing_mask(rng, THING_CLASSES[kind], *big)
        if mask.any():
            classes.append(kind)
            _paint_thing(rng, image, mask, TYPICAL_HUES[kind])
            instances[mask] = len(classes)
    haze = np.float32(rng.uniform(0, 0.15)) * np.linspace(1, 0, big[0], dtype=np.float32)[:, None, None]
    image = image * (1 - haze) + 0.8 * haze
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7))
    image += rng.normal(0, rng.uniform(0.008, 0.03), image.shape)
    centre = SUBPIXELS // 2
    instances = instances[centre::SUBPIXELS, centre::SUBPIXELS]
    instances, classes = _drop_invisible(instances, classes)
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return Scene(pixels, np.ascontiguousarray(stuff[centre::SUBPIXELS, centre::SUBPIXELS]), instances, classes)


def _drop_invisible(instances: np.ndarray, classes: list[int]) -> tuple[np.ndarray, list[int]]:
    area = np.bincount(instances.ravel(), minlength=len(classes) + 1)
    kept = [k for k in range(1, len(classes) + 1) if area[k] >= MIN_VISIBLE_PX]
    renumber = np.full(len(classes) + 1, -1, np.int32)
    renumber[[0, *kept]] = np.arange(len(kept) + 1)
    return renumber[instances], [classes[k - 1] for k in kept]
