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
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.refinement import VOID, Prediction, Step

_OUTPUTS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
_ALMOST_GREY = 24  # how far the channels of a grey picture may be apart, of 255: a JPG moves them
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
    mask = foreground(given, args.mask) if task == "instance" else _labels(given, args.mask)
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


def read_mask_picture(path: Path) -> np.ndarray:
    """Values of a picture of a mask.

    A palette picture gives its indices. Of one with transparency, that is the mask, unless all is opaque; colours must
    be greys, or two, of which the brighter is the object.

    Returns:
        (H, W) uint8, uint16 or float32.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no picture, has several pages or many colours.
    """
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise UserError(f"{path} has {image.n_frames} pages, expected one mask: save the right one alone")  # type: ignore[attr-defined]
            mode, values = image.mode, np.asarray(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"mask {path} is missing: check the path") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no picture that can be read ({error}): expected a mask") from None
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.ndim == 3:
        return _of_channels(values, mode, path)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.min(initial=0) < 0 or values.max(initial=0) >= 2**16:
        raise UserError(f"{path} has values from {values.min()} to {values.max()}, expected 0 to {2**16 - 1}")
    return values.astype(np.uint8 if values.dtype == np.uint8 else np.uint16)


def _of_channels(values: np.ndarray, mode: str, path: Path) -> np.ndarray:
    alpha = values[..., -1] if mode in ("LA", "PA", "RGBA", "La", "RGBa") else None
    if alpha is not None and alpha.min() < 255:
        print(f"{path} has transparency: that is taken for the mask")
        return alpha
    colours = values[..., :-1] if alpha is not None else values
    if np.ptp(colours.astype(np.int16), axis=2).max() <= _ALMOST_GREY:
        return np.rint(colours.mean(axis=2)).astype(np.uint8)
    kinds, index = np.unique(colours.reshape(-1, colours.shape[2]), axis=0, return_inverse=True)
    if len(kinds) != 2:
        raise UserError(
            f"{path} is a picture of {len(kinds)} colours, expected a mask: two colours, greys, or transparency around "
            "the object"
        )
    order = kinds.sum(axis=1, dtype=np.int64).argsort(kind="stable")
    print(f"{path} has two colours: {kinds[order[1]].tolist()} is taken for the object")
    return np.where(index.reshape(colours.shape[:2]) == order[1], np.uint8(255), np.uint8(0))


def _labels(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind == "f" or path.suffix.lower() in (".jpg", ".jpeg"):
        raise UserError(f"{path} cannot hold labels, which must be exact: expected a grey or palette PNG")
    return values


def foreground(values: np.ndarray, name: Path) -> np.ndarray:
    """(H, W) bool: the object in a grey picture. Of two values it is the greater one, of more those from the middle of
    the range on, which is said. Numbers with a point are from 0 to 1."""
    levels = np.unique(values)
    if values.dtype.kind == "f" and not (np.isfinite(levels).all() and levels[0] >= 0 and levels[-1] <= 1):
        raise UserError(f"{name} has numbers beyond 0 to 1, or that aren't finite: expected a mask in that range")
    if len(levels) <= 2:
        return values == levels[-1] if len(levels) == 2 else values > 0
    middle = 0.5 if values.dtype.kind == "f" else (int(np.iinfo(values.dtype).max) + 1) // 2
    print(f"{name} has {len(levels)} values, expected 2: those from {middle} on are taken for the object")
    return values >= middle
