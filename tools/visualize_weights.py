#!/usr/bin/env python
"""Draws pixel weights: an image, its labels and the weights at several localities side by side (Fig. 3 of the paper).

python tools/visualize_weights.py --image photo.jpg --labels photo_labels.png --localities 3 11 35 --output weights.png
python tools/visualize_weights.py --dataset shapes_val_sem_seg --index 3 --output weights.png
"""

import argparse
import sys
from pathlib import Path

import numpy as np

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.formats.atomic_files import atomic_file
import pnm  # noqa: F401  (makes detectron2 importable)
import cv2
from PIL import Image

from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.null_model.null_model import BORDERS, pixel_null_model
from pnm.null_model.pixel_weights import TRANSFORMS, pixel_weights
from pnm.errors import UserError, interrupts_told, one_line_errors
from pnm.null_model.colours import colour_weights

GAP, CAPTION = 8, 34  # px


def read_image(path: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"image {path} does not exist") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not a readable image: {error}") from None


def sample_of(name: str, index: int, config_file: str) -> tuple[str, str, int, bool]:
    """Image file, label file, ignore label and whether the labels are panoptic, of one record of a data set."""
    from pnm.projects.launcher.config import load_config  # takes seconds, which files need not
    from pnm.projects.launcher.data.user_data import register_user_data
    from pnm.projects.launcher.run_setup import register_builtin_data
    from pnm.projects.launcher.trainer import as_user_error
    from detectron2.data import DatasetCatalog, MetadataCatalog

    register_builtin_data()
    register_user_data(load_config(config_file))
    if name not in DatasetCatalog.list():
        raise UserError(f"data set {name!r} is not registered; your own: --config-file")
    with as_user_error((name,)):
        records = DatasetCatalog.get(name)
    if not 0 <= index < len(records):
        raise UserError(f"--index is {index}, data set {name} has {len(records)} images")
    record = records[index]
    for key, ignored, panoptic in (
        ("sem_seg_file_name", MetadataCatalog.get(name).get("ignore_label", 255), False),
        ("pan_seg_file_name", 0, True),
    ):
        if key in record:
            return record["file_name"], record[key], ignored, panoptic
    raise UserError(f"data set {name} has no label maps; choose a semantic or panoptic one")


def colour_labels(labels: np.ndarray, ignore_label: int) -> np.ndarray:
    """(H, W, 3) uint8: a fixed colour for each label, black for ignored pixels."""
    number = labels.astype(np.uint64) * 2654435761 + 97
    colours = np.stack([(number >> shift) % 200 + 40 for shift in (3, 11, 19)], axis=-1).astype(np.uint8)
    colours[labels == ignore_label] = 0
    return colours


def captioned(panel: np.ndarray, caption: str, width: int) -> np.ndarray:
    """The panel, ``width`` px wide, under its caption."""
    height = max(1, round(panel.shape[0] * width / panel.shape[1]))
    shrinks = width < panel.shape[1]
    panel = cv2.resize(panel, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    title = np.full((CAPTION, width, 3), 255, np.uint8)
    cv2.putText(title, caption, (2, CAPTION - 11), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([title, panel])


def arrange(panels: list[np.ndarray], columns: int) -> np.ndarray:
    """Panels of one size in rows, with white between them."""
    height, width = panels[0].shape[:2]
    rows = -(-len(panels) // columns)
    page = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for k, panel in enumerate(panels):
        y, x = GAP + k // columns * (height + GAP), GAP + k % columns * (width + GAP)
        page[y : y + height, x : x + width] = panel
    return page


def draw(image: np.ndarray, labels: np.ndarray, ignore_label: int, args: argparse.Namespace) -> np.ndarray:
    """The page, (H, W, 3) uint8."""
    if image.shape[:2] != labels.shape:
        raise UserError(f"the image is {image.shape[:2]} and its labels {labels.shape}: they don't belong together")
    panels = [(image, "image"), (colour_labels(labels, ignore_label), "labels")]
    for locality in args.localities:
        null_model = pixel_null_model(labels, locality, ignore_label=ignore_label, border=args.border)
        weights = pixel_weights(null_model, args.transform)
        largest = float(np.percentile(weights, 99.5))
        panels.append((colour_weights(weights, largest), f"d = {locality}: 1 to {weights.max():.2f}"))
    return arrange([captioned(*panel, args.width) for panel in panels], args.columns)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="an image file, with --labels")
    parser.add_argument("--labels", help="its label PNG")
    parser.add_argument("--ignore-label", type=int, default=255, help="of --labels; a data set has its own")
    parser.add_argument("--dataset", help="name of a registered semantic or panoptic data set, in place of --image")
    parser.add_argument("--index", type=int, default=0, help="which image of the data set")
    parser.add_argument("--config-file", default="", help="whose DATASETS.REGISTER holds the data set")
    parser.add_argument("--localities", type=int, nargs="+", default=[3, 11, 35, 101], metavar="D", help="in px, odd")
    parser.add_argument("--transform", choices=TRANSFORMS, default="log")
    parser.add_argument("--border", choices=BORDERS, default="valid")
    parser.add_argument("--width", type=int, default=480, help="of a panel, px")
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("output/weights.png"))
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    if bool(args.dataset) == bool(args.image and args.labels):
        raise UserError("give either --image with --labels, or --dataset")
    if args.width < 1 or args.columns < 1:
        raise UserError(f"--width {args.width} and --columns {args.columns} must be at least 1")
    image_file, label_file, ignore_label, panoptic = args.image, args.labels, args.ignore_label, False
    if args.dataset:
        image_file, label_file, ignore_label, panoptic = sample_of(args.dataset, args.index, args.config_file)
    labels = read_panoptic_png(label_file) if panoptic else read_label_png(label_file)
    page = draw(read_image(image_file), labels, ignore_label, args)
    with atomic_file(args.output) as file:
        Image.fromarray(page).save(file, format="PNG")
    print(f"wrote {args.output}: {image_file}")


def main() -> None:
    with interrupts_told("nothing was written"), one_line_errors():
        run(parse_args())


if __name__ == "__main__":
    main()
