"""Draws predictions and annotations on images. Coordinates and colours are as in :mod:`drawing`."""

from enum import Enum

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import BitMasks, Boxes, BoxMode, PolygonMasks
from detectron2.utils.file_io import PathManager
from PIL import Image
from pycocotools import mask as mask_util

from .colormap import colormap
from .drawing import VisImage, brightened, dashes, without_small_parts

__all__ = ["ColorMode", "VisImage", "Visualizer"]

_OFF_WHITE = (1.0, 1.0, 0.94)


class ColorMode(Enum):
    """How instances are coloured."""

    IMAGE = 0  # each its own colour
    SEGMENTATION = 1  # near the metadata's colour of its category, and more opaque
    IMAGE_BW = 2  # as IMAGE, what no mask covers in grey


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
        self._default_font_size = self.output.font_size * font_size_scale
        self._instance_mode = instance_mode
        # A generator of its own: drawing must not change what a training run draws next from np.random.
        self._rng = np.random.default_rng(0)

    def draw_instance_predictions(self, predictions, jittering: bool = True) -> VisImage:
        """Draws Instances with any of pred_boxes, pred_masks, pred_classes and scores."""
        classes = predictions.pred_classes.tolist() if predictions.has("pred_classes") else None
        scores = predictions.scores.tolist() if predictions.has("scores") else None
        boxes = predictions.pred_boxes if predictions.has("pred_boxes") else None
        masks = self._to_masks(predictions.pred_masks) if predictions.has("pred_masks") else None
        colors, alpha = None, 0.5
        if self._instance_mode == ColorMode.IMAGE_BW:
            self._fade(np.any(masks, axis=0) if masks else np.zeros(self.img.shape[:2], dtype=bool))
            alpha = 0.3
        elif self._instance_mode == ColorMode.SEGMENTATION and self.metadata.get("thing_colors") and classes:
            colors, alpha = self._category_colors(classes, jittering), 0.75
        labels = _label_texts(classes, scores, self.metadata.get("thing_classes"))
        return self.overlay_instances(boxes=boxes, masks=masks, labels=labels, assigned_colors=colors, alpha=alpha)

    def draw_sem_seg(
        self,
        sem_seg,
        area_threshold: int | None = None,
        alpha: float = 0.8,
        edge_color=_OFF_WHITE,
        draw_text: bool = True,
    ) -> VisImage:
        """Draws (H, W) labels; those without a class in the metadata (ignored pixels) stay as they are."""
        sem_seg = _to_array(sem_seg)
        labels, areas = np.unique(sem_seg, return_counts=True)
        names = self.metadata.get("stuff_classes") or []
        known = [label for label in labels[np.argsort(-areas)].tolist() if 0 <= label < len(names)]
        shown = [(sem_seg == label, self._stuff_color(label), names[label]) for label in known]
        self._draw_regions(shown, alpha, edge_color, area_threshold, draw_text)
        return self.output

    def draw_panoptic_seg(
        self, panoptic_seg, segments_info: list[dict] | None, area_threshold: int | None = None, alpha: float = 0.7
    ) -> VisImage:
        """Draws an (H, W) map of segment ids. ``segments_info`` None: ids are category · label_divisor + instance."""
        ids = _to_array(panoptic_seg)
        segments = self._segments_of(ids) if segments_info is None else segments_info
        present = set(np.unique(ids).tolist())
        segments = [segment for segment in segments if segment["id"] in present]
        if self._instance_mode == ColorMode.IMAGE_BW:
            self._fade(np.isin(ids, [segment["id"] for segment in segments]))
        names = self.metadata.get("stuff_classes")
        stuff = [(s["id"], s["category_id"]) for s in segments if not s.get("isthing", True)]
        regions = [(ids == i, self._stuff_color(k), names[k] if names else k) for i, k in stuff]
        self._draw_regions(regions, alpha, _OFF_WHITE, area_threshold, draw_text=False)
        things = [segment for segment in segments if segment.get("isthing", True)]
        categories = [segment["category_id"] for segment in things]
        scores = [segment["score"] for segment in things] if all("score" in s for s in things) else None
        crowds = [segment.get("iscrowd", 0) for segment in things]
        self.overlay_instances(
            masks=[ids == segment["id"] for segment in things],
            labels=_label_texts(categories, scores, self.metadata.get("thing_classes"), crowds),
            assigned_colors=self._category_colors(categories) if self.metadata.get("thing_colors") else None,
            alpha=alpha,
        )
        # Stuff is named last: a thing in front must not cover a name.
        for mask, color, name in regions:
            if mask.sum() >= self._min_area(area_threshold):
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
        self,
        *,
        boxes=None,
        labels: list[str] | None = None,
        masks=None,
        keypoints=None,
        assigned_colors: list | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draws instances, large ones first, all labels on top.

        Args:
            boxes: Boxes or (N, 4) XYXY.
            masks: PolygonMasks, BitMasks, (N, H, W), or per instance an (H, W) array, an RLE or a list of polygons.
            assigned_colors: per instance; by default different ones.
        """
        if keypoints is not None:
            raise ImportError("drawing key points is outside the embedded engine: install Detectron2")
        boxes = _to_array(boxes.tensor if isinstance(boxes, Boxes) else boxes) if boxes is not None else None
        masks = None if masks is None else self._to_masks(masks)
        given = {"boxes": boxes, "masks": masks, "labels": labels, "assigned_colors": assigned_colors}
        lengths = {name: len(values) for name, values in given.items() if values is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"boxes, masks, labels and colours must be equally many, got {lengths}")
        count = max(lengths.values(), default=0)
        colors = [_palette(i) for i in range(count)] if assigned_colors is None else assigned_colors
        if boxes is not None:
            areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        else:
            areas = np.array([mask.sum() for mask in masks or []])
        order = np.argsort(-areas, kind="stable").tolist()
        for i in order:
            if masks is not None:
                self._draw_mask(masks[i], colors[i], alpha, brightened(colors[i], 0.35))
        for i in order if boxes is not None else ():
            self.draw_box(boxes[i], alpha=0.9 if masks is None else 0.5, edge_color=colors[i])
        for i in order if labels is not None else ():
            if boxes is None:
                self._label_mask(masks[i], labels[i], colors[i])
            else:
                text_color = brightened(colors[i], 0.6)
                self.output.write(labels[i], boxes[i][:2], text_color, self._default_font_size, avoid=True)
        return self.output

    def draw_text(
        self,
        text: str,
        position,
        *,
        font_size: float | None = None,
        color="g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Writes ``text`` below the point (x, y); ``font_size`` is in pixels of the drawing."""
        if rotation:
            raise ImportError("rotated text is outside the embedded engine: install Detectron2")
        anchor = {"left": 0.0, "center": 0.5, "right": 1.0}[horizontal_alignment]
        self.output.write(text, position, color, font_size or self._default_font_size, (anchor, 0.0))
        return self.output

    def draw_box(self, box_coord, alpha: float = 0.5, edge_color="g", line_style: str = "-") -> VisImage:
        """Outlines an XYXY box; any ``line_style`` other than "-" gives dashes."""
        x0, y0, x1, y1 = (float(value) for value in box_coord)
        self._draw_path([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], edge_color, alpha, line_style, None)
        return self.output

    def draw_line(self, x_data, y_data, color, linestyle: str = "-", linewidth: float | None = None) -> VisImage:
        """Draws a line through the points, ``linewidth`` image pixels wide."""
        self._draw_path(np.stack([x_data, y_data], axis=1), color, 1.0, linestyle, linewidth)
        return self.output

    def _draw_path(self, points, color, alpha: float, style: str, width: float | None) -> None:
        points = np.asarray(points, dtype=float)
        pixels = self.output.line_width if width is None else max(round(width * self.output.scale), 1)
        lines = [points] if style == "-" else dashes(points, 4 * pixels / self.output.scale)
        self.output.stroke(lines, color, alpha, pixels)

    def draw_circle(self, circle_coord, color, radius: float = 3) -> VisImage:
        """Fills a circle about (x, y)."""
        angles = np.linspace(0, 2 * np.pi, 33)[:-1]
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
        self.output.fill_polygon(ring + np.asarray(circle_coord, dtype=float), color, 1.0)
        return self.output

    def draw_polygon(self, segment, color, edge_color=None, alpha: float = 0.5) -> VisImage:
        """Fills an (N, 2) polygon and outlines it."""
        points = np.asarray(segment, dtype=float).reshape(-1, 2)
        self.output.fill_polygon(points, color, alpha)
        edge = brightened(color, 0.35) if edge_color is None else edge_color
        self.output.stroke([np.vstack([points, points[:1]])], edge, min(alpha + 0.3, 1.0), self.output.line_width)
        return self.output

    def draw_binary_mask(
        self,
        binary_mask,
        color=None,
        *,
        edge_color=None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: int | None = 10,
    ) -> VisImage:
        """Draws an (H, W) mask, except its parts smaller than ``area_threshold`` pixels, with a label on it."""
        color = _palette(0) if color is None else color
        self._draw_regions([(_to_array(binary_mask).astype(bool), color, text)], alpha, edge_color, area_threshold)
        return self.output

    def draw_soft_mask(self, soft_mask, color=None, *, text: str | None = None, alpha: float = 0.5) -> VisImage:
        """Draws an (H, W) mask of opacities in 0–1."""
        soft = _to_array(soft_mask).astype(np.float32)
        color = _palette(0) if color is None else color
        self.output.fill_mask(soft, color, alpha)
        if text is not None:
            self._label_mask(soft > 0.5, text, color)
        return self.output

    def get_output(self) -> VisImage:
        """The drawing."""
        return self.output

    def _min_area(self, area_threshold: int | None) -> float:
        """None: too small to be seen in a picture of this size."""
        return self.img.shape[0] * self.img.shape[1] / 5000 if area_threshold is None else area_threshold

    def _draw_regions(self, regions: list, alpha: float, edge_color, area_threshold, draw_text: bool = True) -> None:
        """Draws (mask, colour, name or None) tuples, then writes the names."""
        limit = self._min_area(area_threshold)
        shown = [(without_small_parts(mask, limit), color, name) for mask, color, name in regions]
        for mask, color, _ in shown:
            self._draw_mask(mask, color, alpha, edge_color)
        for mask, color, name in shown if draw_text else ():
            if name is not None and mask.any():
                self._label_mask(mask, name, color)

    def _draw_mask(self, mask: np.ndarray, color, alpha: float, edge_color) -> None:
        if not mask.any():
            return
        self.output.fill_mask(mask, color, alpha)
        if edge_color is not None:
            self.output.outline_mask(mask, edge_color, 0.9, max(self.output.line_width - 1, 1))

    def _label_mask(self, mask: np.ndarray, text, color) -> None:
        """Writes where the mask is widest."""
        depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        text_color = brightened(color, 0.6)
        self.output.write(str(text), (x - 0.5, y - 0.5), text_color, self._default_font_size, (0.5, 0.5), avoid=True)

    def _to_masks(self, masks) -> list[np.ndarray]:
        """Boolean (H, W) arrays."""
        if isinstance(masks, PolygonMasks):
            masks = masks.polygons
        elif isinstance(masks, BitMasks | torch.Tensor):
            masks = _to_array(masks.tensor if isinstance(masks, BitMasks) else masks)
        return [self._to_mask(mask) for mask in masks]

    def _to_mask(self, mask) -> np.ndarray:
        height, width = self.img.shape[:2]
        if isinstance(mask, list):
            mask = mask_util.merge(mask_util.frPyObjects([np.ravel(p).tolist() for p in mask], height, width))
        elif isinstance(mask, dict) and isinstance(mask["counts"], list):
            mask = mask_util.frPyObjects(mask, *mask["size"])
        mask = mask_util.decode(mask) if isinstance(mask, dict) else _to_array(mask)
        if mask.shape != (height, width):
            raise ValueError(f"a mask is {mask.shape}, the image {(height, width)}: resize one of them")
        return mask.astype(bool)

    def _fade(self, kept: np.ndarray) -> None:
        """Starts again from the image in grey, with its colours only where ``kept`` is True."""
        grey = self.img.mean(axis=2, keepdims=True)
        self.output.reset_image(np.where(kept[:, :, None], self.img, grey))

    def _stuff_color(self, category: int) -> np.ndarray:
        colors = self.metadata.get("stuff_colors") or []
        return np.array(colors[category]) / 255 if category < len(colors) else _palette(category)

    def _category_colors(self, categories: list[int], jittering: bool = True) -> list[np.ndarray]:
        """The categories' colours, a little off each, so that neighbours of one category can be told apart."""
        spread = 0.12 if jittering else 0.0
        noise = self._rng.uniform(-spread, spread, (len(categories), 3))
        return [
            (np.array(self.metadata.thing_colors[c]) / 255 + n).clip(0, 1)
            for c, n in zip(categories, noise, strict=True)
        ]


def _palette(index: int) -> np.ndarray:
    colors = colormap(rgb=True, maximum=1)
    return colors[index % len(colors)]


def _to_array(values) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _label_texts(classes, scores, class_names, is_crowd=None) -> list[str] | None:
    """'name 98%|crowd' for each instance, of what is known."""
    columns = []
    if classes is not None:
        columns.append([class_names[c] if class_names else str(c) for c in classes])
    if scores is not None:
        columns.append([f"{score * 100:.0f}%" for score in scores])
    if not columns:
        return None
    texts = [" ".join(words) for words in zip(*columns, strict=True)]
    return [text + "|crowd" * bool(crowd) for text, crowd in zip(texts, is_crowd or [0] * len(texts), strict=True)]


def _read(file_name: str) -> np.ndarray:
    with PathManager.open(file_name, "rb") as stream, Image.open(stream) as image:
        return np.asarray(image)
