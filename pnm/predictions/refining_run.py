"""What ``tools/refine.py`` does without Detectron2: which kind of input came, and the run on it."""

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pnm.compiling import announce_compilation
from pnm.errors import UserError, listed, print_lines
from pnm.pictures.samples import TIFFS
from pnm.pictures.tiff_windows import is_large_tiff
from pnm.pictures.video import is_video
from pnm.predictions.detail_report import check_details_folder
from pnm.predictions.mask_reading import MaskReading
from pnm.predictions.one_mask import KEPT_ENDINGS, check_one_output, refine_one
from pnm.predictions.output_settings import has_settings, keep_settings, settings_of
from pnm.predictions.paired_masks import left_jobs, mask_jobs, refine_jobs
from pnm.predictions.refinement import Chain, Step, refine_files
from pnm.predictions.universal_refiner import UniversalStep
from pnm.predictions.video_masks import frame_masks, refine_video, target
from pnm.shards import all_shards, shard_of


def place(args: argparse.Namespace) -> None:
    """Tells what the two paths are, and checks all that can be checked before the long work.

    ``args.kind`` becomes "mask", "large", "folders", "video" or "files"; of one mask ``image``, ``mask`` and ``output``
    are set; ``shard`` becomes a :class:`pnm.shards.Shard`.

    Raises:
        FileNotFoundError, UserError: paths that don't go together, or an output that can't be made.
    """
    args.kind = "mask" if args.image else "files"
    MaskReading(args.mask_kind, args.invert).check()
    if args.details is not None:
        if args.output and args.details.resolve() == args.output.resolve():
            raise UserError(f"--details and --output are both {args.output}: name two folders")
        check_details_folder(args.details)
    if args.paths:
        _place_paths(args)
    if args.kind == "mask":
        for path in (args.image, args.mask):
            if not path.is_file():
                raise FileNotFoundError(f"{path} does not exist: expected a picture")
        check_one_output(args)
        if len(args.parts) == 1 and args.parts[0].is_universal and is_large_tiff(args.mask):
            args.kind = "large"
            _check_large(args)
    _check_adapting(args)
    _check_pictures(args)
    _place_shard(args)
    if args.temporal and args.kind != "video":
        raise UserError("--temporal is for a video and its masks, a picture for each frame")
    if args.kind in ("folders", "video") and not args.output:
        raise UserError("--output is missing: name a folder for the refined masks")
    if args.kind in ("folders", "video") and any(part.config_file for part in args.parts):
        raise UserError(
            "two folders, or a video, are for the universal refiner: others take --images and --predictions"
        )


def _check_pictures(args: argparse.Namespace) -> None:
    """A UserError if something is asked that pictures of masks, or others than they, don't have."""
    asked = MaskReading(args.mask_kind, args.invert)
    if args.kind == "files":
        if asked.options():
            raise UserError(f"{listed(asked.options())} is for pictures of masks, and result files say what they hold")
        return
    if args.details_in_results:
        raise UserError("--details-in-results is for result files, and a picture has no entries: use --details DIR")
    if asked.kind == "labels" and args.kind in ("large", "video"):
        raise UserError("--mask-kind is labels, but masks of a video, and those refined by tiles, are of one object")


def _check_adapting(args: argparse.Namespace) -> None:
    """A UserError if the arguments ask for an adaptation that there can't be."""
    if args.adapt is None:
        return
    if not 0 < args.adapt < math.inf:
        raise UserError(f"--adapt is {args.adapt}, expected minutes above 0, like 4")
    if args.kind in ("large", "video") or args.resize_mask or not args.output:
        raise UserError("--adapt is for a mask, folders of masks or result files, of their images' sizes, and --output")
    if any(part.config_file for part in args.parts):
        raise UserError("--adapt is for the universal refiner alone: leave out --then and a config")


def _place_shard(args: argparse.Namespace) -> None:
    """Puts the shard in place of its text; a UserError if it, or a merge, is asked for where there can't be one."""
    if args.shard is None and args.merge is None:
        return
    if args.shard is not None and args.merge is not None:
        raise UserError("--shard and --merge both came: give --shard K/N until all are through, then --merge N")
    if args.adapt is not None:
        raise UserError("--adapt would learn something else in each shard: adapt first, and name the file as --weights")
    if args.merge is not None:
        all_shards(args.merge)
        if args.kind == "folders":
            raise UserError("masks of two folders need no --merge: run without --shard, but with --resume")
    if args.kind not in ("files", "folders") or not args.output:
        raise UserError("--shard and --merge are for many images: two folders, or --images, --predictions and --output")
    args.shard = None if args.shard is None else shard_of(args.shard)


def _check_large(args: argparse.Namespace) -> None:
    """A UserError if the arguments ask for what a mask that is refined by tiles can't have."""
    asked = {
        "--details": args.details,
        "--keep-topology": args.parts[0].keep_topology,
        "--resize-mask": args.resize_mask,
    }
    given = [name for name, value in asked.items() if value]
    if given:
        raise UserError(f"{args.mask} is refined by tiles, which see no object whole: leave {listed(given)} out")
    if args.output.suffix.lower() not in TIFFS:
        raise UserError(f"--output is {args.output}, expected a *.tif for a mask as large as {args.mask}")


def _place_paths(args: argparse.Namespace) -> None:
    first, second = args.paths
    for path in args.paths:
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist: expected a photo and its mask, two folders, or a video and masks"
            )
    if first.is_dir() != second.is_dir() and not (second.is_dir() and is_video(first)):
        raise UserError(f"{first} and {second} are a file and a folder: expected two of a kind, or a video and masks")
    if first.is_dir():
        args.kind = "folders"
    elif second.is_dir():
        args.kind = "video"
    else:
        args.kind, args.image, args.mask = "mask", first, second
        args.output = args.output or refined_name(second)


def refined_name(mask: Path) -> Path:
    """``mask_refined.png`` beside ``mask.png``; of a mask in a lossy format a PNG."""
    ending = mask.suffix if mask.suffix.lower() in KEPT_ENDINGS else ".png"
    return mask.with_name(f"{mask.stem}_refined{ending}")


def run(args: argparse.Namespace, steps: Sequence[Step]) -> None:
    """Refines what the arguments say, after :func:`place`, in this process."""
    chain = Chain(steps)
    if args.kind == "mask":
        refine_one(args, chain, None)
    elif args.kind == "large":
        from pnm.predictions.large_mask import refine_large  # takes seconds: by torch

        assert isinstance(steps[0], UniversalStep)
        toning = steps[0].settings.toning
        files = args.image, args.mask, args.output
        changed, size = refine_large(*files, steps[0].refiner, toning, is_inverted=args.invert)
        told = f"{args.mask.name} was read as one object, {'0' if args.invert else 'all but 0'}"
        print(f"{args.output}: {changed} of {size} pixels changed ({told})")
    elif args.kind == "folders":
        _refine_folders(args, chain)
    elif args.kind == "video":
        _refine_video(args, steps)
    else:
        announce_compilation()
        refine_files(args, chain)


def _refine_video(args: argparse.Namespace, steps: Sequence[Step]) -> None:
    video, folder = args.paths
    if len(steps) > 1 or not isinstance(steps[0], UniversalStep) or args.details:
        raise UserError("a video's masks are refined by the universal refiner alone, and without --details")
    if args.temporal and (args.resume or args.parts[0].keep_topology):
        raise UserError("--temporal needs the frames before, and moves boundaries: leave --resume, --keep-topology out")
    masks = frame_masks(video, folder, args.output, is_inverted=args.invert)
    present = [number for number, name in masks.masks.items() if target(args.output, name).exists()]
    if present and not (args.resume or args.overwrite):
        first = target(args.output, masks.masks[present[0]])
        raise UserError(f"{first} exists already: choose another --output, or add --resume or --overwrite")
    left = sorted(masks.masks.keys() - (present if args.resume and not args.overwrite else []))
    settings = {"--temporal": args.temporal, "--invert": args.invert}
    if args.overwrite:
        _remove(target(args.output, masks.masks[number]) for number in present)
    keep_settings(args.output, settings_of(steps, settings), overwrite=args.overwrite)
    changed = refine_video(masks, args.output, steps[0], left, temporal=args.temporal)
    lacking = masks.video.frames - len(masks.masks)
    told = f"; {lacking} frames of {video} have no mask" if lacking else ""
    print(f"{args.output}: {len(left)} masks, of which {changed} changed{told}")


def _remove(outputs: Iterable[Path]) -> None:
    """Removes outputs that are to be replaced: a run that is killed and gone on with would take them for its own."""
    for path in outputs:
        path.unlink(missing_ok=True)


def _refine_folders(args: argparse.Namespace, chain: Chain) -> None:
    photos, masks = args.paths
    reading = MaskReading(args.mask_kind, args.invert)
    found = mask_jobs(
        photos, masks, args.output, resizes=args.resize_mask, details=args.details, reading=reading, shard=args.shard
    )
    jobs, broken = found.jobs, found.broken
    print_lines(found.alone)
    left = left_jobs(jobs, overwrite=args.overwrite, resume=args.resume)
    settings = {"--mask-kind": args.mask_kind, "--invert": args.invert}  # without --resize-mask, others have no output
    settings = settings_of(chain.steps, settings)
    if args.overwrite:  # with other settings, nothing that was there before may be taken for a part of this run
        _remove(found.outputs if has_settings(args.output, settings) else found.of_all_shards)
    keep_settings(args.output, settings, overwrite=args.overwrite)
    refined, failures = refine_jobs(left, chain)
    there = f", {len(jobs) - len(left)} were there" if len(left) < len(jobs) else ""
    changed = sum(one.changed > 0 for one in refined)
    kinds = Counter(one.told for one in refined)
    told = f" (read as {'; '.join(f'{kind}: {number}' for kind, number in kinds.items())})" if kinds else ""
    print(f"{args.output}: {len(refined)} masks, of which {changed} changed{there}{told}")
    if broken or failures:
        print_lines([*broken, *failures])
        raise UserError(
            f"{len(broken) + len(failures)} of {len(jobs) + len(broken)} pairs could not be refined, see above; the "
            "others are done. Mend or remove them and run the same command with --resume"
        )
