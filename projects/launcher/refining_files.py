"""Result files, or one mask, refined: what ``tools/refine.py`` does once its arguments are read."""

import argparse
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from PIL import Image
from tqdm import tqdm

from pnm.compiling import announce_compilation
from pnm.errors import UserError, listed, one_line_errors
from pnm.formats.atomic_files import atomic_file
from pnm.formats.label_png import read_label_png
from pnm.predictions import ImageFiles, Key, PredictionSet, PredictionWriter, missing_images, open_predictions

from ..dataset_mappers.reading import read_image
from ..refining import Refiner
from .config import load_config
from .refiner_loading import load_refiner, refiner_fingerprint
from .run_setup import check_device, check_processes, leave_together

AHEAD = 2  # images that are read while another is refined


def read_ahead(predictions: PredictionSet, images: ImageFiles, keys: list[Key]) -> Iterator[tuple]:
    """(key, image, prediction), each read in another thread while those before it are refined."""

    def read(key: Key) -> tuple:
        return key, read_image(str(images.path(key)), "RGB"), predictions.read(key)

    with ThreadPoolExecutor(AHEAD) as pool:
        waiting = deque(pool.submit(read, key) for key in keys[:AHEAD])
        for n in range(len(keys)):
            if n + AHEAD < len(keys):
                waiting.append(pool.submit(read, keys[n + AHEAD]))
            yield waiting.popleft().result()


def find_images(args, predictions: PredictionSet, images: ImageFiles) -> set[Key]:
    """Keys of the predictions that have an image; without --keep-missing, all must have one."""
    missing = set(missing_images(predictions, images))
    if missing and not args.keep_missing:
        shown = listed(sorted(missing, key=str), 10)
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
    leave_together()


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
        image, given = read_image(str(args.image), "RGB"), read_label_png(args.mask)
        refiner = load_refiner(cfg)
        mask = foreground(given, args.mask) if refiner.task == "instance" else given
        refined = refiner(image, mask)
        changed = np.count_nonzero(refined != mask)
        if refined.dtype == np.bool_:
            refined = refined.astype(given.dtype) * (given.max() or given.dtype.type(255))
        with atomic_file(args.output) as file:
            Image.fromarray(refined).save(file, format="PNG")
        print(f"{args.output}: {changed} of {mask.size} pixels changed")


def foreground(values: np.ndarray, name: Path) -> np.ndarray:
    """(H, W) bool: the object in a grey image. Of two values it is the greater one, of more those from the middle of
    the range on, which is said."""
    levels = np.unique(values)
    if len(levels) <= 2:
        return values == levels[-1] if len(levels) == 2 else values > 0
    middle = (int(np.iinfo(values.dtype).max) + 1) // 2
    print(f"{name} has {len(levels)} values, expected 2: those from {middle} on are taken for the object")
    return values >= middle


def start(args: argparse.Namespace) -> None:
    """Refines what the arguments say, in one process or in several."""
    announce_compilation()
    if args.image:
        refine_one(args)
        return
    with one_line_errors():
        check_processes(args.num_gpus)
    launch(refine_files, args.num_gpus, dist_url="auto", args=(args,))
