"""Weights of the universal refiner adapted to the pictures that it is about to refine, kept beside the output."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pnm.errors import UserError
from pnm.formats.atomic_files import atomic_file
from pnm.formats.image_files import ImageFiles
from pnm.masks.crops import MaskCrop, crop_segments
from pnm.object_refinement.trained_weights import weights_file
from pnm.pictures.rgb_files import read_rgb
from pnm.predictions.image_predictions import Partition
from pnm.predictions.one_mask import read_mask_prediction
from pnm.predictions.paired_masks import paired
from pnm.predictions.refinement import Prediction, opened, with_image
from pnm.predictions.universal_refiner import UniversalSettings

_MOST_PICTURES = 1000  # that masks are read of, spread over all
ENDING = ".adapted.pth"


def adapted_weights(args: argparse.Namespace, settings: UniversalSettings) -> Path:
    """The file of weights that have learned from the masks which the arguments name; made if it isn't there.

    Raises:
        UserError: no mask to learn from, or masks that can't be read.
    """
    path = args.output.with_name(args.output.name + ENDING)
    if path.exists() and not args.overwrite:
        print(f"{path} is there already and is used; delete it to adapt anew")
        return path
    pictures = list(_pictures(args, settings))
    if not pictures:
        raise UserError("--adapt has no mask to learn from: leave it away")
    import torch  # takes seconds

    from pnm.object_refinement.adapting import adapted
    from pnm.object_refinement.trained_network import checkpoint, load_network

    network, belief = load_network(weights_file(settings.weights))
    with tqdm(total=100, desc=f"adapting to {len(pictures)} pictures", unit="%", dynamic_ncols=True) as bar:

        def show(share: float) -> None:
            bar.update(round(100 * share) - bar.n)

        network = network.to(torch.device(settings.device))
        network = adapted(network, pictures, 60 * args.adapt, progress=show).cpu()
    with atomic_file(path) as file:
        torch.save(checkpoint(network, belief), file)
    return path


def _pictures(args: argparse.Namespace, settings: UniversalSettings) -> Iterator[tuple]:
    """How each picture is read, and its masks."""
    if args.kind == "folders":
        photos, masks = args.paths
        for photo, mask in _spread(paired(photos, masks).masks):
            yield partial(read_rgb, photos / photo, settings.toning), _crops(read_mask_prediction(masks / mask))
    elif args.kind == "mask":
        yield partial(read_rgb, args.image, settings.toning), _crops(read_mask_prediction(args.mask))
    else:
        images = ImageFiles(args.images, args.image_info)
        predictions = opened(args, images, None)
        present = with_image(args, predictions, images)
        for key in _spread([key for key in predictions.keys if key in present]):
            yield partial(read_rgb, images.path(key), settings.toning), _crops(predictions.read(key))


def _spread(items: list) -> list:
    places = np.linspace(0, len(items) - 1, min(_MOST_PICTURES, len(items))).astype(int)
    return [items[place] for place in places.tolist()]


def _crops(prediction: Prediction) -> list[MaskCrop]:
    if isinstance(prediction, Partition):
        return crop_segments(prediction.labels, prediction.segments)
    return list(prediction.masks)
