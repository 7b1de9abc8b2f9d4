#!/usr/bin/env python
"""Refines masks, or the predictions of any segmentation model; neither training nor ground truth is needed.

python tools/refine.py photo.jpg mask.png                            # makes mask_refined.png
python tools/refine.py photos/ masks/ --output refined/              # pairs by name: a.jpg with a.png or a_mask.png
python tools/refine.py video.mp4 masks/ --output refined/ --temporal # a mask for each frame, by its number
python tools/refine.py --images photos --predictions results.json --output refined.json

Predictions may be COCO results JSON, COCO panoptic JSON with PNGs, a folder of label PNGs, Detectron2's
sem_seg_predictions.json or a folder of Cityscapes' *_pred.txt; or your own annotations, as labelme, YOLO, CVAT, Label
Studio, Pascal VOC and others keep them (docs/formats.md). The output has the same format, ids, scores and order; PRN,
which takes panoptic results, also adds segments, with new ids, and drops some.
A run over result files that was killed goes on where it was when the same command is given again, one over
folders with --resume.

A refiner that was trained, by its config:

python tools/refine.py --config-file configs/quickstart/bpr_universal.yaml --images photos --predictions results.json \\
    --output refined.json MODEL.WEIGHTS output/quickstart/bpr_universal/model_final.pth

On CPUs another runtime may be faster, where there are many images: --backend openvino or onnxruntime.

Refiners one after the other, each with its own overrides; "universal" is the one without a config:

python tools/refine.py --config-file segfix.yaml --images ... --predictions ... --output ... MODEL.WEIGHTS segfix.pth \\
    --then bpr.yaml MODEL.WEIGHTS bpr.pth --then universal --strength 0.3

On several machines, each command on any of them, see docs/scale.md:

python tools/refine.py --images photos --predictions results.json --output refined.json --shard 1/8   # to 8/8
python tools/refine.py --images photos --predictions results.json --output refined.json --merge 8

What SegFix makes of images can be kept, and then serves every prediction of them without network or torch:

python tools/refine.py --config-file segfix.yaml --images photos --offsets offsets/photos MODEL.WEIGHTS segfix.pth
python tools/refine.py --offsets offsets/photos --images photos --predictions results.json --output refined.json
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.errors import interrupts_told, one_line_errors
from pnm.tools.refine_arguments import parse_args


def _set_universal(args: argparse.Namespace) -> None:
    """Checks what is said of the universal refiner, and names of backends."""
    from pnm.network_backends.choice import check_backend
    from pnm.object_refinement.decision import DEFAULT_STRENGTH
    from pnm.object_refinement.trained_weights import DEFAULT_WEIGHTS
    from pnm.pictures.pictures import Toning
    from pnm.predictions.universal_refiner import UniversalSettings

    toning = Toning(args.bands and tuple(args.bands), args.stretch and tuple(args.stretch))
    for part in args.parts:
        part.universal = None
        if part.is_universal:
            strength = DEFAULT_STRENGTH if part.strength is None else part.strength
            weights = part.weights or DEFAULT_WEIGHTS
            backend = part.backend or "torch"
            part.universal = UniversalSettings(weights, strength, part.keep_topology, args.device, toning, backend)
            part.universal.check()
        elif part.backend:
            check_backend(part.backend, "--backend")


def refine_without_configs(args: argparse.Namespace) -> None:
    """By the universal refiner and stored offsets: no Detectron2 and, of offsets alone, no torch."""
    # Where cores are shared, torch's threads that wait by spinning make one mask take six times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from PIL import Image

    from pnm.interior_offsets.stored import StoredOffsets
    from pnm.masks.runs import MOST_PIXELS
    from pnm.predictions.offset_refiner import OffsetRefiner
    from pnm.predictions.refining_run import run
    from pnm.predictions.universal_refiner import UniversalStep

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # Pillow's own limit is a sixth of that
    with one_line_errors():
        if args.adapt is not None:
            from pnm.predictions.adaptation import adapted_weights

            first = args.parts[0]
            first.universal = replace(first.universal, weights=adapted_weights(args, first.universal))
        steps = [
            UniversalStep(part.universal) if part.universal else OffsetRefiner(StoredOffsets(part.offsets))
            for part in args.parts
        ]
        run(args, steps)


def main() -> None:
    args = parse_args(sys.argv[1:], __doc__)
    is_one = args.image or (args.paths and args.paths[0].is_file())
    again = "add --resume" if args.paths else "run the same command again"
    kept = "nothing was written" if is_one else f"what was refined is kept; {again} to go on"
    with interrupts_told(kept):
        with one_line_errors():
            from pnm.predictions.refining_run import place

            place(args)
            _set_universal(args)
            if any(part.config_file for part in args.parts):
                from pnm.projects.launcher.config_files import find_config_file

                for part in args.parts:
                    part.config_file = find_config_file(part.config_file) if part.config_file else ""
        if not any(part.config_file for part in args.parts):
            refine_without_configs(args)
            return
        # Takes seconds: not before the arguments are known to be right.
        from pnm.projects.launcher.refining_files import start

        start(args)


if __name__ == "__main__":
    main()
