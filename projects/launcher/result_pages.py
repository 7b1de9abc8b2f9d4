"""Pages of images, truth and predictions: what ``tools/visualize.py`` draws once its arguments are read."""

import argparse
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer
from PIL import Image, ImageDraw

from pnm.errors import UserError
from pnm.formats.atomic_files import atomic_file
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.interior_offsets.colours import colour_offsets
from pnm.interior_offsets.stored import StoredOffsets
from pnm.masks.crops import crop_runs, paste
from pnm.masks.runs import decode_masks
from pnm.null_model.colours import colour_weights
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights
from pnm.predictions import Objects
from pnm.programs import program

from ..dataset_mappers.label_files import PANOPTIC, SEMANTIC, LabelFiles
from ..dataset_mappers.reading import read_image
from ..refining.coarse_predictions import DatasetPredictions
from ..refining.mapper import class_map
from ..refining.truths import segment_info
from .config import load_config
from .data.checks import take_from_data
from .data.user_data import register_user_data
from .run_setup import register_builtin_data

GAP, TITLE = 6, 18  # px


def draw_objects(visualizer: Visualizer, objects: Objects, min_score: float):
    """Draws detections from a score on."""
    kept = [n for n, score in enumerate(objects.scores) if score >= min_score]
    height, width = visualizer.img.shape[:2]
    instances = Instances((height, width), scores=torch.tensor([objects.scores[n] for n in kept]))
    instances.pred_classes = torch.tensor([objects.categories[n] for n in kept], dtype=torch.int64)
    masks = [paste(objects.masks[n], height, width) for n in kept]
    instances.pred_masks = torch.from_numpy(np.array(masks, dtype=bool).reshape(len(kept), height, width))
    return visualizer.draw_instance_predictions(instances)


def draw_segments(visualizer: Visualizer, ids: np.ndarray, segments: list[dict]):
    """Draws a map of segment ids; ``segments`` carry contiguous categories and ``isthing``."""
    rows = [{key: s[key] for key in ("id", "category_id", "isthing")} for s in segments]
    return visualizer.draw_panoptic_seg(torch.from_numpy(ids.astype(np.int64)), rows)


def draw_truth(visualizer: Visualizer, record: dict):
    """Ground truth of a dataset dict: panoptic if it has that, else what Detectron2 draws."""
    if "segments_info" in record:
        return draw_segments(visualizer, read_panoptic_png(record["pan_seg_file_name"]), record["segments_info"])
    return visualizer.draw_dataset_dict(record)


RESULTS = {  # the richest result file in an evaluation's folder decides what is drawn
    "predictions.json": "panoptic",
    "coco_instances_results.json": "instance",
    "sem_seg_predictions.json": "semantic",
}


def prediction_drawer(folder: Path, dataset_name: str, min_score: float):
    """A function from (visualizer, record) to the picture of what an evaluation of a data set left in its folder."""
    name = next((name for name in RESULTS if (folder / name).is_file()), None)
    if name is None:
        raise UserError(
            f"{folder} has none of {', '.join(RESULTS)}; evaluate first: {' '.join(program('train'))} --eval-only ..."
        )
    predictions = DatasetPredictions(str(folder / name), dataset_name, RESULTS[name])

    def draw(visualizer: Visualizer, record: dict):
        prediction = predictions.of(record)
        if prediction is None:
            return visualizer.output
        if isinstance(prediction, Objects):
            return draw_objects(visualizer, prediction, min_score)
        if RESULTS[name] == "semantic":
            return visualizer.draw_sem_seg(class_map(prediction))
        pairs = zip(prediction.segments, prediction.categories, strict=True)
        return draw_segments(visualizer, prediction.labels, [segment_info(*pair) for pair in pairs])

    return draw


def draw_weights(record: dict, cfg) -> np.ndarray:
    """Pixel weights of a record's ground truth as ``MODEL.PNM`` has them, bright = heavy, (H, W, 3) uint8.

    Of the labels that ``LABELS`` names, or of what the record has: panoptic ids, or its objects.
    """
    node, ignored = cfg.MODEL.PNM, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    semantic, panoptic = (LabelFiles([]).of(record, kind) for kind in (SEMANTIC, PANOPTIC))
    if panoptic and (node.LABELS == PANOPTIC or not semantic):
        labels, ignored = read_panoptic_png(panoptic), 0
    elif semantic:
        labels = read_label_png(semantic)
    else:
        labels, ignored = np.zeros((record["height"], record["width"]), np.int32), -1
        masks = decode_masks([row["segmentation"] for row in record["annotations"]], *labels.shape)
        for n in range(len(masks.areas)):
            pixels, top, left = crop_runs(masks, n)
            labels[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = n + 1
    weights = pixel_weights(pixel_null_model(labels, node.LOCALITY, ignore_label=ignored, border=node.BORDER))
    return colour_weights(weights, float(np.percentile(weights, 99.5)))


def draw_page(records: list[dict], metadata, drawers: dict, scale: float, maps: dict) -> Image.Image:
    """A page with a row for each record: image, ground truth, what ``drawers`` draw over it and ``maps`` make of the
    record, (H, W, 3) uint8, under their titles."""
    rows = []
    for record in records:
        image = read_image(record["file_name"], "RGB")
        pictures = []
        for draw in (draw_truth, *drawers.values()):
            np.random.seed(0)  # noqa: NPY002 - Detectron2 draws colours from it: a mask keeps its own from column to column
            pictures.append(draw(Visualizer(image, metadata, scale, ColorMode.IMAGE), record).get_image())
        plain = [image, *(make(record) for make in maps.values())]
        size = pictures[0].shape[1], pictures[0].shape[0]
        first, *last = [Image.fromarray(p).resize(size, Image.Resampling.BICUBIC) for p in plain]
        rows.append([first, *map(Image.fromarray, pictures), *last])
    titles = ("image", "ground truth", *drawers, *maps)
    width = max(sum(p.width + GAP for p in row) for row in rows) - GAP
    page = Image.new("RGB", (width, TITLE + sum(row[0].height + GAP for row in rows) - GAP), "white")
    pen = ImageDraw.Draw(page)
    y = TITLE
    for row in rows:
        x = 0
        for title, picture in zip(titles, row, strict=True):
            if y == TITLE:
                pen.text((x + 2, 3), title, fill="black")
            page.paste(picture, (x, y))
            x += picture.width + GAP
        y += row[0].height + GAP
    return page


def draw_results(args: argparse.Namespace) -> None:
    """Draws what the arguments say."""
    register_builtin_data()
    cfg = load_config(args.config_file, args.opts)
    output = args.output or Path(cfg.OUTPUT_DIR) / "predictions.png"
    picture_format = Image.registered_extensions().get(output.suffix.lower())
    if picture_format is None:
        raise UserError(f"--output is {output}, expected the name of a picture, such as *.png or *.jpg")
    register_user_data(cfg)
    take_from_data(cfg)
    name = args.dataset or cfg.DATASETS.TEST[0]
    metadata = MetadataCatalog.get(name)
    folder = args.predictions or Path(cfg.OUTPUT_DIR) / "inference" / name
    drawers = {"coarse" if args.refined else "prediction": prediction_drawer(folder, name, args.min_score)}
    if args.refined:
        drawers["refined"] = prediction_drawer(args.refined, name, args.min_score)
    records = DatasetCatalog.get(name)
    chosen = np.linspace(0, len(records) - 1, max(1, min(args.num, len(records)))).astype(int)
    maps = {}
    if args.offsets:
        stored = StoredOffsets(args.offsets)
        maps["boundary, and the way inwards"] = lambda record: colour_offsets(stored.read(record["file_name"]))
    if args.pixel_weights:
        maps["pixel weights"] = lambda record: draw_weights(record, cfg)
    page = draw_page([records[k] for k in chosen], metadata, drawers, args.scale, maps)
    with atomic_file(output) as file:
        page.save(file, format=picture_format)
    print(f"{output}: {len(chosen)} images of {name}")
