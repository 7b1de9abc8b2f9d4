"""The arguments of ``tools/refine.py``: the universal refiner, which needs no config, or trained ones with theirs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

THEN = "--then"
UNIVERSAL = "universal"  # in the place of a config


def _add_offsets(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--offsets", type=Path, metavar="DIR", help="SegFix: keep offsets here and use them; alone: use those there"
    )


def _add_backend(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="on CPUs: torch (the default), openvino or onnxruntime (extras openvino, onnx), seconds to start",
    )


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: MODEL.WEIGHTS FILE ...")


def _add_universal(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--weights", metavar="NAME|FILE", help="of the universal refiner (default: universal-small)")
    parser.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="0 changes nothing, 1 every pixel to its likelier label (default: 0.5)",
    )
    parser.add_argument(
        "--keep-topology", action="store_true", help="parts aren't cut or joined, nor holes made or closed"
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
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
    many.add_argument(
        "--details-in-results", action="store_true", help="entries say refinement_confidence and refinement_changed_px"
    )
    parts = parser.add_argument_group("several machines")
    parts.add_argument("--shard", metavar="K/N", help="refine the K-th of N parts of the images alone, K from 1")
    parts.add_argument("--merge", type=int, metavar="N", help="of result files: put what N shards made together")
    one = parser.add_argument_group("pictures of masks")
    one.add_argument("--image", type=Path, metavar="FILE")
    one.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="mask (any picture, or its transparency), or labels of a semantic refiner",
    )
    one.add_argument(
        "--mask-kind",
        default="auto",
        metavar="KIND",
        help="what a picture of a mask is: object, labels, or auto, an object if it has two values or soft edges",
    )
    one.add_argument("--invert", action="store_true", help="the object is what is darker")
    one.add_argument("--resize-mask", action="store_true", help="bring a mask of another size to that of the image")
    parser.add_argument("--details", type=Path, metavar="DIR", help="a JSON for each image: what became of each object")
    parser.add_argument("--output", type=Path, metavar="FILE|DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")


def _parser(description: str | None) -> argparse.ArgumentParser:
    """Of trained refiners, whose config comes first."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="config that the refiner was trained with")
    _add_offsets(parser)
    _add_backend(parser)
    _add_files(parser)
    _add_overrides(parser)
    return parser


def _universal_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="With --config-file FILE, or --offsets DIR alone, a trained refiner: KEY VALUE pairs at the end "
        "override its config, such as MODEL.WEIGHTS FILE.",
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PHOTO MASK", help="two files, two folders, or a video and masks"
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="config of a trained refiner")
    _add_offsets(parser)
    _add_universal(parser)
    _add_backend(parser)
    parser.add_argument("--device", default="cpu", help="of torch, such as cuda (default: cpu)")
    _add_files(parser)
    parser.add_argument(
        "--adapt", type=float, metavar="MINUTES", help="first learn from these masks, which need not be right (try 4)"
    )
    parser.add_argument("--resume", action="store_true", help="of two folders or a video: keep outputs that are there")
    parser.add_argument("--temporal", action="store_true", help="of a video: steady where nothing moves")
    parser.add_argument("--bands", nargs=3, type=int, metavar="N", help="channels for red, green and blue, from 1")
    parser.add_argument(
        "--stretch", nargs=2, type=float, metavar=("LOW", "HIGH"), help="percentiles that become 0 and 255"
    )
    return parser


def _next_parser() -> argparse.ArgumentParser:
    """Of what follows a --then."""
    usage = f"{THEN} FILE [--offsets DIR] [KEY VALUE ...], or {THEN} {UNIVERSAL} [--weights NAME|FILE] [--strength S]"
    parser = argparse.ArgumentParser(prog=f"... {THEN}", usage=usage)
    parser.add_argument("--config-file", default="", metavar="FILE", help="config of the next refiner")
    _add_offsets(parser)
    _add_universal(parser)
    _add_backend(parser)
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


def _names_trained(words: Sequence[str]) -> bool:
    """Whether a config or stored offsets are named, in full or in short."""
    probe = argparse.ArgumentParser(add_help=False)
    probe.add_argument("--config-file", default="")
    probe.add_argument("--offsets", default="")
    for taken in ("--output", "--overwrite"):  # which --o and --ov mean, or would be of several meanings
        probe.add_argument(taken, nargs="?")
    known, _ = probe.parse_known_args(list(words))
    return bool(known.config_file or known.offsets)


def parse_args(words: Sequence[str], description: str | None = None) -> argparse.Namespace:
    """The arguments; ``parts`` are the refiners, each with ``config_file``, ``offsets``, ``opts`` and, of the universal
    one, ``is_universal``, ``weights``, ``strength``, ``keep_topology``; ``backend`` is None if none was named."""
    first, *others = _split(words)
    is_universal = not _names_trained(first)
    parser = _universal_parser(description) if is_universal else _parser(description)
    args = parser.parse_intermixed_args(first) if is_universal else parser.parse_args(first)
    if is_universal:
        args.opts = []
    else:
        args.paths, args.resume, args.temporal, args.bands, args.stretch, args.device = (
            [],
            False,
            False,
            None,
            None,
            "cpu",
        )
        args.weights, args.strength, args.keep_topology, args.adapt = None, None, False, None
    args.parts = [_part(args, is_universal)]
    for words in others:  # the config comes first, and needs no name
        named = words if not words or words[0].startswith("-") else ["--config-file", *words]
        one = _next_parser().parse_args(named)
        args.parts.append(_part(one, one.config_file == UNIVERSAL))
    _check_parts(parser, args.parts)
    _check_files(parser, args)
    return args


def _part(args: argparse.Namespace, is_universal: bool) -> argparse.Namespace:
    names = ("offsets", "opts", "weights", "strength", "keep_topology", "backend")
    part = argparse.Namespace(**{name: getattr(args, name) for name in names})
    part.is_universal, part.config_file = is_universal, "" if is_universal else args.config_file
    return part


def _check_parts(parser: argparse.ArgumentParser, parts: Sequence[argparse.Namespace]) -> None:
    for part in parts:
        if part.is_universal:
            if part.opts or part.offsets:
                parser.error(f"{(part.opts or ['--offsets'])[0]} is not for the universal refiner, which has no config")
            continue
        if not (part.config_file or part.offsets):
            parser.error(f"give --config-file, or --offsets that are there; after {THEN}, too, or {UNIVERSAL}")
        if part.opts and not part.config_file:
            parser.error(f"{part.opts[0]} is for a config: give --config-file, too")
        if part.backend and not part.config_file:
            parser.error("--backend is for a network, and stored offsets need none: leave it out")
        if part.weights is not None or part.strength is not None or part.keep_topology:
            parser.error("--weights, --strength and --keep-topology are for the universal refiner, without a config")


def _check_files(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if len(args.paths) not in (0, 2):
        parser.error(
            f"{len(args.paths)} paths came, expected two: a photo and its mask, two folders, or a video and masks"
        )
    if args.paths and (args.images or args.predictions or args.image or args.mask):
        parser.error(
            "give a photo and its mask, or --images and --predictions, or --image and --mask, one of the three"
        )
    one_process = args.image or args.paths or not any(part.config_file for part in args.parts)
    if args.num_gpus != 1 and one_process:
        parser.error(
            "--num-gpus is for networks on result files: one mask, stored offsets and the universal refiner alone take "
            "one process"
        )
    if args.paths:
        return
    makes_offsets = args.images and not (args.predictions or args.image or args.mask or args.output)
    if makes_offsets and len(args.parts) == 1 and args.parts[0].config_file and args.parts[0].offsets:
        return
    one_mask = args.image and args.mask and not (args.images or args.predictions)
    if not one_mask and not (args.images and args.predictions and not (args.image or args.mask)):
        pair = "a photo and its mask, or " if args.parts[0].is_universal else ""
        parser.error(f"give {pair}--images and --predictions, or --image and --mask")
    if not args.output:
        parser.error("the following arguments are required: --output")
