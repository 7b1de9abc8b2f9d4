"""Photos and masks in two folders, which belong together by name."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from pnm.errors import UserError, print_lines
from pnm.formats.atomic_files import check_folder_writable
from pnm.formats.folders import IMAGE_ENDINGS, check_apart, files_below, one_file_each, stem
from pnm.predictions.one_mask import KEPT_ENDINGS, MaskJob, refine_picture
from pnm.predictions.refinement import Step

MASK_WORDS = ("_mask", "-mask", ".mask", "_seg", "_matte")  # that a mask's name may have behind its photo's
_TURNED = range(5, 9)  # EXIF orientations that swap the sides
_ORIENTATION = 0x112


class Pairs(NamedTuple):
    """What belongs together, and what has no partner.

    Attributes:
        masks: (photo, mask), paths below the two folders.
        alone: lines that say of a file that it has none.
    """

    masks: list[tuple[str, str]]
    alone: list[str]


def mask_key(name: str) -> str:
    """What a mask's path has in common with its photo's: without ending, and without a word for mask."""
    path = stem(name)
    word = next((word for word in MASK_WORDS if path.lower().endswith(word)), "")
    return path[: len(path) - len(word)]


def paired(photos: Path, masks: Path) -> Pairs:
    """Masks in a folder, and folders in it, with the photos of the same paths but for endings and words for mask.

    Raises:
        FileNotFoundError, UserError: a folder without pictures; two files of one name; no pair.
    """
    photo_files = one_file_each(
        ((stem(name), Path(name)) for name in files_below(photos, *IMAGE_ENDINGS)), photos, "photo"
    )
    names = files_below(masks, *IMAGE_ENDINGS)
    exact = {stem(name) for name in names} & photo_files.keys()
    keyed = ((stem(name) if stem(name) in exact else mask_key(name), Path(name)) for name in names)
    mask_files = one_file_each(keyed, masks, "mask")
    pairs = [(photo_files[key].as_posix(), mask.as_posix()) for key, mask in mask_files.items() if key in photo_files]
    alone = [f"{masks / mask} has no photo in {photos}" for key, mask in mask_files.items() if key not in photo_files]
    alone += [f"{photos / photo} has no mask in {masks}" for key, photo in photo_files.items() if key not in mask_files]
    if not pairs:
        print_lines(alone)
        raise UserError(
            f"no mask in {masks} belongs to a photo in {photos}: a mask's name is its photo's but for the ending, or "
            f"that with {', '.join(MASK_WORDS)} behind it"
        )
    return Pairs(pairs, alone)


def mask_jobs(
    photos: Path, masks: Path, output: Path, *, resizes: bool, details: Path | None
) -> tuple[list[MaskJob], list[str]]:
    """What is to be done in two folders, and lines of files without a partner; see :func:`paired`.

    Raises:
        UserError: masks of other sizes than their photos, or files that are no pictures; each is told on a line.
    """
    check_apart(photos, output, "refined masks")
    check_apart(masks, output, "refined masks")
    check_folder_writable(output, "--output")
    pairs = paired(photos, masks)
    jobs = []
    for photo, mask in pairs.masks:
        target = PurePosixPath(mask)
        target = target if target.suffix.lower() in KEPT_ENDINGS else target.with_suffix(".png")
        own = None if details is None else details / target.parent
        jobs.append(MaskJob(photos / photo, masks / mask, output / target, resizes, own))
    _check_pictures(jobs)
    return jobs, pairs.alone


def _check_pictures(jobs: Iterable[MaskJob]) -> None:
    faults = []
    for job in jobs:
        try:
            photo, mask = picture_size(job.image), picture_size(job.mask)
            if photo != mask and not job.resizes:
                faults.append(
                    f"{job.mask} is {mask[0]} x {mask[1]}, {job.image} {photo[0]} x {photo[1]} (height x width)"
                )
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            faults.append(str(error))
    if faults:
        print_lines(faults)
        raise UserError(f"{len(faults)} pairs can't be refined, see above: mend or remove them, or add --resize-mask")


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as it is seen, of which the header alone is read."""
    with Image.open(path) as image:
        width, height = image.size[::-1] if image.getexif().get(_ORIENTATION) in _TURNED else image.size
    return height, width


def left_jobs(jobs: list[MaskJob], *, overwrite: bool, resume: bool) -> list[MaskJob]:
    """Those whose output is not there yet, of a run that goes on; a UserError if one is there and nothing was said."""
    present = [job for job in jobs if job.output.exists()]
    if present and not (overwrite or resume):
        raise UserError(
            f"{present[0].output} exists already (as do {len(present)} of {len(jobs)}): choose another --output, or "
            "add --resume to keep what is there, or --overwrite"
        )
    done = {job.output for job in present} if resume and not overwrite else set()
    return [job for job in jobs if job.output not in done]


def refine_jobs(jobs: list[MaskJob], step: Step) -> np.ndarray:
    """Refines masks of all photos; (N, 2) int64, changed pixels and all of each."""
    counts = [refine_picture(job, step, None) for job in tqdm(jobs, unit="mask", dynamic_ncols=True)]
    return np.array(counts, np.int64).reshape(-1, 2)
