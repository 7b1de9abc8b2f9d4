#!/usr/bin/env python
"""Refines the predictions of any segmentation model with a trained refiner; no ground truth is needed.

python tools/refine.py --config-file configs/quickstart/bpr_instance.yaml --images photos --predictions results.json \\
    --output refined.json MODEL.WEIGHTS output/quickstart/bpr_instance/model_final.pth
python tools/refine.py --config-file ... --image photo.jpg --mask photo_mask.png --output refined.png MODEL.WEIGHTS ...

Predictions may be COCO results JSON, COCO panoptic JSON with PNGs, a folder of label PNGs, Detectron2's
sem_seg_predictions.json or a folder of Cityscapes' *_pred.txt. The output has the same format, ids, scores and order.
A run that was killed goes on where it was when the same command is given again.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # of fvcore, at import
import pnm  # noqa: F401  (makes detectron2 importable)
from detectron2.data.detection_utils import read_image
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from PIL import Image
from tqdm import tqdm

from pnm.formats.label_png import read_label_png
from pnm.predictions import ImageFiles, Key, PredictionSet, PredictionWriter, missing_images, open_predictions
from pnm.errors import UserError, one_line_errors
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.refiner_loading import load_refiner, refiner_fingerprint
from pnm.projects.refining import Refiner
from pnm.projects.launcher.run_setup import check_device, check_processes

AHEAD = 2  # images that are read while another is refined


def load_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned upright as its EXIF data say."""
    try:
        return read_image(str(path), format="RGB")
    except (OSError, SyntaxError, ValueError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot read {path}: {cause}; restore the file, or leave its predictions away") from error


def read_ahead(predictions: PredictionSet, images: ImageFiles, keys: list[Key]) -> Iterator[tuple]:
    """(key, image, prediction), each read in another thread while those before it are refined."""

    def read(key: Key) -> tuple:
        return key, load_image(images.path(key)), predictions.read(key)

    with ThreadPoolExecutor(AHEAD) as pool:
        waiting = [pool.submit(read, key) for key in keys[:AHEAD]]
        for n in range(len(keys)):
            if n + AHEAD < len(keys):
                waiting.append(pool.submit(read, keys[n + AHEAD]))
            yield waiting[n].result()
            waiting[n] = None


def find_images(args, predictions: PredictionSet, images: ImageFiles) -> set[Key]:
    """Keys of the predictions that have an image; without --keep-missing, all must have one."""
    missing = set(missing_images(predictions, images))
    if missing and not args.keep_missing:
        shown = ", ".join(map(str, sorted(missing, key=str)[:10])) + (", ..." if len(missing) > 10 else "")
        raise UserError(
            f"{len(missing)} of {len(predictions)} predictions have no image in {args.images}: {shown}. Give the right "
            "folder, or --image-info with COCO's list of images; --keep-missing leaves these predictions as they are"
        )
    return set(predictions.keys) - missing


def refine_files(args) -> None:
    """One process of a run over result files."""
    with one_line_errors():
        setup_logger(distributed_rank=comm.get_rank(), name="pnm")
        cfg = load_config(args.config_file, args.opts)
        check_device(cfg)
        refiner = load_refiner(cfg)
        images = ImageFiles(args.images, args.image_info)
        options = {"png_folder": args.png_folder} if args.png_folder else {}
        if images.sizes and Path(args.predictions).is_file() and refiner.task == "instance":
            options["image_sizes"] = images.sizes
        predictions = open_predictions(args.predictions, task=refiner.task, **options)
        present = find_images(args, predictions, images)
        if comm.is_main_process():
            print(f"{args.predictions}: {len(predictions)} images, {predictions.FORMAT}")
        with predictions.writer(args.output, refiner_fingerprint(cfg), overwrite=args.overwrite) as writer:
            comm.synchronize()  # all know what is done before anyone adds to it
            mine = [key for key in predictions.keys[comm.get_rank() :: comm.get_world_size()] if key in present]
            left = [key for key in mine if key not in writer.done]
            counts = {"initial": len(mine) - len(left), "total": len(mine)}
            refine_each(refiner, read_ahead(predictions, images, left), writer, counts)
            comm.synchronize()
            if comm.is_main_process():
                print(f"{writer.finish(keep_missing=args.keep_missing)}: {len(present)} images refined")
    comm.synchronize()  # a process that leaves while others are at work may abort


def refine_each(refiner: Refiner, samples: Iterator[tuple], writer: PredictionWriter, counts: dict[str, int]) -> None:
    bar = tqdm(**counts, unit="image", disable=not comm.is_main_process(), dynamic_ncols=True)
    for key, image, prediction in samples:
        try:
            refined = refiner.refine(image, prediction)
        except UserError as error:
            raise UserError(f"image {key}: {error}") from None
        writer.write(key, refined, prediction)
        bar.update(1)
    bar.close()


def refine_one(args) -> None:
    """One image and one mask or label map, a PNG."""
    with one_line_errors():
        if args.output.exists() and not args.overwrite:
            raise UserError(f"{args.output} exists already; choose another --output, or add --overwrite")
        if args.output.suffix.lower() != ".png":
            raise UserError(f"--output is {args.output}, expected a *.png for one mask")
        cfg = load_config(args.config_file, args.opts)
        check_device(cfg)
        image, mask = load_image(args.image), read_label_png(args.mask)
        refined = load_refiner(cfg)(image, mask)
        if refined.dtype == np.bool_:
            refined = refined.astype(np.uint8) * (mask.max() or 255)
        partial = args.output.with_name(f".{args.output.name}.partial")
        Image.fromarray(refined).save(partial, format="PNG")
        os.replace(partial, args.output)
        print(f"{args.output}: {np.count_nonzero(refined != mask)} of {mask.size} pixels changed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config that the refiner was trained with")
    many = parser.add_argument_group("result files")
    many.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, searched with its folders")
    many.add_argument("--predictions", type=Path, metavar="FILE|DIR", help="coarse predictions")
    many.add_argument(
        "--image-info", type=Path, metavar="JSON", help="COCO annotations or image info: ids to file names"
    )
    many.add_argument("--png-folder", type=Path, metavar="DIR", help="PNGs of a panoptic JSON (default: beside it)")
    many.add_argument("--keep-missing", action="store_true", help="predictions without an image stay as they are")
    many.add_argument("--num-gpus", type=int, default=1, metavar="N", help="processes, one for each GPU (default: 1)")
    one = parser.add_argument_group("one image")
    one.add_argument("--image", type=Path, metavar="FILE")
    one.add_argument("--mask", type=Path, metavar="PNG", help="binary mask, or label map of a semantic refiner")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE|DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: MODEL.WEIGHTS FILE ...")
    args = parser.parse_args()
    if args.image and args.mask and not (args.images or args.predictions):
        refine_one(args)
    elif args.images and args.predictions and not (args.image or args.mask):
        with one_line_errors():
            check_processes(args.num_gpus)
        launch(refine_files, args.num_gpus, dist_url="auto", args=(args,))
    else:
        parser.error("give --images and --predictions, or --image and --mask")


if __name__ == "__main__":
    main()
