"""Result files of any segmentation model: read image by image for a refiner, and written back refined.

``predictions = open_predictions(path)`` tells the format; ``predictions.read(key)`` gives :class:`Objects` (instances)
or a :class:`Partition` (semantic, panoptic); ``ImageFiles(folder).path(key)`` the image; ``predictions.writer(output,
fingerprint)`` takes what became of them and makes a file of the same format, with the same ids, scores and order. Only
a panoptic refiner may change the list of segments, by a Partition of its own.
"""

from pnm.formats.image_files import ImageFiles, Key, missing_images
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.opening import open_predictions
from pnm.predictions.prediction_set import PredictionSet
from pnm.predictions.prediction_writer import PredictionWriter

__all__ = [
    "ImageFiles",
    "Key",
    "Objects",
    "Partition",
    "PredictionSet",
    "PredictionWriter",
    "missing_images",
    "open_predictions",
]
