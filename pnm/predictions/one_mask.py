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
from pnm.masks.crops import paste
from pnm.pictures.geotiff import encode_geotiff
from pnm.pictures.rgb_files import picture_size
from pnm.pictures.samples import TIFFS, GeoTag, read_header
from pnm.predictions.detail_report import changes_file, details_file, write_changes, write_details
from pnm.predictions.image_predictions import Partition
from pnm.predictions.mask_reading import AS_TOLD, NO_OBJECT, MaskReading, as_prediction, read_mask
from pnm.predictions.refinement import Step
from pnm.predictions.refinement_details import details_of, refine_detailed

_OUTPUTS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
KEPT_ENDINGS = tuple(_OUTPUTS)  # of masks whose output is of the same kind
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
        reading: how the mask is read.
        details: gets ``<mask>.json`` and ``<mask>_changes.png``, see
            :class:`pnm.predictions.detail_report.DetailReport`.
    """

    image: Path
    mask: Path
    output: Path
    resizes: bool = False
    details: Path | None = None
    reading: MaskReading = AS_TOLD


class RefinedPicture(NamedTuple):
    """What became of a picture of a mask.

    Attributes:
        changed, size: pixels, and all of them.
        told: how it was read.
    """

    changed: int
    size: int
    told: str


def refine_one(args: argparse.Namespace, step: Step, task: str | None) -> None:
    """Refines one mask or label map of one image, and says how many pixels changed; see :func:`refine_picture`."""
    reading = MaskReading(args.mask_kind, args.invert)
    job = MaskJob(args.image, args.mask, args.output, args.resize_mask, args.details, reading)
    changed, size, told = refine_picture(job, step, task)
    parts = getattr(args, "parts", ())
    may_be_more = bool(parts) and not changed and told != NO_OBJECT
    may_be_more &= all(p.is_universal and (p.strength is None or 0 < p.strength < 1) for p in parts)
    unsure = ": nothing was sure enough; --strength 1 gives every pixel its likelier label" if may_be_more else ""
    print(f"{args.output}: {changed} of {size} pixels changed{unsure} ({args.mask.name} was read as {told})")


def refine_picture(job: MaskJob, step: Step, task: str | None) -> RefinedPicture:
    """Refines one mask or label map of one image; a TIFF lies where it lay.

    Args:
        task: that the mask is of; None: "instance" where it can be one object, else "semantic".

    Raises:
        UserError: a picture that is no mask, or of another size than the image; a refiner that changes the list of
            segments, which a picture alone doesn't have.
    """
    read = read_mask(job.mask, job.reading, task)
    mask = _of_size(read.pixels, job)
    if not mask.any():
        print(f"{job.mask} has no object in it: nothing is to be refined")
    prediction = as_prediction(mask, read.task)
    detailed = refine_detailed(step, step.read(job.image), prediction)
    if isinstance(detailed.refined, Partition):
        raise UserError(
            f"{job.mask} is one picture, which doesn't say the classes of its segments; this refiner takes panoptic "
            "result files, a JSON and its PNGs: name the JSON with --predictions"
        )
    result: Any = paste(detailed.refined[0], *mask.shape) if read.task == "instance" else detailed.refined
    changed = result != mask
    if job.details is not None:
        name = job.mask.with_suffix("").name
        details = details_of(prediction, detailed, str(job.mask))
        write_changes(changes_file(job.details, name), changed)
        write_details(details_file(job.details, name), job.mask.name, details)
    _write(job, read.values(result))
    return RefinedPicture(int(np.count_nonzero(changed)), mask.size, read.told)


def _write(job: MaskJob, result: np.ndarray) -> None:
    geo = next((tags for tags in map(_geo_tags, (job.mask, job.image)) if tags), {})
    if geo and job.output.suffix.lower() in TIFFS:
        write_bytes(job.output, encode_geotiff(result, geo, np.unique(result).tolist()))
        return
    picture, options = _with_palette(Image.fromarray(result), job.mask)
    with atomic_file(job.output) as file:
        picture.save(file, format=_OUTPUTS[job.output.suffix.lower()], **options)


def _with_palette(picture: Image.Image, mask: Path) -> tuple[Image.Image, dict[str, Any]]:
    """A refined mask in the colours of the one that was given, if they are those of a palette, and options to save
    it with."""
    with Image.open(mask) as given:
        palette = given.getpalette("RGB") if given.mode == "P" and picture.mode == "L" else None
        transparency = given.info.get("transparency")
    if palette is None:
        return picture, {}
    picture.putpalette(palette, "RGB")
    return picture, {} if transparency is None else {"transparency": transparency}


def _geo_tags(path: Path) -> Mapping[int, GeoTag]:
    return read_header(path).geo if path.suffix.lower() in TIFFS else {}


def _of_size(mask: np.ndarray, job: MaskJob) -> np.ndarray:
    """The mask at the image's size: as it is, or resized if the user wants it."""
    size = picture_size(job.image)
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
