"""One mask of one image, as people have it: any kind of picture in which an object can be told from the rest."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pnm.annotations.aligning import resized_mask
from pnm.errors import UserError
from pnm.formats.atomic_files import atomic_file, write_bytes
from pnm.masks.crops import crop_array, paste
from pnm.pictures.geotiff import encode_geotiff
from pnm.pictures.mask_pictures import exact_labels, foreground, read_mask_picture
from pnm.pictures.samples import TIFFS, GeoTag, read_header
from pnm.predictions.detail_report import changes_file, details_file, write_changes, write_details
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.refinement import VOID, Prediction, Step
from pnm.predictions.refinement_details import details_of, refine_detailed

_OUTPUTS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
KEPT_ENDINGS = tuple(_OUTPUTS)  # of masks whose output is of the same kind
_SOFT_LEVELS, _SOFT_SHARE = 16, 0.75  # more values than labels have, most pixels being black or white: soft edges
_STEPS = (2, 4, 8, 9, 16)  # of antialiased masks: averages of 2 x 2 to 4 x 4 pixels
_FEW = 16  # pixels of a side by which a mask may differ from its image and still be of the same proportions


def check_one_output(args: argparse.Namespace) -> None:
    """A UserError unless one mask can be written where the arguments say."""
    if args.output.exists() and not args.overwrite:
        raise UserError(f"{args.output} exists already; choose another --output, or add --overwrite")
    if args.image.exists() and args.output.exists() and args.output.samefile(args.image):
        raise UserError(f"--output {args.output} is the photo itself: choose another")
    if args.output.suffix.lower() not in _OUTPUTS:
        raise UserError(f"--output is {args.output}, expected a *.png or *.tif for one mask")


class MaskJob(NamedTuple):
    """A picture of a mask, or a label map, its image, and where what becomes of it goes.

    Attributes:
        resizes: whether a mask of another size is brought to that of the image.
        details: gets ``<mask>.json`` and ``<mask>_changes.png``, see
            :class:`pnm.predictions.detail_report.DetailReport`.
    """

    image: Path
    mask: Path
    output: Path
    resizes: bool = False
    details: Path | None = None


def refine_one(args: argparse.Namespace, step: Step, task: str | None) -> None:
    """Refines one mask or label map of one image, and says how many pixels changed; see :func:`refine_picture`."""
    job = MaskJob(args.image, args.mask, args.output, args.resize_mask, args.details)
    changed, size = refine_picture(job, step, task)
    asked = getattr(args, "strength", None)
    may_be_more = not changed and (asked is None or 0 < asked < 1)
    unsure = ": nothing was sure enough; --strength 1 gives every pixel its likelier label" if may_be_more else ""
    print(f"{args.output}: {changed} of {size} pixels changed{unsure}")


def refine_picture(job: MaskJob, step: Step, task: str | None) -> tuple[int, int]:
    """Refines one mask or label map of one image; a TIFF lies where it lay.

    Args:
        task: that the mask is of; None: "instance" where it can be one object, else "semantic".

    Returns:
        How many pixels changed, and of how many.

    Raises:
        UserError: a picture that is no mask, or of another size than the image; a refiner that changes the list of
            segments, which a picture alone doesn't have.
    """
    given = read_mask_picture(job.mask)
    task = task or _told_task(given, job.mask)
    mask = foreground(given, job.mask) if task == "instance" else exact_labels(given, job.mask)
    mask = _of_size(mask, job)
    if not mask.any():
        print(f"{job.mask} has no object in it: nothing is to be refined")
    prediction = _as_prediction(mask, task)
    detailed = refine_detailed(step, step.read(job.image), prediction)
    if isinstance(detailed.refined, Partition):
        raise UserError(
            f"{job.mask} is one picture, which doesn't say the classes of its segments; this refiner takes panoptic "
            "result files, a JSON and its PNGs: name the JSON with --predictions"
        )
    result: Any = paste(detailed.refined[0], *mask.shape) if task == "instance" else detailed.refined
    changed = result != mask
    if job.details is not None:
        name = job.mask.with_suffix("").name
        details = details_of(prediction, detailed, str(job.mask))
        write_changes(changes_file(job.details, name), changed)
        write_details(details_file(job.details, name), job.mask.name, details)
    _write(job, _in_values_of(given, result) if task == "instance" else result)
    return int(np.count_nonzero(changed)), mask.size


def read_mask_prediction(path: Path) -> Prediction:
    """A picture of a mask, or a label map, as a prediction; see :func:`refine_picture`."""
    given = read_mask_picture(path)
    task = _told_task(given, path)
    return _as_prediction(foreground(given, path) if task == "instance" else exact_labels(given, path), task)


def _told_task(given: np.ndarray, path: Path) -> str:
    """What a picture is: one object where it has two values, is a JPG, or has soft edges; else labels."""
    levels, counts = np.unique(given, return_counts=True)
    if len(levels) <= 2 or given.dtype.kind == "f" or path.suffix.lower() in (".jpg", ".jpeg"):
        return "instance"
    most = int(np.iinfo(given.dtype).max)
    ends = (levels == 0) | (levels == most)
    share = counts[ends].sum() / given.size
    is_soft = share >= _SOFT_SHARE and (len(levels) > _SOFT_LEVELS or _is_antialiased(levels, most))
    kind = "one object with soft edges" if is_soft else f"a label map of {len(levels)} labels"
    print(f"{path} has {len(levels)} values, and is taken for {kind}")
    return "instance" if is_soft else "semantic"


def _is_antialiased(levels: np.ndarray, most: int) -> bool:
    """Whether values from black to white are those of a mask drawn at a finer scale: equal steps, rounded."""
    if levels[0] != 0 or levels[-1] != most:
        return False
    near = (np.abs(levels[:, None] - np.arange(steps + 1) * most / steps).min(axis=1) for steps in _STEPS)
    return any((off <= 1).all() for off in near)


def _as_prediction(mask: np.ndarray, task: str) -> Prediction:
    if task == "instance":
        return Objects(mask.shape, (crop_array(mask),), (1.0,), (0,))  # type: ignore[arg-type]
    segments = tuple(k for k in np.unique(mask).tolist() if k != VOID[task])
    return Partition(mask, segments, segments)


def _in_values_of(given: np.ndarray, result: np.ndarray) -> np.ndarray:
    """A mask in the numbers of the one that was given."""
    top = given.max() if given.dtype.kind == "u" and given.max() else np.uint8(255)
    return result.astype(top.dtype) * top


def _write(job: MaskJob, result: np.ndarray) -> None:
    geo = next((tags for tags in map(_geo_tags, (job.mask, job.image)) if tags), {})
    if geo and job.output.suffix.lower() in TIFFS:
        write_bytes(job.output, encode_geotiff(result, geo, np.unique(result).tolist()))
        return
    with atomic_file(job.output) as file:
        Image.fromarray(result).save(file, format=_OUTPUTS[job.output.suffix.lower()])


def _geo_tags(path: Path) -> Mapping[int, GeoTag]:
    return read_header(path).geo if path.suffix.lower() in TIFFS else {}


def _of_size(mask: np.ndarray, job: MaskJob) -> np.ndarray:
    """The mask at the image's size: as it is, or resized if the user wants it."""
    with Image.open(job.image) as image:
        turned = image.getexif().get(0x112) in range(5, 9)
        size = image.size if turned else image.size[::-1]
    if mask.shape == size:
        return mask
    sizes = f"{job.mask} is {mask.shape[0]} x {mask.shape[1]}, {job.image} {size[0]} x {size[1]} (height x width)"
    if not job.resizes:
        scale = size[0] / mask.shape[0]
        fits = abs(mask.shape[1] * scale - size[1]) <= _FEW
        advice = "they have the same proportions: " if fits else "not even their proportions agree; if that is right, "
        raise UserError(f"{sizes}; {advice}--resize-mask brings the mask to the image's size")
    print(f"{sizes}: the mask is resized")
    if mask.dtype == np.bool_:
        return resized_mask(mask, size)
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, mask.shape))
    return mask[rows[:, None], columns]
