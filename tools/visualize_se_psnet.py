#!/usr/bin/env python
"""Draws what SE-PSNet says of photographs, image by image: the paper's Fig. 8 and 9.

python tools/visualize_se_psnet.py --config-file output/quickstart/se_psnet/config.yaml --images photos \\
    --output page.png MODEL.WEIGHTS output/quickstart/se_psnet/model_final.pth
python tools/visualize_se_psnet.py --config-file ... --images datasets/shapes/images/val --output page.png \\
    --truth datasets/shapes/annotations/panoptic_val.json datasets/shapes/panoptic_val MODEL.WEIGHTS ...

Columns, where the model has such outputs: silhouettes of the basis head and of the stuff head, as heat; instances from
the score on that the panoptic map takes, MODEL.SE_PSNET.FUSION.SCORE_THRESH; the same in the colours of their predicted
IoU; the panoptic map, black being void. An instance has one colour in all of them, a true segment that of the predicted
one that it matches.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.errors import UserError, interrupts_told, one_line_errors
from pnm.formats.atomic_files import atomic_file, check_writable
from pnm.formats.coco_panoptic import read_annotations, read_categories
from pnm.formats.image_files import ImageFiles, check_no_image
from pnm.formats.label_png import read_panoptic_png
from pnm.predictions.refinement import image_names
from pnm.projects.launcher.config_files import find_config_file
from pnm.tools.picture_pages import check_positive, draw_page, picture_format, picture_size

if TYPE_CHECKING:
    from pnm.projects.se_psnet.meta_arch import SEPSNet
    from pnm.projects.se_psnet.pictures import TrueMap


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config that SE-PSNet was trained with")
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="folder of images, or one image")
    parser.add_argument("--truth", nargs=2, type=Path, metavar=("JSON", "DIR"), help="panoptic ground truth, its PNGs")
    parser.add_argument("--output", required=True, type=Path, metavar="PICTURE")
    parser.add_argument("--num", type=int, default=4, metavar="N", help="images, spread over all (default: 4)")
    parser.add_argument("--width", type=int, default=200, metavar="PX", help="of a picture (default: 200)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: MODEL.WEIGHTS FILE ...")
    return parser.parse_args()


def chosen_images(images: Path, count: int) -> list[Path]:
    """So many images of a folder, spread over all; or the one image."""
    if images.is_file():
        return [images]
    names = image_names(images)
    return [images / names[k] for k in np.linspace(0, len(names) - 1, min(count, len(names))).astype(int)]


def checked_config(file: str, overrides: Sequence[str]) -> Any:
    """The config of an SE-PSNet with weights and numbers of classes; a UserError if there is something missing."""
    import torch

    from pnm.projects.launcher.config import load_config
    from pnm.projects.launcher.data.checks import take_from_data
    from pnm.projects.launcher.data.user_data import register_user_data
    from pnm.projects.launcher.run_setup import register_builtin_data
    from pnm.projects.se_psnet.config import ARCHITECTURE

    cfg = load_config(file, overrides)
    if cfg.MODEL.META_ARCHITECTURE != ARCHITECTURE:
        raise UserError(
            f"{file} is of {cfg.MODEL.META_ARCHITECTURE}, expected the config of an {ARCHITECTURE}: give the one that "
            "the model was trained with"
        )
    if not cfg.MODEL.WEIGHTS:
        raise UserError("there are no weights; add: MODEL.WEIGHTS path/to/model_final.pth")
    if not cfg.MODEL.SE_PSNET.NUM_THINGS:
        register_builtin_data()
        register_user_data(cfg)
        take_from_data(cfg)
    cfg.MODEL.DEVICE = cfg.MODEL.DEVICE if torch.cuda.is_available() else "cpu"
    return cfg


def true_maps(json_file: Path, folder: Path, images: Sequence[Path], root: Path) -> "list[TrueMap]":
    """Panoptic ground truth of images in a folder, or folders in it."""
    from pnm.projects.se_psnet.pictures import TrueMap

    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: expected the PNGs of {json_file}")
    content, annotations = read_annotations(json_file)
    isthing, _ = read_categories(content, json_file)
    label_of = {category: n for n, category in enumerate(sorted(k for k in isthing if not isthing[k]), 1)}
    files, wanted, maps = ImageFiles(root, json_file), set(images), {}
    for key, annotation in annotations.items():
        image = files.find(key)
        if image not in wanted:
            continue
        strange = sorted({s["category_id"] for s in annotation["segments_info"]} - isthing.keys())
        if strange:
            raise UserError(f"{json_file}: image {key} has categories {strange[:5]} that its list of them lacks")
        segments = [
            {**s, "isthing": isthing[s["category_id"]], "label": label_of.get(s["category_id"], 0)}
            for s in annotation["segments_info"]
        ]
        maps[image] = TrueMap(read_panoptic_png(folder / annotation["file_name"]), segments)
    missing = [image for image in images if image not in maps]
    if missing:
        raise UserError(f"{json_file} has no ground truth of {missing[0]}: leave --truth out, or give that of --images")
    return [maps[image] for image in images]


def load_model(cfg: Any) -> "SEPSNet":
    """The trained network."""
    from detectron2.modeling import build_model

    from pnm.projects.launcher.checkpoint import SafeCheckpointer

    model = build_model(cfg)
    SafeCheckpointer(model, strict=not cfg.TEST.ALLOW_PARTIAL_WEIGHTS).load(cfg.MODEL.WEIGHTS)
    return model.eval()


def sample_of(image: np.ndarray, cfg: Any) -> dict[str, Any]:
    """A network's input, resized as for evaluation, of an RGB image."""
    import torch
    from detectron2.data import transforms as T

    ordered = image[..., ::-1] if cfg.INPUT.FORMAT == "BGR" else image
    resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST).get_transform(image)
    pixels = resize.apply_image(np.ascontiguousarray(ordered)).astype(np.float32)
    return {"image": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))}


def run(args: argparse.Namespace) -> None:
    check_positive(num=args.num, width=args.width)
    output_format = picture_format(args.output)
    if not args.images.exists():
        raise FileNotFoundError(f"{args.images} does not exist: expected an image, or a folder of images")
    root = args.images if args.images.is_dir() else args.images.parent
    check_no_image(args.output, root)
    check_writable(args.output)
    config, files = find_config_file(args.config_file), chosen_images(args.images, args.num)
    cfg = checked_config(config, args.opts)  # takes seconds: not before the arguments are known to be right
    from pnm.projects.dataset_mappers.reading import read_image
    from pnm.projects.se_psnet.pictures import PREDICTED_IOU, pictures_of, score_bar

    images = [read_image(str(file), "RGB") for file in files]
    truths: list[TrueMap | None] = [None] * len(files)
    if args.truth:
        json_file, folder = args.truth
        truths = [*true_maps(json_file, folder, files, root)]
    for path, image, truth in zip(files, images, truths, strict=True):
        if truth is not None and truth.ids.shape != image.shape[:2]:
            sizes = ["{} x {}".format(*array.shape[:2]) for array in (image, truth.ids)]
            raise UserError(f"{path} is {sizes[0]}, its ground truth {sizes[1]}: they don't belong together")
    model = load_model(cfg)
    rows = [
        pictures_of(model, image, sample_of(image, cfg), picture_size(image, args.width), truth)
        for image, truth in zip(images, truths, strict=True)
    ]
    with atomic_file(args.output) as file:
        draw_page(rows, args.width, {PREDICTED_IOU: score_bar()}).save(file, format=output_format)
    print(f"{args.output}: {len(rows)} image(s)")


def main() -> None:
    args = parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        run(args)


if __name__ == "__main__":
    main()
