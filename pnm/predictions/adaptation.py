"""Weights of the universal refiner adapted to the pictures that it is about to refine, kept beside the output."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pnm.errors import UserError
from pnm.formats.atomic_files import atomic_file, check_writable
from pnm.formats.image_files import ImageFiles
from pnm.formats.safe_checkpoint import load_torch
from pnm.masks.crops import MaskCrop, crop_segments
from pnm.object_refinement.trained_weights import weights_file
from pnm.pictures.pictures import Toning
from pnm.pictures.rgb_files import picture_size, read_rgb
from pnm.predictions.image_predictions import Partition
from pnm.predictions.mask_reading import MaskReading, read_mask
from pnm.predictions.paired_masks import paired
from pnm.predictions.prediction_set import files_digest
from pnm.predictions.refinement import Prediction, opened, with_image
from pnm.predictions.universal_refiner import UniversalSettings

_MOST_PICTURES = 1000  # that masks are read of, spread over all
ENDING = ".adapted.pth"
_LEARNED = "learned_from"


def adapted_weights(args: argparse.Namespace, settings: UniversalSettings) -> Path:
    """The file of weights that have learned from the masks which the arguments name; made if it isn't there.

    Raises:
        UserError: no mask to learn from, or of another size than its image; masks that can't be read; weights that are
            there and have learned from something else.
    """
    output = args.output.resolve()
    path = output.with_name(output.name + ENDING)
    check_writable(path)
    pictures = list(_pictures(args, settings))
    if not pictures:
        raise UserError("--adapt has no mask to learn from: leave it away")
    learned = _fingerprint(args, settings)
    if path.exists() and not args.overwrite:
        if load_torch(path).get(_LEARNED) != learned:
            raise UserError(f"{path} has learned from other masks, or for another time: delete it, or add --overwrite")
        print(f"{path} is there already and is used")
        return path
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
        torch.save({**checkpoint(network, belief), _LEARNED: learned}, file)
    return path


def _fingerprint(args: argparse.Namespace, settings: UniversalSettings) -> str:
    """Of all that adapted weights depend on: masks and images by their names, sizes and times."""
    places = args.paths if args.kind == "folders" else [args.image, args.mask] if args.kind == "mask" else []
    files = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    if args.kind == "files":
        files = [args.predictions]
    digest = files_digest([weights_file(settings.weights)], [(str(path), path) for path in files])
    reading = "".join(f" {option}" for option in MaskReading(args.mask_kind, args.invert).options())
    return f"{digest} {args.adapt} {settings.toning}{reading}"


def _read(path: Path, toning: Toning, size: tuple[int, int]) -> np.ndarray:
    image = read_rgb(path, toning)
    if image.shape[:2] != size:
        raise UserError(
            f"{path} is {image.shape[0]} x {image.shape[1]}, its mask {size[0]} x {size[1]} (height x width): --adapt "
            "needs masks of their images' sizes"
        )
    return image


def _pictures(args: argparse.Namespace, settings: UniversalSettings) -> Iterator[tuple]:
    """How each picture is read, and its masks."""
    toning = settings.toning
    if args.kind == "files":
        images = ImageFiles(args.images, args.image_info)
        predictions = opened(args, images, None)
        present = with_image(args, predictions, images)
        for key in _spread([key for key in predictions.keys if key in present]):
            prediction = predictions.read(key)
            yield partial(_read, images.path(key), toning, prediction.size), _crops(prediction)
        return
    pairs = [(args.image, args.mask)]
    if args.kind == "folders":
        photos, masks = args.paths
        pairs = [(photos / photo, masks / mask) for photo, mask in paired(photos, masks).masks]
    for photo, mask in pairs:
        if picture_size(photo) != picture_size(mask):
            sizes = " x ".join(map(str, picture_size(mask))), " x ".join(map(str, picture_size(photo)))
            raise UserError(f"{mask} is {sizes[0]}, {photo} {sizes[1]} (height x width): --adapt needs equal sizes")
    for photo, mask in _spread(pairs):
        prediction = read_mask(mask, MaskReading(args.mask_kind, args.invert)).prediction
        yield partial(_read, photo, toning, prediction.size), _crops(prediction)


def _spread(items: list) -> list:
    places = np.linspace(0, len(items) - 1, min(_MOST_PICTURES, len(items))).astype(int)
    return [items[place] for place in places.tolist()]


def _crops(prediction: Prediction) -> list[MaskCrop]:
    if isinstance(prediction, Partition):
        return crop_segments(prediction.labels, prediction.segments)
    return list(prediction.masks)
