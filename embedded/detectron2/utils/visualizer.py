"""Draws predictions and annotations on images with OpenCV and PIL.

Coordinates are those of the given image, whatever the scale of the drawing; colours are RGB in 0–1, "#rrggbb",
or names that PIL knows.
"""

import functools
import logging
from enum import Enum

import cv2
import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from pycocotools import mask as mask_util

from detectron2.data import Metadata
from detectron2.structures import BitMasks, Boxes, BoxMode, PolygonMasks
from detectron2.utils.file_io import PathManager

from .colormap import colormap

__all__ = ["ColorMode", "VisImage", "Visualizer"]

logger = logging.getLogger(__name__)

_LETTERS = dict(b="blue", g="green", r="red", c="cyan", m="magenta", y="yellow", k="black", w="white")
_OFF_WHITE = (1.0, 1.0, 0.94)
_SUBPIXEL_BITS = 4  # OpenCV takes points in 1/16 pixel


class ColorMode(Enum):
    """How instances are coloured."""

    IMAGE = 0  # each its own colour
    SEGMENTATION = 1  # near the metadata's colour of its category, and more opaque
    IMAGE_BW = 2  # as IMAGE, what no mask covers in grey


def _rgb(color) -> np.ndarray:
    """(3,) float in 0–255."""
    if isinstance(color, str):
        return np.array(ImageColor.getrgb(_LETTERS.get(color, color))[:3], dtype=float)
    return np.asarray(color, dtype=float)[:3].clip(0, 1) * 255


@functools.lru_cache(maxsize=32)
def _font(size: int):
    return ImageFont.load_default(size)


class VisImage:
    """An (H, W, 3) RGB drawing, ``scale`` times as large as the image it starts from."""

    def __init__(self, img: np.ndarray, scale: float = 1.0):
        self.img, self.scale = img, scale
        self.height, self.width = img.shape[:2]
        self.reset_image(img)

    def reset_image(self, img: np.ndarray) -> None:
        """Starts again from another image of the same size."""
        size = (max(round(self.width * self.scale), 1), max(round(self.height * self.scale), 1))
        pixels = np.ascontiguousarray(img.clip(0, 255).astype(np.uint8))
        self._canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR) if self.scale != 1 else pixels.copy()

    def get_image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._canvas.copy()

    def save(self, filepath: str) -> None:
        """Writes an image file; the name's ending says which format."""
        Image.fromarray(self._canvas).save(filepath)

    def blend(self, opacity: np.ndarray, color: np.ndarray, x: int = 0, y: int = 0) -> None:
        """Lays ``color`` over the drawing at (x, y), as opaque as the (h, w) array in 0–1 says."""
        height, width = opacity.shape
        region = self._canvas[y : y + height, x : x + width]
        weight = opacity[: region.shape[0], : region.shape[1], None].astype(np.float32)
        region[:] = np.rint(region + (color.astype(np.float32) - region) * weight)


class Visualizer:
    """Draws on one image; each method returns the :class:`VisImage`, and calls add up.

    Args:
        img_rgb: (H, W, 3) RGB in 0–255.
        metadata: names and colours of categories ("thing_classes", "thing_colors", "stuff_…").
        scale: the drawing's size relative to the image's.
        font_size_scale: relative to a size that suits the image.
    """

    def __init__(
        self,
        img_rgb: np.ndarray,
        metadata: Metadata | None = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
        font_size_scale: float = 1.0,
    ):
        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        if self.img.ndim != 3 or self.img.shape[2] != 3:
            raise ValueError(f"img_rgb must be (H, W, 3), got {self.img.shape}")
        self.metadata = Metadata() if metadata is None else metadata
        self.output = VisImage(self.img, scale=scale)
        self._instance_mode = instance_mode
        extent = np.sqrt(self.output.height * self.output.width) * scale
        self._default_font_size = float(np.clip(extent / 42, 10, 26)) * font_size_scale
        self._line_width = max(round(extent / 500), 1)
        # A generator of its own: drawing must not change what a training run draws next from np.random.
        self._rng = np.random.default_rng(0)
        self._labels: list[tuple[int, int, int, int]] = []  # canvas rectangles of the labels so far

    def draw_instance_predictions(self, predictions, jittering: bool = True) -> VisImage:
        """Draws Instances with any of pred_boxes, pred_masks, pred_classes and scores."""
        classes = predictions.pred_classes.tolist() if predictions.has("pred_classes") else None
        scores = predictions.scores.tolist() if predictions.has("scores") else None
        boxes = predictions.pred_boxes if predictions.has("pred_boxes") else None
        masks = self._to_masks(predictions.pred_masks) if predictions.has("pred_masks") else None
        alpha = 0.5
        if self._instance_mode == ColorMode.IMAGE_BW:
            self._fade(np.any(masks, axis=0) if masks else np.zeros(self.img.shape[:2], dtype=bool))
            alpha = 0.3
        colors = None
        if self._instance_mode == ColorMode.SEGMENTATION and self.metadata.get("thing_colors") and classes is not None:
            colors, alpha = self._category_colors(classes, jittering), 0.75
        labels = _label_texts(classes, scores, self.metadata.get("thing_classes"))
        return self.overlay_instances(boxes=boxes, masks=masks, labels=labels, assigned_colors=colors, alpha=alpha)

    def draw_sem_seg(
        self, sem_seg, area_threshold: int | None = None, alpha: float = 0.8, edge_color=_OFF_WHITE, draw_text: bool = True
    ) -> VisImage:
        """Draws (H, W) labels; those without a class in the metadata (ignored pixels) stay as they are."""
        sem_seg = np.asarray(sem_seg.cpu() if isinstance(sem_seg, torch.Tensor) else sem_seg)
        labels, areas = np.unique(sem_seg, return_counts=True)
        names, colors = self.metadata.get("stuff_classes") or [], self.metadata.get("stuff_colors") or []
        pending = []
        for label in labels[np.argsort(-areas)].tolist():
            if 0 <= label < len(names):
                color = np.array(colors[label]) / 255 if label < len(colors) else self._color(label)
                mask = sem_seg == label
                if self._fill(mask, color, alpha, edge_color, area_threshold) and draw_text:
                    pending.append((mask, names[label], color))
        for mask, name, color in pending:
            self._label_mask(mask, name, color)
        return self.output

    def draw_panoptic_seg(
        self, panoptic_seg, segments_info: list[dict] | None, area_threshold: int | None = None, alpha: float = 0.7
    ) -> VisImage:
        """Draws an (H, W) map of segment ids. ``segments_info`` None: ids are category · label_divisor + instance."""
        ids = np.asarray(panoptic_seg.cpu() if isinstance(panoptic_seg, torch.Tensor) else panoptic_seg)
        segments = self._segments_of(ids) if segments_info is None else segments_info
        shown = [segment for segment in segments if (ids == segment["id"]).any()]
        if self._instance_mode == ColorMode.IMAGE_BW:
            self._fade(np.isin(ids, [segment["id"] for segment in shown]))
        names, colors = self.metadata.get("stuff_classes"), self.metadata.get("stuff_colors")
        stuff_labels = []
        for segment in (s for s in shown if not s.get("isthing", True)):
            category, mask = segment["category_id"], ids == segment["id"]
            color = np.array(colors[category]) / 255 if colors else self._color(category)
            if self._fill(mask, color, alpha, _OFF_WHITE, area_threshold):
                stuff_labels.append((mask, names[category] if names else str(category), color))
        things = [segment for segment in shown if segment.get("isthing", True)]
        categories = [segment["category_id"] for segment in things]
        scores = [segment["score"] for segment in things] if all("score" in s for s in things) else None
        crowds = [segment.get("iscrowd", 0) for segment in things]
        self.overlay_instances(
            masks=[ids == segment["id"] for segment in things],
            labels=_label_texts(categories, scores, self.metadata.get("thing_classes"), crowds),
            assigned_colors=self._category_colors(categories) if self.metadata.get("thing_colors") else None,
            alpha=alpha,
        )
        for mask, name, color in stuff_labels:
            self._label_mask(mask, name, color)
        return self.output

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def _segments_of(self, ids: np.ndarray) -> list[dict]:
        things = self.metadata.thing_dataset_id_to_contiguous_id.values()
        found = [(i, i // self.metadata.label_divisor) for i in np.unique(ids).tolist() if i != -1]
        return [{"id": i, "category_id": category, "isthing": category in things} for i, category in found]

    def draw_dataset_dict(self, dic: dict) -> VisImage:
        """Draws the annotations of a data set entry: instances, semantic labels, panoptic segments."""
        annotations = dic.get("annotations")
        if annotations:
            categories = [obj["category_id"] for obj in annotations]
            in_colors = self._instance_mode == ColorMode.SEGMENTATION and self.metadata.get("thing_colors")
            crowds = [obj.get("iscrowd", 0) for obj in annotations]
            self.overlay_instances(
                boxes=np.array([BoxMode.convert(o["bbox"], o["bbox_mode"], BoxMode.XYXY_ABS) for o in annotations]),
                masks=[o["segmentation"] for o in annotations] if "segmentation" in annotations[0] else None,
                labels=_label_texts(categories, None, self.metadata.get("thing_classes"), crowds),
                assigned_colors=self._category_colors(categories) if in_colors else None,
            )
        labels = dic.get("sem_seg")
        if labels is None and "sem_seg_file_name" in dic:
            labels = _read(dic["sem_seg_file_name"])
        if labels is not None:
            self.draw_sem_seg(labels, area_threshold=0, alpha=0.5)
        ids = dic.get("pan_seg")
        if ids is None and "pan_seg_file_name" in dic:
            ids = _read(dic["pan_seg_file_name"]).astype(np.int64) @ np.array([1, 256, 65536])
        if ids is not None:
            self.draw_panoptic_seg(ids, dic["segments_info"], area_threshold=0, alpha=0.5)
        return self.output

    def overlay_instances(
        self, *, boxes=None, labels=None, masks=None, keypoints=None, assigned_colors=None, alpha: float = 0.5
    ) -> VisImage:
        """Draws instances, large ones first, all labels on top.

        Args:
            boxes: Boxes or (N, 4) XYXY.
            labels: texts.
            masks: PolygonMasks, BitMasks, (N, H, W), or per instance an (H, W) array, an RLE or a list of polygons.
            assigned_colors: per instance; by default different ones.
        """
        if keypoints is not None:
            raise ImportError("drawing key points is outside the embedded engine: install Detectron2")
        boxes = boxes.tensor.cpu().numpy() if isinstance(boxes, Boxes) else boxes
        masks = None if masks is None else self._to_masks(masks)
        given = {"boxes": boxes, "masks": masks, "labels": labels, "assigned_colors": assigned_colors}
        lengths = {name: len(values) for name, values in given.items() if values is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"boxes, masks, labels and colours must be equally many, got {lengths}")
        count = max(lengths.values(), default=0)
        colors = assigned_colors or [self._color(i) for i in range(count)]
        if boxes is not None:
            areas = [float((x1 - x0) * (y1 - y0)) for x0, y0, x1, y1 in boxes]
        else:
            areas = [int(mask.sum()) for mask in masks or []]
        order = sorted(range(count), key=lambda i: -areas[i]) if areas else []
        for i in order:
            if masks is not None:
                self._fill(masks[i], colors[i], alpha, self._brightened(colors[i], 0.35), 0)
        for i in order:
            if boxes is not None:
                self.draw_box(boxes[i], alpha=0.9 if masks is None else 0.5, edge_color=colors[i])
        for i in order if labels is not None else ():
            if boxes is not None:
                self._place_label(labels[i], boxes[i][:2], colors[i], centered=False)
            elif masks is not None:
                self._label_mask(masks[i], labels[i], colors[i])
        return self.output

    def draw_text(
        self, text: str, position, *, font_size=None, color="g", horizontal_alignment="center", rotation=0
    ) -> VisImage:
        """Writes ``text`` on a dark plate whose top is at ``position`` (x, y); ``font_size`` is in drawing pixels."""
        if rotation:
            raise ValueError("rotated text is outside the embedded engine")
        plate = self._measure(text, font_size)
        shift = {"left": 0, "center": 0.5, "right": 1}[horizontal_alignment]
        x, y = np.multiply(position, self.output.scale) - (plate[0] * shift, 0)
        self._draw_plate(text, *self._inside(x, y, plate), plate, _rgb(color) / 255, font_size)
        return self.output

    def draw_box(self, box_coord, alpha: float = 0.5, edge_color="g", line_style: str = "-") -> VisImage:
        """Outlines an XYXY box; any ``line_style`` other than "-" gives dashes."""
        x0, y0, x1, y1 = (float(value) for value in box_coord)
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]])
        lines = [corners] if line_style == "-" else _dashes(corners, 4 * self._line_width / self.output.scale)
        self._stroke(lines, _rgb(edge_color), alpha, self._line_width)
        return self.output

    def draw_circle(self, circle_coord, color, radius: float = 3) -> VisImage:
        """Fills a circle about (x, y)."""
        angles = np.linspace(0, 2 * np.pi, 33)[:-1]
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + np.asarray(circle_coord, dtype=float)
        return self.draw_polygon(ring, color, alpha=1.0)

    def draw_line(self, x_data, y_data, color, linestyle: str = "-", linewidth: float | None = None) -> VisImage:
        """Draws a line through the points."""
        points = np.stack([np.asarray(x_data, dtype=float), np.asarray(y_data, dtype=float)], axis=1)
        width = max(round(linewidth * self.output.scale), 1) if linewidth else self._line_width
        lines = [points] if linestyle == "-" else _dashes(points, 4 * width / self.output.scale)
        self._stroke(lines, _rgb(color), 1.0, width)
        return self.output

    def draw_polygon(self, segment, color, edge_color=None, alpha: float = 0.5) -> VisImage:
        """Fills an (N, 2) polygon and outlines it."""
        points = np.asarray(segment, dtype=float).reshape(-1, 2)
        opacity = np.zeros(self.output._canvas.shape[:2], dtype=np.uint8)
        cv2.fillPoly(opacity, [self._fixed_point(points)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        self.output.blend(opacity * np.float32(alpha / 255), _rgb(color))
        edge = self._brightened(color, 0.35) if edge_color is None else edge_color
        self._stroke([np.vstack([points, points[:1]])], _rgb(edge), min(alpha + 0.3, 1.0), self._line_width)
        return self.output

    def draw_binary_mask(
        self, binary_mask, color=None, *, edge_color=None, text=None, alpha: float = 0.5, area_threshold: int | None = 10
    ) -> VisImage:
        """Draws an (H, W) mask, except its parts smaller than ``area_threshold`` pixels, with a label on it."""
        mask = np.asarray(binary_mask).astype(bool)
        color = self._color(len(self._labels)) if color is None else color
        if self._fill(mask, color, alpha, edge_color, area_threshold) and text is not None:
            self._label_mask(mask, text, color)
        return self.output

    def draw_soft_mask(self, soft_mask, color=None, *, text=None, alpha: float = 0.5) -> VisImage:
        """Draws an (H, W) mask of opacities in 0–1."""
        soft = np.asarray(soft_mask, dtype=np.float32)
        color = self._color(len(self._labels)) if color is None else color
        size = self.output._canvas.shape[1::-1]
        self.output.blend(cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR) * alpha, _rgb(color))
        if text is not None:
            self._label_mask(soft > 0.5, text, color)
        return self.output

    def get_output(self) -> VisImage:
        """The drawing."""
        return self.output

    def _fill(self, mask: np.ndarray, color, alpha: float, edge_color, area_threshold: int | None) -> bool:
        """Lays a mask over the drawing, with soft edges and an outline; whether anything was large enough."""
        outlines, parents = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2:]
        parts = [i for i in range(len(outlines)) if parents[0][i][3] < 0]
        mask = mask.astype(np.uint8)
        small = [i for i in parts if area_threshold and cv2.contourArea(outlines[i]) < area_threshold]
        cv2.drawContours(mask, outlines, -1, 0, cv2.FILLED) if len(small) == len(parts) else None
        for i in small:
            cv2.drawContours(mask, outlines, i, 0, cv2.FILLED)
        if not mask.any():
            return False
        scale, (x, y, w, h) = self.output.scale, cv2.boundingRect(mask)
        x0, y0, x1, y1 = max(x - 2, 0), max(y - 2, 0), x + w + 2, y + h + 2
        cut = np.pad(mask[y0:y1, x0:x1] * np.uint8(255), 0)
        if scale != 1:
            size = (max(round(cut.shape[1] * scale), 1), max(round(cut.shape[0] * scale), 1))
            cut = cv2.resize(cut, size, interpolation=cv2.INTER_LINEAR)
        soft = cv2.GaussianBlur(cut, (3, 3), 0)
        self.output.blend(soft * np.float32(alpha / 255), _rgb(color), round(x0 * scale), round(y0 * scale))
        if edge_color is not None:
            kept = [line[:, 0] + 0.5 for i, line in enumerate(outlines) if i not in small and len(line) > 2]
            closed = [np.vstack([line, line[:1]]) for line in kept]
            self._stroke(closed, _rgb(edge_color), 0.9, max(self._line_width - 1, 1))
        return True

    def _stroke(self, lines: list[np.ndarray], color: np.ndarray, alpha: float, width: int) -> None:
        """Antialiased lines through (N, 2) image points."""
        if not lines:
            return
        opacity = np.zeros(self.output._canvas.shape[:2], dtype=np.uint8)
        points = [self._fixed_point(line) for line in lines]
        cv2.polylines(opacity, points, False, 255, width, cv2.LINE_AA, _SUBPIXEL_BITS)
        x, y, w, h = cv2.boundingRect(opacity)
        self.output.blend(opacity[y : y + h, x : x + w] * np.float32(alpha / 255), color, x, y)

    def _fixed_point(self, points: np.ndarray) -> np.ndarray:
        """OpenCV counts from pixel centres, in fixed point."""
        return np.rint((points * self.output.scale - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)

    def _label_mask(self, mask: np.ndarray, text: str, color) -> None:
        """Writes where the mask is widest."""
        depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        self._place_label(text, (x - 1, y - 1), color, centered=True)

    def _place_label(self, text: str, position, color, centered: bool) -> None:
        """Writes at ``position``, or a little below or above where another label is in the way."""
        plate = self._measure(text, None)
        x, y = np.multiply(position, self.output.scale) - (np.divide(plate, 2) if centered else (0, 0))
        for step in (0, 1, -1, 2, -2, 3):
            left, top = self._inside(x, y + step * plate[1], plate)
            right, bottom = left + plate[0], top + plate[1]
            if not any(left < r and right > l and top < b and bottom > t for l, t, r, b in self._labels):
                break
        self._draw_plate(text, left, top, plate, self._brightened(color, 0.6), None)

    def _measure(self, text: str, font_size) -> tuple[int, int]:
        """(width, height) of a label's plate on the drawing."""
        size = max(round(font_size or self._default_font_size), 6)
        return round(_font(size).getlength(text)) + size // 2, round(size * 1.3)

    def _inside(self, x: float, y: float, plate: tuple[int, int]) -> tuple[int, int]:
        height, width = self.output._canvas.shape[:2]
        return max(min(round(x), width - plate[0]), 0), max(min(round(y), height - plate[1]), 0)

    def _draw_plate(self, text: str, left: int, top: int, plate: tuple[int, int], color, font_size) -> None:
        canvas, size = self.output._canvas, max(round(font_size or self._default_font_size), 6)
        canvas[top : top + plate[1], left : left + plate[0]] //= 4
        picture = Image.fromarray(canvas)
        middle = (left + plate[0] / 2, top + plate[1] / 2)
        fill = tuple(np.rint(_rgb(color)).astype(int).tolist())
        ImageDraw.Draw(picture).text(middle, text, font=_font(size), fill=fill, anchor="mm")
        self.output._canvas = np.array(picture)
        self._labels.append((left, top, left + plate[0], top + plate[1]))

    def _to_masks(self, masks) -> list[np.ndarray]:
        """Boolean (H, W) arrays."""
        if isinstance(masks, PolygonMasks):
            masks = masks.polygons
        elif isinstance(masks, BitMasks | torch.Tensor):
            masks = (masks.tensor if isinstance(masks, BitMasks) else masks).cpu().numpy()
        return [self._to_mask(mask) for mask in masks]

    def _to_mask(self, mask) -> np.ndarray:
        height, width = self.img.shape[:2]
        if isinstance(mask, list):
            mask = mask_util.merge(mask_util.frPyObjects([np.ravel(p).tolist() for p in mask], height, width))
        elif isinstance(mask, dict) and isinstance(mask["counts"], list):
            mask = mask_util.frPyObjects(mask, *mask["size"])
        mask = mask_util.decode(mask) if isinstance(mask, dict) else np.asarray(mask)
        if mask.shape != (height, width):
            raise ValueError(f"a mask is {mask.shape}, the image {height} × {width}")
        return mask.astype(bool)

    def _fade(self, kept: np.ndarray) -> None:
        """Starts again from the image in grey, with its colours only where ``kept`` is True."""
        grey = np.repeat(self.img.mean(axis=2, keepdims=True), 3, axis=2)
        self.output.reset_image(np.where(kept[:, :, None], self.img, grey))

    def _color(self, index: int) -> np.ndarray:
        colors = colormap(rgb=True, maximum=1)
        return colors[index % len(colors)]

    def _category_colors(self, categories: list[int], jittering: bool = True) -> list[np.ndarray]:
        """The categories' colours, a little off each, so that neighbours of one category can be told apart."""
        spread = 0.12 if jittering else 0.0
        noise = self._rng.uniform(-spread, spread, (len(categories), 3))
        return [(np.array(self.metadata.thing_colors[c]) / 255 + n).clip(0, 1) for c, n in zip(categories, noise)]

    @staticmethod
    def _brightened(color, amount: float) -> np.ndarray:
        return _rgb(color) / 255 * (1 - amount) + amount


def _label_texts(classes, scores, class_names, is_crowd=None) -> list[str] | None:
    """"name 98%|crowd" for each instance, of what is known."""
    if classes is None and scores is None:
        return None
    parts = []
    if classes is not None:
        parts.append([class_names[c] if class_names else str(c) for c in classes])
    if scores is not None:
        parts.append([f"{score * 100:.0f}%" for score in scores])
    texts = [" ".join(words) for words in zip(*parts)]
    return [text + "|crowd" * bool(crowd) for text, crowd in zip(texts, is_crowd or [0] * len(texts))]


def _dashes(points: np.ndarray, length: float) -> list[np.ndarray]:
    """Every other piece of ``length`` along a line of (N, 2) points."""
    pieces = []
    for start, end in zip(points[:-1], points[1:]):
        count = max(int(np.hypot(*(end - start)) / length), 1)
        stops = start + np.linspace(0, 1, count + 1)[:, None] * (end - start)
        pieces += [stops[i : i + 2] for i in range(0, count, 2)]
    return pieces


def _read(file_name: str) -> np.ndarray:
    with PathManager.open(file_name, "rb") as stream, Image.open(stream) as image:
        return np.asarray(image)
