"""The surface that :mod:`visualizer` paints on: antialiased masks, lines and labels, by OpenCV and PIL.

Points are in image coordinates, whatever the drawing's scale; colours are RGB in 0–1, "#rrggbb", or names that
PIL knows (and matplotlib's single letters).
"""

import functools

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

_LETTERS = dict(b="blue", g="green", r="red", c="cyan", m="magenta", y="yellow", k="black", w="white")
_SUBPIXEL_BITS = 4  # OpenCV takes points in 1/16 pixel


def to_rgb(color) -> np.ndarray:
    """(3,) float in 0–1."""
    if isinstance(color, str):
        return np.array(ImageColor.getrgb(_LETTERS.get(color, color))[:3]) / 255
    return np.asarray(color, dtype=float)[:3].clip(0, 1)


def brightened(color, amount: float) -> np.ndarray:
    """Mixed with white; ``amount`` 1 is white."""
    return to_rgb(color) * (1 - amount) + amount


def without_small_parts(mask: np.ndarray, min_area: float) -> np.ndarray:
    """The (H, W) mask without its connected parts of fewer than ``min_area`` pixels, as uint8."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= min_area
    kept[0] = False
    return kept[parts].astype(np.uint8)


def dashes(points: np.ndarray, length: float) -> list[np.ndarray]:
    """Every other piece of ``length`` along a line through (N, 2) points."""
    pieces = []
    for start, end in zip(points[:-1], points[1:], strict=True):
        count = max(int(np.hypot(*(end - start)) / length), 1)
        stops = start + np.linspace(0, 1, count + 1)[:, None] * (end - start)
        pieces += [stops[i : i + 2] for i in range(0, count, 2)]
    return pieces


@functools.lru_cache(maxsize=32)
def _font(size: int):
    return ImageFont.load_default(size)


class VisImage:
    """A drawing on an (H, W, 3) RGB image, ``scale`` times as large as it."""

    def __init__(self, img: np.ndarray, scale: float = 1.0):
        self.img, self.scale = img, scale
        self.height, self.width = img.shape[:2]
        extent = np.sqrt(self.height * self.width) * scale
        self.line_width = max(round(extent / 500), 1)
        self.font_size = float(np.clip(extent / 42, 10, 26))
        self._plates: list[tuple[int, int, int, int]] = []
        self.reset_image(img)

    def reset_image(self, img: np.ndarray) -> None:
        """Starts again from another image of the same size."""
        pixels = np.ascontiguousarray(img.clip(0, 255).astype(np.uint8))
        size = (max(round(self.width * self.scale), 1), max(round(self.height * self.scale), 1))
        self._canvas = pixels.copy() if self.scale == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)

    def get_image(self) -> np.ndarray:
        """(H · scale, W · scale, 3) uint8 RGB."""
        return self._canvas.copy()

    def save(self, filepath: str) -> None:
        """Writes an image file; the name's ending says which format."""
        Image.fromarray(self._canvas).save(filepath)

    def _blend(self, opacity: np.ndarray, alpha: float, color, x: int = 0, y: int = 0) -> None:
        """Lays a colour over the drawing at (x, y), as opaque as ``alpha`` times the uint8 array says."""
        height, width = opacity.shape
        region = self._canvas[y : y + height, x : x + width]
        weight = opacity[: region.shape[0], : region.shape[1], None] * np.float32(alpha / 255)
        region[:] = np.rint(region + ((to_rgb(color) * 255).astype(np.float32) - region) * weight)

    def _paint(self, draw, lines: list[np.ndarray], margin: int, color, alpha: float) -> None:
        """Blends what ``draw(opacity, fixed-point lines)`` draws, in the part of the drawing that holds the points."""
        # OpenCV counts from the centre of the first pixel, we from its corner.
        lines = [np.asarray(line) * self.scale - 0.5 for line in lines]
        points = np.concatenate(lines)
        limits = self._canvas.shape[1::-1]
        low = np.clip(np.floor(points.min(axis=0)).astype(int) - margin, 0, limits)
        high = np.clip(np.ceil(points.max(axis=0)).astype(int) + margin + 1, 0, limits)
        if (high > low).all():
            opacity = np.zeros((high - low)[::-1], dtype=np.uint8)
            draw(opacity, [np.rint((line - low) * (1 << _SUBPIXEL_BITS)).astype(np.int32) for line in lines])
            self._blend(opacity, alpha, color, *low)

    def fill_mask(self, mask: np.ndarray, color, alpha: float) -> None:
        """Lays an (H, W) mask, or opacities in 0–1, over the drawing; edges are softened."""
        opacity = np.rint(mask * np.float32(255)).astype(np.uint8)
        x, y, w, h = cv2.boundingRect(opacity)
        if not w:
            return
        x0, y0 = max(x - 2, 0), max(y - 2, 0)
        part = opacity[y0 : y + h + 2, x0 : x + w + 2]
        if self.scale != 1:
            part = cv2.resize(part, None, fx=self.scale, fy=self.scale, interpolation=cv2.INTER_LINEAR)
        soft = cv2.GaussianBlur(part, (3, 3), 0)
        self._blend(soft, alpha, color, round(x0 * self.scale), round(y0 * self.scale))

    def outline_mask(self, mask: np.ndarray, color, alpha: float, width: int) -> None:
        """Traces the borders of an (H, W) mask, holes included."""
        borders = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2]
        lines = [np.vstack([border[:, 0], border[:1, 0]]) + 0.5 for border in borders if len(border) > 2]
        self.stroke(lines, color, alpha, width)

    def stroke(self, lines: list[np.ndarray], color, alpha: float, width: int) -> None:
        """Draws antialiased lines, each through (N, 2) points, ``width`` drawing pixels wide."""

        def draw(opacity, points):
            cv2.polylines(opacity, points, False, 255, width, cv2.LINE_AA, _SUBPIXEL_BITS)

        if lines:
            self._paint(draw, lines, width + 1, color, alpha)

    def fill_polygon(self, points: np.ndarray, color, alpha: float) -> None:
        """Fills a polygon of (N, 2) points."""

        def draw(opacity, corners):
            cv2.fillPoly(opacity, corners, 255, cv2.LINE_AA, _SUBPIXEL_BITS)

        self._paint(draw, [points], 1, color, alpha)

    def write(self, text: str, position, color, size: float, anchor=(0.0, 0.0), avoid: bool = False) -> None:
        """Writes on a dark plate, kept inside the drawing.

        Args:
            position: (x, y) of the plate's ``anchor``: (0, 0) is its upper left corner, (1, 1) the lower right.
            size: font height in drawing pixels.
            avoid: move up or down where another plate is in the way.
        """
        size = max(round(size), 6)
        width, height = round(_font(size).getlength(text)) + size // 2, round(size * 1.3)
        x, y = np.multiply(position, self.scale) - np.multiply(anchor, (width, height))
        limits = self._canvas.shape[1] - width, self._canvas.shape[0] - height
        for rows in (0, 1, -1, 2, -2, 3) if avoid else (0,):
            left = max(min(round(x), limits[0]), 0)
            top = max(min(round(y + rows * height), limits[1]), 0)
            right, bottom = left + width, top + height
            if not any(left < r and right > le and top < b and bottom > t for le, t, r, b in self._plates):
                break
        self._plates.append((left, top, right, bottom))
        region = self._canvas[top:bottom, left:right]
        plate = Image.fromarray(region // 4)
        fill = tuple(np.rint(to_rgb(color) * 255).astype(int).tolist())
        ImageDraw.Draw(plate).text((width / 2, height / 2), text, font=_font(size), fill=fill, anchor="mm")
        region[:] = np.asarray(plate)
