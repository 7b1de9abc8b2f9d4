"""What lies beside the result files: overlays, GeoTIFFs, frames, and annotations to correct in a labelling tool."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pnm.annotations.annotation_set import Category
from pnm.formats.atomic_files import write_bytes
from pnm.formats.folders import stem
from pnm.masks.crops import MaskCrop
from pnm.pictures.geotiff import encode_geotiff
from pnm.pictures.overlay import draw_objects, draw_segments, encode_jpeg
from pnm.pictures.pictures import Picture
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.predicted_image import PredictedImage


@dataclass(frozen=True)
class Beside:
    """What is written of each image beside its results.

    Attributes:
        folder: the output.
        categories: with the ids that predictions have.
        min_score: objects below are not drawn.
        overlays: whether pictures are drawn.
        frames: whether the pictures themselves are kept, as of a video.
    """

    folder: Path
    categories: Sequence[Category]
    min_score: float
    overlays: bool
    frames: bool = False

    def write(self, name: str, picture: Picture, predicted: PredictedImage) -> None:
        """All of it, of one image."""
        if self.overlays:
            drawn = draw_prediction(picture.pixels, predicted, self.categories, self.min_score)
            write_bytes(self.folder / "overlays" / f"{stem(name)}.jpg", encode_jpeg(drawn))
        if picture.geo:
            classes = [category.id for category in self.categories if category.id is not None]
            content = encode_geotiff(
                numbers_of(predicted, self.min_score), picture.geo, classes if predicted.task == "semantic" else ()
            )
            write_bytes(self.folder / "geotiff" / f"{stem(name)}.tif", content)
        if self.frames:
            done, png = cv2.imencode(".png", picture.pixels[..., ::-1])
            assert done
            write_bytes(self.folder / "frames" / name, png.tobytes())


def draw_prediction(
    pixels: np.ndarray, predicted: PredictedImage, categories: Sequence[Category], min_score: float
) -> np.ndarray:
    """(H, W, 3) uint8: an image (H, W, 3) uint8 under its prediction, with names, and scores of objects in percent."""
    name_of = {category.id: category.name for category in categories}
    prediction = predicted.prediction
    if isinstance(prediction, Objects):
        kept = _certain(prediction, min_score)
        names = [f"{name_of[prediction.categories[n]]} {100 * prediction.scores[n]:.0f}%" for n in kept]
        return draw_objects(pixels, [prediction.masks[n] for n in kept], names)
    labelled = {
        label: name_of[category] for label, category in zip(prediction.segments, prediction.categories, strict=True)
    }
    return draw_segments(pixels, prediction.labels, labelled, _colours(prediction, categories))


def _colours(prediction: Partition, categories: Sequence[Category]) -> dict[int, int]:
    """The number of each segment's colour: things differ, a class of stuff has one on all images."""
    place_of = {category.id: place for place, category in enumerate(categories)}
    colours = {}
    for n, (label, category) in enumerate(zip(prediction.segments, prediction.categories)):
        place = place_of[category]
        colours[label] = len(categories) + n if categories[place].isthing else place
    return colours


def _certain(objects: Objects, min_score: float) -> list[int]:
    """Places of the objects of at least a score."""
    return [n for n, score in enumerate(objects.scores) if score >= min_score]


def numbers_of(predicted: PredictedImage, min_score: float) -> np.ndarray:
    """A map of a prediction: classes, panoptic ids in 32 bits, or in 16 bits the place of the object on top in the
    image's results, from 1, objects below a score left out."""
    prediction = predicted.prediction
    if isinstance(prediction, Partition):
        return prediction.labels if predicted.task == "semantic" else prediction.labels.astype(np.uint32)
    numbers = np.zeros(prediction.size, np.uint16)
    for n in reversed(_certain(prediction, min_score)):
        _window(numbers, prediction.masks[n])[prediction.masks[n].pixels] = n + 1
    return numbers


def _window(numbers: np.ndarray, mask: MaskCrop) -> np.ndarray:
    height, width = mask.pixels.shape
    return numbers[mask.top : mask.top + height, mask.left : mask.left + width]
