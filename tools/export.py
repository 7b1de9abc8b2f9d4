#!/usr/bin/env python
"""Writes a refiner's network as an ONNX model, with its preprocessing described, checked against torch.

python tools/export.py --config-file configs/quickstart/bpr_universal.yaml --output bpr.onnx \\
    MODEL.WEIGHTS output/quickstart/bpr_universal/model_final.pth
python tools/export.py --universal --output universal.onnx

BPR, SegFix, PRN and the universal refiner, whose weights have names or are a file (--universal FILE). Batches may have
any size; sides too, as multiples of 32, but for BPR's patches. bpr.json beside the model says what goes in and what
comes out: shapes, order of channels, normalization, how masks are coded, what outputs mean; the model has the same text
in its metadata, under "pnm". Outputs that differ from torch's by more than 1e-4 of the larger of 1 and their largest
value are an error, and nothing is written. Needs the extra: pip install "pnm[onnx]".
"""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.errors import UserError, interrupts_told, one_line_errors
from pnm.formats.atomic_files import check_writable, write_bytes, write_text
from pnm.projects.launcher.config_files import find_config_file

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config-file", metavar="FILE", help="config that the refiner was trained with")
    which.add_argument(
        "--universal", nargs="?", const="", metavar="NAME|FILE", help="the universal refiner (default: its weights)"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.onnx", help="a .json is written beside it")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: MODEL.WEIGHTS FILE ...")
    return parser


def check_outputs(output: Path, overwrite: bool) -> Path:
    """The path of the description; a UserError if a file can't be written, or a package is missing."""
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise UserError(f'export needs {", ".join(missing)}: install the extra, pip install "pnm[onnx]"')
    if output.suffix != ".onnx":
        raise UserError(f"--output is {output}, expected a name that ends with .onnx")
    for path in (output, output.with_suffix(".json")):
        if path.exists() and not overwrite:
            raise UserError(f"{path} is there already: choose another --output, or give --overwrite")
        check_writable(path)
    return output.with_suffix(".json")


def export(args: argparse.Namespace) -> None:
    """Writes both files."""
    beside = check_outputs(args.output, args.overwrite)
    if args.universal is None:
        args.config_file = find_config_file(args.config_file)
        from pnm.projects.launcher.exporting import exportable_refiner

        one = exportable_refiner(args.config_file, args.opts)
    else:
        from pnm.object_refinement.exporting import exportable_network
        from pnm.object_refinement.trained_network import load_network
        from pnm.object_refinement.trained_weights import DEFAULT_WEIGHTS, weights_file

        network, _ = load_network(weights_file(args.universal or DEFAULT_WEIGHTS))
        one = exportable_network(network)
    from pnm.network_backends.onnx_models import exported

    model, description = exported(one)
    write_bytes(args.output, model)
    write_text(beside, json.dumps(description, indent=2) + "\n")
    print(f"{args.output}: {len(model) / 1e6:.1f} MB, equal to torch; {beside} describes it")


def main() -> None:
    parser = _parser()
    args = parser.parse_args()
    if args.opts and args.universal is not None:
        parser.error(f"{args.opts[0]} is for a config: give --config-file, not --universal")
    with interrupts_told("nothing was written"), one_line_errors():
        export(args)


if __name__ == "__main__":
    main()
