"""One mask of one image, as people have it: any kind of picture in which an object can be told from the rest."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pnm.annotations.aligning import resized_mask
from pnm.errors import UserError
from pnm.formats.atomic_files import atomic_file
from pnm.masks.crops import crop_array, paste
from pnm.pictures.mask_pictures import exact_labels, foreground, read_mask_picture
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.refinement import VOID, Prediction, Step

_OUTPUTS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
_FEW = 16  # pixels of a side by which a mask may differ from its image and still be of the same proportions


def check_one_output(args: argparse.Namespace) -> None:
    """A UserError unless one mask can be written where the arguments say."""
    if args.output.exists() and not args.overwrite:
        raise UserError(f"{args.output} exists already; choose another --output, or add --overwrite")
    if args.output.suffix.lower() not in _OUTPUTS:
        raise UserError(f"--output is {args.output}, expected a *.png or *.tif for one mask")


def refine_one(args: argparse.Namespace, step: Step, task: str | None) -> None:
    """Refines one mask or label map of one image.

    Args:
        task: that the mask is of; None: "instance" where it has at most two values, else "semantic".

    Raises:
        UserError: a picture that is no mask, or of another size than the image; a refiner that changes the list of
            segments, which a picture alone doesn't have.
    """
    given = read_mask_picture(args.mask)
    content = step.read(args.image)
    if task is None:
        task = "instance" if len(np.unique(given)) <= 2 or args.mask.suffix.lower() in (".jpg", ".jpeg") else "semantic"
    mask = foreground(given, args.mask) if task == "instance" else exact_labels(given, args.mask)
    mask = _of_size(mask, args)
    if not mask.any():
        print(f"{args.mask} has no object in it: nothing is to be refined")
    prediction: Prediction
    if task == "instance":
        prediction = Objects(mask.shape, (crop_array(mask),), (1.0,), (0,))  # type: ignore[arg-type]
    else:
        segments = tuple(k for k in np.unique(mask).tolist() if k != VOID[task])
        prediction = Partition(mask, segments, segments)
    refined: Any = step.refine(content, prediction)
    if isinstance(refined, Partition):
        raise UserError(
            f"{args.mask} is one picture, which doesn't say the classes of its segments; this refiner takes panoptic "
            "result files, a JSON and its PNGs: name the JSON with --predictions"
        )
    result: Any = paste(refined[0], *mask.shape) if task == "instance" else refined
    changed = np.count_nonzero(result != mask)
    if task == "instance":
        top = given.max() if given.dtype.kind == "u" and given.max() else np.uint8(255)
        result = result.astype(top.dtype) * top
    with atomic_file(args.output) as file:
        Image.fromarray(result).save(file, format=_OUTPUTS[args.output.suffix.lower()])
    print(f"{args.output}: {changed} of {mask.size} pixels changed")


def _of_size(mask: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """The mask at the image's size: as it is, or resized if the user wants it."""
    with Image.open(args.image) as image:
        turned = image.getexif().get(0x112) in range(5, 9)
        size = image.size if turned else image.size[::-1]
    if mask.shape == size:
        return mask
    sizes = f"{args.mask} is {mask.shape[0]} x {mask.shape[1]}, {args.image} {size[0]} x {size[1]} (height x width)"
    if not args.resize_mask:
        scale = size[0] / mask.shape[0]
        fits = abs(mask.shape[1] * scale - size[1]) <= _FEW
        advice = "they have the same proportions: " if fits else "not even their proportions agree; if that is right, "
        raise UserError(f"{sizes}; {advice}--resize-mask brings the mask to the image's size")
    print(f"{sizes}: the mask is resized")
    if mask.dtype == np.bool_:
        return resized_mask(mask, size)
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, mask.shape))
    return mask[rows[:, None], columns]
