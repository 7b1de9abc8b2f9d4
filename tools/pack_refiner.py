#!/usr/bin/env python
"""Makes weights of the universal refiner ready for use: fits its belief on scenes that were held back, and packs both.

    python tools/pack_refiner.py --weights output/universal_small/model_final.pth --architecture universal_small \\
        --annotations datasets/cutouts/instances_val.json --images datasets/cutouts/images/val --output my_refiner.pth
    python tools/refine.py photo.jpg mask.png --weights my_refiner.pth

Scenes are COCO instances that the network has not learned from. Of three quarters of the objects the belief is fitted,
on the rest it is judged: a table and a curve (my_refiner.png) say how often refinements are worse that it gives a risk,
and what each strength changes; then it is fitted on all. Weights are stored in half precision.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.errors import UserError, interrupts_told, one_line_errors

STRENGTHS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
_JUDGED = 0.25  # share of the objects
_LEAST_AREA = 400  # px: smaller objects are passed over
_FEW = 1000  # coarse masks, below which a belief says little: the shipped one was fitted on 6400


def _check_number(annotations: Path, draws: int) -> None:
    """Warns if there are few objects to fit a belief on; a UserError if there is none."""
    from pnm.formats.coco_instances import read_coco_ground_truth
    from pnm.masks.crops import crop_runs
    from pnm.masks.runs import decode_masks

    truth, number = read_coco_ground_truth(annotations), 0
    for key, entry in truth.images.items():
        rows = [row for row in truth.annotations.get(key, []) if not row.get("iscrowd", 0)]
        masks = decode_masks([row["segmentation"] for row in rows], entry.height, entry.width, str)
        number += sum(crop_runs(masks, n).pixels.sum() >= _LEAST_AREA for n in range(len(rows)))
    if not number:
        raise UserError(f"{annotations} has no object of {_LEAST_AREA} pixels or more to fit a belief on: name others")
    if number * draws < _FEW:
        print(
            f"warning: {number} objects, {draws} coarse masks of each, are few to fit a belief on, that says little "
            f"of other pictures: give scenes with {_FEW} coarse masks or more, or more --draws",
            file=sys.stderr,
        )


def _scenes(annotations: Path, images: Path) -> Iterator[tuple]:
    """(H, W, 3) uint8 RGB and true masks of each image, with a progress bar."""
    from tqdm import tqdm

    from pnm.formats.coco_instances import read_coco_ground_truth
    from pnm.masks.crops import crop_runs
    from pnm.masks.runs import decode_masks
    from pnm.pictures.rgb_files import read_rgb

    truth = read_coco_ground_truth(annotations)
    for key, entry in tqdm(truth.images.items(), desc="refining", unit="image"):
        rows = [row for row in truth.annotations.get(key, []) if not row.get("iscrowd", 0)]
        if rows:
            masks = decode_masks([row["segmentation"] for row in rows], entry.height, entry.width, str)
            yield read_rgb(images / entry.file_name), [crop_runs(masks, n) for n in range(len(rows))]


def _strength_rows(belief, judged) -> list[list]:  # type: ignore[no-untyped-def]
    """What each strength does to the objects that are judged, in percent."""
    from pnm.object_refinement.belief import LEAST_GAIN, LOSS
    from pnm.object_refinement.decision import decision_of

    gains, risks = belief(judged.features)
    perfect, rows = judged.coarse_ious > 0.9999, []
    for strength in STRENGTHS:
        score = np.where((risks <= decision_of(strength).risk) & (gains >= LEAST_GAIN), gains, -1)
        best = score.argmax(axis=1)
        real = np.where(score.max(axis=1) > 0, judged.gains[np.arange(len(best)), best], 0)
        groups = (real, real[perfect], real[judged.coarse_ious < 0.95])
        rows.append([strength, *(100 * part.mean() if len(part) else np.nan for part in groups)])
        rows[-1] += [100 * (real < -LOSS).mean(), 100 * (real > LOSS).mean()]
    return rows


def _picture(curve) -> bytes:  # type: ignore[no-untyped-def]
    import io

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4, 4), dpi=150)
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    axes.plot(curve.predicted, curve.measured, "o-", color="C0")
    axes.set(xlabel="predicted risk", ylabel="share that is worse", title="reliability, objects held back")
    axes.set_aspect("equal")
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def pack(args: argparse.Namespace) -> None:
    """Does what the arguments say."""
    import torch
    from tabulate import tabulate

    from pnm.formats.atomic_files import atomic_file, write_bytes
    from pnm.formats.safe_checkpoint import check_weights, load_torch
    from pnm.object_refinement.belief_fitting import Outcomes, fitted_belief, outcomes, reliability
    from pnm.object_refinement.network import ARCHITECTURES, RefinementNetwork
    from pnm.object_refinement.prediction import torch_prediction
    from pnm.object_refinement.trained_network import PREFIX, checkpoint

    _check_number(args.annotations, args.draws)
    content = load_torch(args.weights)
    model = content.get("model", content)
    network = RefinementNetwork(ARCHITECTURES[args.architecture])
    names = {f"{PREFIX}{name}": value for name, value in network.state_dict().items()}
    check_weights(model, args.weights, names)
    stored = {name.removeprefix(PREFIX): torch.as_tensor(model[name]) for name in names}
    network.load_state_dict({k: v.half() if v.is_floating_point() else v for k, v in stored.items()})
    rng = np.random.default_rng(args.seed)
    seen = outcomes(torch_prediction(network), _scenes(args.annotations, args.images), rng, args.draws)
    order = rng.permutation(len(seen.gains))
    held = int(len(order) * _JUDGED)
    judged, others = (Outcomes(*(part[rows] for part in seen)) for rows in (order[:held], order[held:]))
    belief = fitted_belief(others, args.seed)
    headers = ("strength", "IoU gain", "of right masks", "of IoU < 95", "worse", "better")
    print(f"{len(order)} coarse masks, {held} of them judged; all in percent")
    print(tabulate(_strength_rows(belief, judged), headers, floatfmt=".2f"))
    curve = reliability(belief, judged)
    print(tabulate(zip(*curve), ("predicted risk", "worse", "candidates"), floatfmt=".3f"))
    result = checkpoint(network, fitted_belief(seen, args.seed))
    write_bytes(args.output.with_suffix(".png"), _picture(curve))
    with atomic_file(args.output) as file:
        torch.save(result, file)
    print(f"{args.output}: {args.output.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="of a training")
    parser.add_argument("--architecture", default="universal_small", metavar="NAME", help="MODEL.UNIVERSAL.NETWORK")
    parser.add_argument("--annotations", type=Path, required=True, metavar="JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.pth")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    parser.add_argument("--draws", type=int, default=4, metavar="N", help="coarse masks of each object (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        if args.output.suffix != ".pth":
            raise UserError(f"--output is {args.output}, expected a *.pth")
        if args.output.exists() and not args.overwrite:
            raise UserError(f"{args.output} exists already; choose another --output, or add --overwrite")
        for path in (args.weights, args.annotations, args.images):
            if not path.exists():
                raise FileNotFoundError(f"{path} is missing: check the path")
        pack(args)


if __name__ == "__main__":
    main()
