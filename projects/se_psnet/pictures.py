"""What SE-PSNet says of an image as pictures, the paper's Fig. 8 and 9. All are (h, w, 3) uint8, RGB."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from pnm.masks.colours import colour_heat, colour_labels
from pnm.silhouettes.silhouettes import label_silhouettes

from ..dataset_mappers.panoptic_classes import MOST_CLASSES
from .basis_head import STRIDE
from .meta_arch import SEPSNet
from .results import image_results

PREDICTED_IOU = "predicted IoU"  # title of the picture whose colours are those of colour_scores
_OPACITY = 0.5
_OUTLINE = 255
_FIRST_INSTANCE = MOST_CLASSES + 2  # of colours; those before it are of stuff, the same on every image


class Silhouettes(NamedTuple):
    """(h, w) float32 probabilities or truth, 0 to 1; None where the network has no such output."""

    things: np.ndarray | None
    stuff: np.ndarray | None


class TrueMap(NamedTuple):
    """Panoptic ground truth of an image.

    Attributes:
        ids: (H, W) integers, 0 is void.
        segments: ``{"id", "category_id", "isthing", "iscrowd"}`` of each, and of stuff "label", its number among the
            stuff categories, from 1 on.
    """

    ids: np.ndarray
    segments: Sequence[Mapping[str, Any]]


@torch.no_grad()
def silhouettes_of(model: SEPSNet, sample: dict[str, Any]) -> Silhouettes:
    """What the heads say of silhouettes, at the size of the network's input; inference runs no such head of stuff."""
    images = model.normalised_images([sample])
    features = model.backbone(images.tensor)
    things, stuff, head = model.basis_module(features).silhouettes, None, model.sem_seg_head
    if head is not None and head.silhouette_predictor is not None:
        stuff = head.silhouette_predictor(head.summed(features))
    height, width = images.image_sizes[0]

    def probs(logits: torch.Tensor | None) -> np.ndarray | None:
        if logits is None:
            return None
        large = F.interpolate(logits.float(), scale_factor=STRIDE, mode="bilinear", align_corners=False)
        return large[0, 0, :height, :width].sigmoid().cpu().numpy()

    return Silhouettes(probs(things), probs(stuff))


def true_silhouettes(truth: TrueMap) -> Silhouettes:
    """Silhouettes as the heads learn them: of instances, and of stuff classes and things as one. Void has none, nor,
    of things, has a crowd; among stuff it is a thing."""
    instances, stuff = np.zeros((2, *truth.ids.shape), np.int64)
    counts_for_things, counts_for_stuff = np.zeros((2, *truth.ids.shape), np.bool_)
    for segment in truth.segments:
        inside = truth.ids == segment["id"]
        counts_for_stuff |= inside
        if not (segment["isthing"] and segment.get("iscrowd", 0)):
            counts_for_things |= inside
        if segment["isthing"]:
            instances[inside] = segment["id"]
        else:
            stuff[inside] = segment["category_id"] + 1
    lines = [
        label_silhouettes(torch.from_numpy(labels), torch.from_numpy(counts)).numpy().astype(np.float32)
        for labels, counts in ((instances, counts_for_things), (stuff, counts_for_stuff))
    ]
    return Silhouettes(*lines)


def draw_silhouettes(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Silhouettes (h, w), 0 to 1, as heat at another size (width, height); made smaller, lines stay bright."""
    side = max(1, -(-heat.shape[1] // size[0]), -(-heat.shape[0] // size[1]))
    widened = cv2.dilate(heat, np.ones((side, side), np.uint8))
    return colour_heat(cv2.resize(widened, size, interpolation=cv2.INTER_LINEAR))


def colour_scores(scores: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 of scores from 0 to 1: from violet over green to yellow."""
    levels = np.rint(np.clip(scores, 0, 1) * 255).astype(np.uint8)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_VIRIDIS).reshape(256, 3)[:, ::-1]
    return table[levels]


def score_bar() -> np.ndarray:
    """The colours of scores, from 0 on the left to 1 on the right."""
    return colour_scores(np.linspace(0, 1, 256)[None].repeat(8, 0))


def draw_instances(image: np.ndarray, masks: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Instances over an image in grey, each in its colour with a white contour; later ones lie on top.

    Args:
        image: (h, w, 3) uint8.
        masks: (R, h, w) bool.
        colours: (R, 3) uint8.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    page = np.repeat((grey * (1 - _OPACITY)).astype(np.uint8)[..., None], 3, axis=2)
    shade = _OPACITY + (1 - _OPACITY) * grey.astype(np.float64) / 255
    for mask, colour in zip(masks, colours, strict=True):
        page[mask] = np.rint(shade[mask][:, None] * colour).astype(np.uint8)
        page[label_silhouettes(torch.from_numpy(mask)).numpy() & mask] = _OUTLINE
    return page


def draw_prediction(
    image: np.ndarray, results: Mapping[str, Any], min_score: float, size: tuple[int, int]
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Titled pictures of instances and of the panoptic map; and its colours' numbers (h, w), None without a map.

    Args:
        image: (H, W, 3) uint8.
        results: of :func:`.results.image_results` at the image's size.
        min_score: of instances that are drawn.
        size: (width, height) of the pictures.
    """
    found = results["instances"]
    scores = found.scores.numpy()
    rows = np.argsort(scores, kind="stable")  # the best on top
    rows = rows[scores[rows] >= min_score]
    masks = np.array([_resized(found.pred_masks[n].numpy().view(np.uint8), size) for n in rows], np.bool_)
    masks = masks.reshape(len(rows), size[1], size[0])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    colours = colour_labels(_FIRST_INSTANCE + np.arange(len(found) + 1)[None])[0]  # OpenCV refuses what is empty
    pictures = {"instances": draw_instances(small, masks, colours[rows])}
    if found.has("mask_iou_scores"):
        pictures[PREDICTED_IOU] = draw_instances(small, masks, colour_scores(found.mask_iou_scores.numpy()[rows]))
    if "panoptic_seg" not in results:
        return pictures, None
    ids, segments = results["panoptic_seg"]
    number_of = np.zeros(max((s["id"] for s in segments), default=0) + 1, np.int32)
    for s in segments:  # an instance has the colour that it has among instances
        number_of[s["id"]] = _FIRST_INSTANCE + s["instance_id"] if s["isthing"] else 1 + s["category_id"]
    numbers = _resized(number_of[ids.numpy()], size)
    return {**pictures, "panoptic": _draw_map(numbers, np.where(numbers >= _FIRST_INSTANCE, numbers, 0))}, numbers


def draw_truth(
    truth: TrueMap, predicted: np.ndarray | None, size: tuple[int, int], stuff: Sequence[int]
) -> dict[str, np.ndarray]:
    """Titled pictures of a panoptic ground truth at a size (width, height).

    Args:
        predicted: (h, w) colours' numbers of :func:`draw_prediction`. A true thing of which more than half of the union
            with a predicted one is common has its colour; stuff has its class's.
        stuff: the model's category of each stuff label.
    """
    ids, lines = _resized(truth.ids.astype(np.int32), size), true_silhouettes(truth)
    numbers, next_number = (
        np.zeros_like(ids),
        max(_FIRST_INSTANCE, 0 if predicted is None else int(predicted.max())) + 1,
    )
    for segment in truth.segments:
        inside = ids == segment["id"]
        if not segment["isthing"] and segment["label"] < len(stuff):
            numbers[inside] = 1 + stuff[segment["label"]]
            continue
        number = _same_segment(inside, predicted)
        if number is None or number < _FIRST_INSTANCE:
            number, next_number = next_number, next_number + 1
        numbers[inside] = number
    things = [segment["id"] for segment in truth.segments if segment["isthing"]]
    assert lines.things is not None and lines.stuff is not None
    return {
        "true silhouettes of things": draw_silhouettes(lines.things, size),
        "true silhouettes of stuff": draw_silhouettes(lines.stuff, size),
        "true panoptic": _draw_map(numbers, np.where(np.isin(ids, things), ids, 0)),
    }


def _draw_map(numbers: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """A panoptic map in its colours, with white contours of the instances, (h, w) integers, 0 for none."""
    page = colour_labels(numbers)
    page[label_silhouettes(torch.from_numpy(instances)).numpy() & (instances > 0)] = _OUTLINE
    return page


def _same_segment(inside: np.ndarray, predicted: np.ndarray | None) -> int | None:
    """Number of the predicted segment that has an IoU above 1/2 with the true one."""
    if predicted is None or not inside.any():
        return None
    numbers, counts = np.unique(predicted[inside], return_counts=True)
    number, common = int(numbers[counts.argmax()]), int(counts.max())
    union = int(inside.sum() + (predicted == number).sum()) - common
    return number if number and 2 * common > union else None


def _resized(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)


def pictures_of(
    model: SEPSNet, image: np.ndarray, sample: dict[str, Any], size: tuple[int, int], truth: TrueMap | None = None
) -> dict[str, np.ndarray]:
    """Titled pictures of what a network says of one image; of outputs that it lacks, none.

    Args:
        image: (H, W, 3) uint8, RGB.
        sample: the network's input, which has "image" alone.
        size: (width, height) of the pictures.
        truth: of the image, if it is known.
    """
    with torch.no_grad():
        output = model.predict([sample])[0]
    results = image_results(output, (image.shape[0], image.shape[1]), model.output_classes, model.settings)
    lines = silhouettes_of(model, sample)
    pictures = {"image": cv2.resize(image, size, interpolation=cv2.INTER_AREA)}
    for name, heat in (("things", lines.things), ("stuff", lines.stuff)):
        if heat is not None:
            pictures[f"silhouettes of {name}"] = draw_silhouettes(heat, size)
    drawn, numbers = draw_prediction(image, results, model.settings.fusion.min_score, size)
    return pictures | drawn | ({} if truth is None else draw_truth(truth, numbers, size, model.output_classes.stuff))
