#!/usr/bin/env python
"""Refines the predictions of any segmentation model with a trained refiner; no ground truth is needed.

python tools/refine.py --config-file configs/quickstart/bpr_instance.yaml --images photos --predictions results.json \\
    --output refined.json MODEL.WEIGHTS output/quickstart/bpr_instance/model_final.pth
python tools/refine.py --config-file ... --image photo.jpg --mask photo_mask.png --output refined.png MODEL.WEIGHTS ...

Predictions may be COCO results JSON, COCO panoptic JSON with PNGs, a folder of label PNGs, Detectron2's
sem_seg_predictions.json or a folder of Cityscapes' *_pred.txt; or your own annotations, as labelme, YOLO, CVAT, Label
Studio, Pascal VOC and others keep them (docs/formats.md). The output has the same format, ids, scores and order; PRN,
which takes panoptic results, also adds segments, with new ids, and drops some.
A run that was killed goes on where it was when the same command is given again.

Refiners one after the other, each with its own overrides:

python tools/refine.py --config-file segfix.yaml --images ... --predictions ... --output ... MODEL.WEIGHTS segfix.pth \\
    --then bpr.yaml MODEL.WEIGHTS bpr.pth

What SegFix makes of images can be kept, and then serves every prediction of them without network or torch:

python tools/refine.py --config-file segfix.yaml --images photos --offsets offsets/photos MODEL.WEIGHTS segfix.pth
python tools/refine.py --offsets offsets/photos --images photos --predictions results.json --output refined.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.errors import interrupts_told, one_line_errors
from pnm.projects.launcher.config_files import find_config_file

THEN = "--then"


def _add_offsets(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--offsets", type=Path, metavar="DIR", help="SegFix: keep offsets here and use them; alone: use those there"
    )


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: MODEL.WEIGHTS FILE ...")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="config that the refiner was trained with")
    _add_offsets(parser)
    many = parser.add_argument_group("result files")
    many.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, searched with its folders")
    many.add_argument("--predictions", type=Path, metavar="FILE|DIR", help="coarse predictions")
    many.add_argument(
        "--image-info", type=Path, metavar="JSON", help="COCO annotations or image info: ids to file names"
    )
    many.add_argument("--png-folder", type=Path, metavar="DIR", help="PNGs of a panoptic JSON (default: beside it)")
    many.add_argument(
        "--from", dest="format", metavar="FORMAT", help="of annotations, where it can't be told: see convert"
    )
    many.add_argument(
        "--classes", metavar="N|FILE", help="number of classes of annotations, or a file with their names"
    )
    many.add_argument("--split", metavar="NAME", help="of annotations with several, the one to refine (default: all)")
    many.add_argument("--keep-missing", action="store_true", help="predictions without an image stay as they are")
    many.add_argument("--num-gpus", type=int, default=1, metavar="N", help="processes, one for each GPU (default: 1)")
    one = parser.add_argument_group("one image")
    one.add_argument("--image", type=Path, metavar="FILE")
    one.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="mask (any picture, or its transparency), or labels of a semantic refiner",
    )
    one.add_argument("--resize-mask", action="store_true", help="bring a mask of another size to that of the image")
    parser.add_argument("--output", type=Path, metavar="FILE|DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    _add_overrides(parser)
    return parser


def _next_parser() -> argparse.ArgumentParser:
    """Of what follows a --then."""
    parser = argparse.ArgumentParser(prog=f"... {THEN}", usage=f"{THEN} FILE [--offsets DIR] [KEY VALUE ...]")
    parser.add_argument("--config-file", default="", metavar="FILE", help="config of the next refiner")
    _add_offsets(parser)
    _add_overrides(parser)
    return parser


def _split(words: Sequence[str]) -> list[list[str]]:
    """The command line's words, cut at each --then."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == THEN:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def parse_args(words: Sequence[str]) -> argparse.Namespace:
    """The arguments; ``parts`` are the refiners, each with ``config_file``, ``offsets`` and ``opts``."""
    first, *others = _split(words)
    parser, args = _parser(), argparse.Namespace()
    parser.parse_args(first, args)
    args.parts = [argparse.Namespace(config_file=args.config_file, offsets=args.offsets, opts=args.opts)]
    for words in others:  # the config comes first, and needs no name
        named = words if not words or words[0].startswith("-") else ["--config-file", *words]
        args.parts.append(_next_parser().parse_args(named))
    for part in args.parts:
        if not (part.config_file or part.offsets):
            parser.error("give --config-file, or --offsets that are there; after --then, too")
        if part.opts and not part.config_file:
            parser.error(f"{part.opts[0]} is for a config: give --config-file, too")
    if args.num_gpus != 1 and (args.image or (len(args.parts) == 1 and not args.config_file)):
        parser.error("--num-gpus is for networks on result files: one mask, and stored offsets alone, take one process")
    makes_offsets = args.images and not (args.predictions or args.image or args.mask or args.output)
    if makes_offsets and args.config_file and args.offsets and not others:
        return args
    one_mask = args.image and args.mask and not (args.images or args.predictions)
    if not one_mask and not (args.images and args.predictions and not (args.image or args.mask)):
        parser.error("give --images and --predictions, or --image and --mask")
    if not args.output:
        parser.error("the following arguments are required: --output")
    return args


def refine_with_offsets(args: argparse.Namespace) -> None:
    """What is stored suffices: no network, no torch."""
    from pnm.compiling import announce_compilation
    from pnm.interior_offsets.stored import StoredOffsets
    from pnm.predictions.offset_refiner import OffsetRefiner
    from pnm.predictions.one_mask import check_one_output, refine_one
    from pnm.predictions.refinement import refine_files

    with one_line_errors():
        refiner = OffsetRefiner(StoredOffsets(args.offsets))
        if args.image:
            check_one_output(args)
        announce_compilation()
        if args.image:
            refine_one(args, refiner, None)
        else:
            refine_files(args, refiner)


def main() -> None:
    args = parse_args(sys.argv[1:])
    kept = "nothing was written" if args.image else "what was refined is kept; run the same command again to go on"
    with interrupts_told(kept):
        with one_line_errors():
            for part in args.parts:
                part.config_file = find_config_file(part.config_file) if part.config_file else ""
        if len(args.parts) == 1 and not args.config_file:
            refine_with_offsets(args)
            return
        # Takes seconds: not before the arguments are known to be right.
        from pnm.projects.launcher.refining_files import start

        start(args)


if __name__ == "__main__":
    main()
