"""Photos and masks in two folders, which belong together by name."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from pnm.errors import UserError, print_lines
from pnm.formats.atomic_files import check_folder_writable
from pnm.formats.folders import IMAGE_ENDINGS, check_apart, files_below, one_file_each, stem
from pnm.pictures.rgb_files import picture_size
from pnm.predictions.mask_reading import AS_TOLD, MaskReading
from pnm.predictions.one_mask import KEPT_ENDINGS, MaskJob, RefinedPicture, refine_picture
from pnm.predictions.refinement import Prepares, Step
from pnm.shards import Shard

MASK_WORDS = ("_mask", "-mask", ".mask", "_seg", "_matte")  # that a mask's name may have behind its photo's


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


class FolderJobs(NamedTuple):
    """What is to be done in two folders.

    Attributes:
        jobs: pairs that can be refined.
        alone: lines that say of a file that it has no partner.
        broken: lines that say of a pair why it can't be refined: a picture can't be read, or sizes differ.
        outputs: of all these pairs, broken ones, too.
        of_all_shards: outputs of all pairs in the folders.
    """

    jobs: list[MaskJob]
    alone: list[str]
    broken: list[str]
    outputs: list[Path]
    of_all_shards: list[Path]


def mask_jobs(
    photos: Path,
    masks: Path,
    output: Path,
    *,
    resizes: bool,
    details: Path | None,
    reading: MaskReading = AS_TOLD,
    shard: Shard | None = None,
) -> FolderJobs:
    """What is to be done in two folders, or in a shard of them; see :func:`paired`.

    Raises:
        UserError: no pair that can be refined; each is told on a line.
    """
    check_apart(photos, output, "refined masks", of="the photos", taken_for="photos")
    check_apart(masks, output, "refined masks", of="the masks", taken_for="masks")
    check_folder_writable(output, "--output")
    pairs = paired(photos, masks)
    jobs = []
    for photo, mask in pairs.masks if shard is None else shard.part(pairs.masks):
        place = _output_name(mask)
        own = None if details is None else details / place.parent
        jobs.append(MaskJob(photos / photo, masks / mask, output / place, resizes, own, reading))
    broken = _checked_pictures(jobs)
    whole = [job for job in jobs if job not in broken]
    everything = [output / _output_name(mask) for _, mask in pairs.masks]
    return FolderJobs(whole, pairs.alone, list(broken.values()), [job.output for job in jobs], everything)


def _output_name(mask: str) -> PurePosixPath:
    name = PurePosixPath(mask)
    return name if name.suffix.lower() in KEPT_ENDINGS else name.with_suffix(".png")


def _checked_pictures(jobs: Sequence[MaskJob]) -> dict[MaskJob, str]:
    """What is wrong with pairs that can't be refined; a UserError if there are no others."""
    broken = {}
    for job in jobs:
        try:
            photo, mask = picture_size(job.image), picture_size(job.mask)
        except UserError as error:
            broken[job] = str(error)
            continue
        if photo != mask and not job.resizes:
            sizes = f"{job.mask} is {mask[0]} x {mask[1]}, {job.image} {photo[0]} x {photo[1]} (height x width)"
            broken[job] = f"{sizes}: --resize-mask brings the mask to the image's size"
    if broken and len(broken) == len(jobs):
        print_lines([*broken.values()])
        raise UserError(f"{len(broken)} pairs can't be refined, see above: mend or remove them")
    return broken


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


def refine_jobs(jobs: list[MaskJob], step: Step) -> tuple[list[RefinedPicture], list[str]]:
    """Refines masks of all photos; what became of each, and lines that say why others could not be refined."""
    refined, failures = [], []
    if jobs and isinstance(step, Prepares):
        step.prepare()
    for job in tqdm(jobs, unit="mask", dynamic_ncols=True):
        try:
            refined.append(refine_picture(job, step, None))
        except UserError as error:
            failures.append(f"{job.mask}: {error}")
    return refined, failures
