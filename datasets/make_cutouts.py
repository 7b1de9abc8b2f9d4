"""Makes training scenes of the universal refiner from photographs and cut-outs: ``cutouts``, COCO instances.

    python datasets/fetch_photographs.py             # photographs under free licences, once
    python datasets/make_cutouts.py                  # 8000 + 400 scenes under datasets/cutouts, see cutout_scenes.py
    python datasets/make_cutouts.py --photographs my_photos --cutouts my_cutouts --train 2000 --seed 7

The same arguments and pictures give the same files:

    cutouts/images/{train,val}/*.jpg
    cutouts/instances_{train,val}.json    one category, "object"; masks are RLE
    cutouts/scenes.png                    sixteen scenes with their masks, to look at
"""

import argparse
import json
import sys
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cutout_scenes import Scene, Sources, draw_scene

from pnm.errors import UserError, interrupts_told, one_line_errors
from pnm.formats.atomic_files import atomic_folder
from pnm.masks.crops import crop_array, crop_rle
from pnm.masks.model_errors import contours_of
from pnm.usable_cores import usable_cores

_QUALITY = 95  # of the JPEGs; scenes have had their own losses before
_SHOWN = 16
_SPLITS = ("train", "val")


def _annotations(scene: Scene, image_id: int) -> list[dict]:
    rows = []
    for mask in scene.masks:
        crop = crop_array(mask)
        height, width = crop.pixels.shape
        rows.append(
            {
                "image_id": image_id,
                "category_id": 1,
                "iscrowd": 0,
                "area": int(np.count_nonzero(mask)),
                "bbox": [crop.left, crop.top, width, height],
                "segmentation": crop_rle(crop, *mask.shape),
            }
        )
    return rows


def _make(image_id: int, *, sources: Sources, folder: Path, split: str, seed: int, size: tuple[int, int]) -> list[dict]:
    """Draws a scene and writes its image; returns its annotations."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng((seed, _SPLITS.index(split), image_id))
    scene = draw_scene(sources, rng, *size)
    path = folder / "images" / split / f"{image_id:06}.jpg"
    if not cv2.imwrite(str(path), scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
        raise OSError(f"{path} cannot be written")
    return _annotations(scene, image_id)


def _write_split(folder: Path, split: str, number: int, args: argparse.Namespace, sources: Sources) -> None:
    (folder / "images" / split).mkdir(parents=True)
    size = (args.height, args.width)
    make = partial(_make, sources=sources, folder=folder, split=split, seed=args.seed, size=size)
    annotations: list[dict] = []
    with Pool(args.processes) as pool:
        for rows in tqdm(pool.imap(make, range(1, number + 1), 8), total=number, desc=split, unit="scene"):
            annotations += rows
    images = [
        {"id": n, "file_name": f"{n:06}.jpg", "height": args.height, "width": args.width} for n in range(1, number + 1)
    ]
    content = {
        "info": {"description": "pnm cutouts", "seed": args.seed},
        "images": images,
        "annotations": [{"id": n, **row} for n, row in enumerate(annotations, 1)],
        "categories": [{"id": 1, "name": "object"}],
    }
    (folder / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")


def _sheet(sources: Sources, args: argparse.Namespace) -> np.ndarray:
    """Scenes of other seeds with the contours of their masks, four by four."""
    cells, colors = [], ((255, 60, 60), (60, 255, 60), (80, 120, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))
    for n in range(_SHOWN):
        scene = draw_scene(sources, np.random.default_rng((args.seed, 2, n)), args.height, args.width)
        for k, mask in enumerate(scene.masks):
            cv2.drawContours(scene.image, contours_of(mask), -1, colors[k % len(colors)], 1)
        cells.append(scene.image)
    side = int(_SHOWN**0.5)
    return np.concatenate([np.concatenate(cells[k : k + side], axis=1) for k in range(0, _SHOWN, side)])


def make_cutouts(args: argparse.Namespace) -> None:
    for name in ("height", "width"):
        if not 128 <= getattr(args, name) <= 2048:
            raise UserError(f"--{name} is {getattr(args, name)}, expected 128 to 2048 px")
    if args.train < 0 or args.val < 0 or not args.train + args.val:
        raise UserError(f"--train {args.train} --val {args.val}: expected numbers of scenes from 0 on, not both 0")
    if args.cutouts and not args.cutouts.is_dir():
        raise UserError(f"--cutouts {args.cutouts} is no folder: run datasets/fetch_photographs.py, or leave it away")
    sources = Sources(args.photographs, args.cutouts)
    with atomic_folder(args.output, overwrite=args.overwrite) as folder:
        for split in _SPLITS:
            _write_split(folder, split, getattr(args, split), args, sources)
        cv2.imwrite(str(folder / "scenes.png"), _sheet(sources, args)[..., ::-1])
    print(f"{args.output}: {args.train} + {args.val} scenes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent
    parser.add_argument("--photographs", type=Path, default=here / "photographs/photographs", metavar="DIR")
    parser.add_argument("--cutouts", type=Path, default=here / "photographs/cutouts", metavar="DIR")
    parser.add_argument("--output", type=Path, default=here / "cutouts", metavar="DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace scenes that are there")
    for split, number in (("train", 8000), ("val", 400)):
        parser.add_argument(f"--{split}", type=int, default=number, metavar="N", help=f"scenes (default: {number})")
    parser.add_argument("--height", type=int, default=384, metavar="PX")
    parser.add_argument("--width", type=int, default=448, metavar="PX")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=usable_cores(), metavar="N")
    args = parser.parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        make_cutouts(args)


if __name__ == "__main__":
    main()
