#!/usr/bin/env python
"""What tools/report.py takes beyond tools/evaluate.py, and how large its page becomes, on thousands of images.

python benchmarks/report.py --images 5000 --tasks semantic instance panoptic

Twenty drawn scenes of 480 x 640 stand for all images, each shifted in its own way (np.roll); the prediction is the
scene with objects moved by a pixel or two, of wrong class or missing. Each task is scored by evaluate.py and reported
by report.py as a person starts them; the same with --compare, of a prediction with one that is drawn anew.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from null_model import processor
from tabulate import tabulate

from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.masks.runs import array_counts, rle_text

ROOT = Path(__file__).resolve().parents[1]
SHAPE, SCENES, OBJECTS, THINGS, STUFF = (480, 640), 20, 8, 10, 4
CATEGORIES = [{"id": k, "name": f"class {k}", "isthing": int(k >= STUFF)} for k in range(STUFF + THINGS)]


def draw(seed: int, wobble: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) segment ids from 1 and the class of each; ``wobble`` 0 is the truth, others are predictions of it."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng((seed, wobble))
    ids, classes = np.zeros(SHAPE, np.int32), [0]
    for n in range(STUFF):
        top = n * SHAPE[0] // STUFF
        ids[top + (int(noise.integers(-2, 3)) if wobble and n else 0) :] = n + 1
        classes.append(n)
    for n in range(OBJECTS):
        centre, axes = rng.integers((40, 40), (600, 440)), rng.integers(12, 90, 2)
        kind, angle = int(rng.integers(STUFF, STUFF + THINGS)), float(rng.uniform(0, 180))
        if wobble:
            centre, axes = centre + noise.integers(-2, 3, 2), axes + noise.integers(-2, 3, 2)
            kind = kind if noise.random() < 0.9 else int(noise.integers(STUFF, STUFF + THINGS))
        classes.append(kind)
        if not wobble or noise.random() < 0.9:
            cv2.ellipse(ids, tuple(map(int, centre)), tuple(map(int, axes)), angle, 0, 360, STUFF + n + 1, -1)
    return ids, np.array(classes)


class Writer:
    """Files of one side: label maps, panoptic PNGs with their JSON, and COCO annotations or results."""

    def __init__(self, folder: Path, side: str):
        self.folder, self.side = folder, side
        self.panoptic: list[dict] = []
        self.instances: list[dict] = []
        for name in (side, f"{side}_labels"):
            (folder / name).mkdir()

    def add(self, image: int, ids: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> None:
        name = f"{image:06d}.png"
        cv2.imwrite(str(self.folder / f"{self.side}_labels" / name), classes[ids].astype(np.uint8))
        cv2.imwrite(str(self.folder / self.side / name), ids_to_rgb(ids)[..., ::-1])
        present = np.unique(ids).tolist()
        segments = [{"id": k, "category_id": int(classes[k])} for k in present]
        self.panoptic.append({"image_id": image, "file_name": name, "segments_info": segments})
        for k in present:
            if k > STUFF:
                rle = {"size": list(SHAPE), "counts": rle_text(array_counts(ids == k)).decode()}
                entry = {"image_id": image, "category_id": int(classes[k]), "segmentation": rle}
                extra = {"id": len(self.instances) + 1} if self.side == "gt" else {"score": float(rng.random())}
                self.instances.append(entry | extra)

    def finish(self, images: int) -> None:
        listed = [{"id": n, "height": SHAPE[0], "width": SHAPE[1], "file_name": f"{n:06d}.jpg"} for n in range(images)]
        content = {"images": listed, "annotations": self.panoptic, "categories": CATEGORIES}
        (self.folder / f"{self.side}.json").write_text(json.dumps(content))
        whole = {"images": listed, "annotations": self.instances, "categories": CATEGORIES[STUFF:]}
        content = whole if self.side == "gt" else self.instances
        (self.folder / f"{self.side}_instances.json").write_text(json.dumps(content))


def write_files(folder: Path, images: int) -> None:
    """``gt``, ``a`` and ``b`` in all formats, and ``images``."""
    rng = np.random.default_rng(0)
    scenes = [[draw(seed, wobble) for wobble in range(3)] for seed in range(SCENES)]
    writers = [Writer(folder, side) for side in ("gt", "a", "b")]
    photograph = rng.integers(0, 255, (SHAPE[0] // 8, SHAPE[1] // 8, 3)).astype(np.uint8)
    picture = cv2.imencode(".jpg", cv2.resize(photograph, SHAPE[::-1]))[1].tobytes()
    (folder / "images").mkdir()
    for n in range(images):
        shift = tuple(rng.integers((0, 0), SHAPE))
        for writer, (ids, classes) in zip(writers, scenes[n % SCENES]):
            writer.add(n, np.roll(ids, shift, (0, 1)), classes, rng)
        (folder / f"images/{n:06d}.jpg").write_bytes(picture)
    for writer in writers:
        writer.finish(images)


def timed(*words: object) -> tuple[float, float]:
    """Wall seconds, and the peak of memory in MB."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def measured(folder: Path, task: str, compared: bool, workers: int) -> tuple:
    ending = {"semantic": "_labels", "instance": "_instances.json", "panoptic": ".json"}[task]
    gt, a, b = (f"{folder / side}{ending}" for side in ("gt", "a", "b"))
    words = ["--gt", gt, "--pred", a, "--workers", workers, *(["--compare", b] if compared else [])]
    if task == "semantic":
        words += ["--classes", STUFF + THINGS]
    if task == "panoptic":
        words += ["--gt-folder", folder / "gt", "--pred-folder", folder / "a"]
        words += ["--compare-folder", folder / "b"] if compared else []
    scored, _ = timed(ROOT / "tools/evaluate.py", task, *words)
    page = folder / "report.html"
    reported, memory = timed(ROOT / "tools/report.py", *words, "--images", folder / "images", "--output", page)
    title = f"{task}, compared" if compared else task
    return title, scored, reported, reported - scored, page.stat().st_size / 1e6, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--tasks", nargs="+", default=["semantic", "instance", "panoptic"])
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        # In a process of its own: the memory of one that started others is counted among theirs.
        writing = multiprocessing.get_context("spawn").Process(target=write_files, args=(Path(name), args.images))
        writing.start()
        writing.join()
        rows = []
        for task in args.tasks:
            for both in (False, True):
                rows.append(measured(Path(name), task, both, args.workers))
                print(*rows[-1], flush=True)
    where = f"{processor()}, Python {platform.python_version()}"
    print(f"{args.images} images of 480 x 640, {args.workers} workers; {where}")
    headers = ("task", "evaluate.py (s)", "report.py (s)", "beyond (s)", "page (MB)", "memory (MB)")
    print(tabulate(rows, headers=headers, floatfmt=".1f"))


if __name__ == "__main__":
    main()
