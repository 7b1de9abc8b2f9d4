"""Which images and objects a page shows, and their pictures. Only what is shown is read."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from pnm.reporting.blocks import Card, percent, signed
from pnm.reporting.pictures import (
    Box,
    Photograph,
    Picture,
    error_map,
    fitted,
    overlay,
    picture,
    read_photograph,
    resized_photograph,
    resized_scene,
    worst_patch,
)
from pnm.scoring.error_survey import Scene, TaskErrors
from pnm.scoring.scores import ResultFiles

SMALL_SIDE = 200  # px, of pictures in long lists
_MARGIN, _LEAST_VIEW = 0.3, 24  # around an object, of its sides; least side of a view in px
_MOST_OBLONG = 1.6  # of a view


class Sources(NamedTuple):
    """Where pictures come from.

    Attributes:
        files, tasks: of one or two predictions.
        images: their keys.
        names: of the images.
        photographs: their files, or None.
    """

    files: Sequence[ResultFiles]
    tasks: Sequence[TaskErrors]
    images: Sequence[Any]
    names: Sequence[str]
    photographs: Sequence[Path | None]

    def matched(self, n: int) -> list[Any]:
        """What belongs together in image n, for each prediction."""
        return [task.matched(one.read(self.images[n])) for one, task in zip(self.files, self.tasks)]

    def letters(self) -> list[str]:
        return ["A", "B"] if len(self.files) > 1 else [""]


def lowest(values: np.ndarray, number: int) -> list[int]:
    """Places of the lowest values, nan left out, equals in their order."""
    order = np.argsort(values, kind="stable")
    return [int(n) for n in order[:number] if not np.isnan(values[n])]


def image_cards(sources: Sources, chosen: Sequence[int], texts: Sequence[str], what: str) -> list[Card]:
    """A card for each of the ``chosen`` images, with a bar that calls them ``what``."""
    bar = tqdm(list(zip(chosen, texts)), desc=f"pictures of {what}", unit="image", disable=not chosen)
    return [_image_card(sources, n, text) for n, text in bar]


def _image_card(sources: Sources, n: int, text: str) -> Card:
    scenes = [task.scene(one) for task, one in zip(sources.tasks, sources.matched(n))]
    photograph = read_photograph(sources.photographs[n], scenes[0].truth.shape)
    pictures = scene_pictures(photograph, scenes, sources.letters(), sources.names[n])
    return Card(sources.names[n], _remarked(text, photograph), pictures)


def _remarked(text: str, photograph: Photograph) -> str:
    return f"{text}; {photograph.remark}" if photograph.remark else text


def scene_pictures(photograph: Photograph, scenes: Sequence[Scene], letters: Sequence[str], name: str) -> list[Picture]:
    """Image, truth, predictions, their errors, and these where they are densest."""
    shape = photograph.pixels.shape
    size = fitted(shape)
    small, maps = resized_photograph(photograph.pixels, size), [resized_scene(scene, size) for scene in scenes]
    pictures = [picture(small, "image", f"image {name}")] if photograph.is_there else []
    pictures.append(picture(overlay(small, maps[0].truth), "truth", f"ground truth of {name}"))
    for letter, one in zip(letters, maps):
        title = f"prediction {letter}".strip()
        pictures.append(picture(overlay(small, one.pred), title, f"{title} of {name}"))
    patch = worst_patch(_most_telling(scenes))
    for letter, one in zip(letters, maps):
        title = f"errors {letter}".strip()
        page = _framed(error_map(small, one), patch, shape)
        pictures.append(picture(page, title, f"{title} of {name}, the enlarged part framed"))
    return pictures + _zooms(photograph, scenes, letters, patch, name)


def _zooms(
    photograph: Photograph, scenes: Sequence[Scene], letters: Sequence[str], patch: Box, name: str
) -> list[Picture]:
    part = patch.of(photograph.pixels)
    size = fitted(part.shape)
    large = resized_photograph(part, size)
    pictures = [picture(large, "enlarged", f"part of image {name}, enlarged")] if photograph.is_there else []
    for letter, scene in zip(letters, scenes):
        one = resized_scene(Scene(*(patch.of(layer) for layer in scene)), size)
        title = f"errors {letter}, enlarged" if letter else "errors, enlarged"
        page = error_map(large, one, size[0] / part.shape[1])
        pictures.append(picture(page, title, f"{title}, of {name}"))
    return pictures


def _most_telling(scenes: Sequence[Scene]) -> np.ndarray:
    """(H, W) bool: wrong pixels; of two predictions those that one of them has right, if there are any."""
    if len(scenes) == 2 and (scenes[0].wrong != scenes[1].wrong).any():
        return scenes[0].wrong != scenes[1].wrong
    return scenes[0].wrong


def _framed(page: np.ndarray, box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """The picture with a black frame around a box of the map of ``shape`` that it shows."""
    scale = page.shape[0] / shape[0], page.shape[1] / shape[1]
    top, bottom = round(box.top * scale[0]), min(round(box.bottom * scale[0]), page.shape[0]) - 1
    left, right = round(box.left * scale[1]), min(round(box.right * scale[1]), page.shape[1]) - 1
    page = page.copy()
    page[[top, bottom], left : right + 1] = 0
    page[top : bottom + 1, [left, right]] = 0
    return page


def object_places(values: Sequence[np.ndarray], number: int) -> list[tuple[int, int]]:
    """(image, object) of the lowest of the ``values`` that each image has, nan left out."""
    lengths = [len(row) for row in values]
    if not sum(lengths):
        return []
    image, first = np.repeat(np.arange(len(values)), lengths), np.cumsum([0, *lengths[:-1]])
    flat = np.concatenate(values)
    return [(int(image[n]), int(n - first[image[n]])) for n in lowest(flat, number)]


def object_cards(sources: Sources, places: Sequence[tuple[int, int]], texts: Sequence[str], what: str) -> list[Card]:
    """A card for each true object, cut out of its image."""
    bar = tqdm(list(zip(places, texts)), desc=f"pictures of {what}", unit="object", disable=not places)
    return [_object_card(sources, n, number, text) for (n, number), text in bar]


def _object_card(sources: Sources, n: int, number: int, text: str) -> Card:
    views = [task.object_view(one, number) for task, one in zip(sources.tasks, sources.matched(n))]
    shape = views[0].truth.shape
    box = _around(np.logical_or.reduce([side for view in views for side in (view.truth, view.pred)]))
    photograph = read_photograph(sources.photographs[n], shape)
    part = box.of(photograph.pixels)
    size = fitted(part.shape)
    large, name = resized_photograph(part, size), f"{views[0].class_name} in {sources.names[n]}"
    maps = [resized_scene(_cut(view.truth, view.pred, box), size) for view in views]
    pictures = [picture(large, "image", f"{name}, cut out")] if photograph.is_there else []
    pictures.append(picture(overlay(large, maps[0].truth), "truth", f"true mask of {name}"))
    for letter, one in zip(sources.letters(), maps):
        title = f"prediction {letter}".strip()
        pictures.append(picture(overlay(large, one.pred), title, f"{title} of {name}"))
    for letter, one in zip(sources.letters(), maps):
        title = f"errors {letter}".strip()
        page = error_map(large, one, size[0] / part.shape[1])
        pictures.append(picture(page, title, f"{title} of {name}"))
    return Card(name, _remarked(text, photograph), pictures)


def _cut(truth: np.ndarray, pred: np.ndarray, box: Box) -> Scene:
    true, predicted = box.of(truth), box.of(pred)
    looked = np.ones_like(true)
    return Scene(true.astype(np.int32), predicted.astype(np.int32), looked, true != predicted)


def _around(mask: np.ndarray) -> Box:
    """The box of a mask with a margin, within the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return Box(0, 0, *mask.shape)
    extents = [(int(found[0]), int(found[-1]) + 1) for found in (rows, columns)]
    least = max(_LEAST_VIEW, *((1 + 2 * _MARGIN) * (last - first) / _MOST_OBLONG for first, last in extents))
    edges = []
    for (first, last), side in zip(extents, mask.shape):
        margin = math.ceil(max(_MARGIN * (last - first), (least - (last - first)) / 2))
        edges.append((max(0, first - margin), min(side, last + margin)))
    return Box(edges[0][0], edges[1][0], edges[0][1], edges[1][1])


def doubt_cards(sources: Sources, chosen: Sequence[int], texts: Sequence[str]) -> list[Card]:
    """A small picture of the errors of each image."""
    cards, title = [], f"errors {sources.letters()[0]}".strip()
    for n, text in tqdm(list(zip(chosen, texts)), desc="pictures of doubts", unit="image", disable=not chosen):
        scene = sources.tasks[0].scene(sources.matched(n)[0])
        photograph = read_photograph(sources.photographs[n], scene.truth.shape)
        size = fitted(photograph.pixels.shape, SMALL_SIDE)
        small = resized_photograph(photograph.pixels, size)
        name = sources.names[n]
        pictures = [
            picture(overlay(small, resized_scene(scene, size).truth), "truth", f"annotation of {name}"),
            picture(error_map(small, resized_scene(scene, size)), title, f"{title} of {name}"),
        ]
        cards.append(Card(name, _remarked(text, photograph), pictures))
    return cards


def iou_text(values: Sequence[float], letters: Sequence[str]) -> str:
    """Boundary IoU of one or two predictions in words."""
    if len(values) == 1:
        return f"Boundary IoU {percent(values[0], 1)} %"
    parts = [f"{letter} {percent(value, 1)} %" for letter, value in zip(letters, values)]
    return f"Boundary IoU {', '.join(parts)} ({signed(values[1] - values[0])})"
