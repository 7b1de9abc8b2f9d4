"""What the prepare scripts share: atomic writing, work in processes with a progress bar, and their error style."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.errors import interrupts_told
from pnm.formats.atomic_files import atomic_file, write_text
from pnm.usable_cores import usable_cores


def datasets_root() -> Path:
    """``DETECTRON2_DATASETS``, or ./datasets."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


def add_work_options(parser: argparse.ArgumentParser) -> None:
    """Adds --workers and --force."""
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), metavar="N", help="processes to work with (default: %(default)s)"
    )
    parser.add_argument(
        "--force", action="store_true", help="write files anew that are there already (default: keep them)"
    )


def save_png(pixels: np.ndarray, path: Path) -> None:
    """Writes an (H, W) or (H, W, 3) uint8 array."""
    with atomic_file(path) as file:
        Image.fromarray(pixels).save(file, format="PNG")


def save_json(content, path: Path, **format_options) -> None:
    write_text(path, json.dumps(content, **format_options))


def convert_all(convert: Callable, jobs: Iterable, workers: int, title: str) -> list:
    """``[convert(job) for job in jobs]`` in ``workers`` processes, with a progress bar."""
    jobs = list(jobs)
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, got {workers}")
    progress = {"desc": title, "total": len(jobs), "unit": "file"}
    if workers == 1 or len(jobs) < 2:
        return [convert(job) for job in tqdm(jobs, **progress)]
    with ProcessPoolExecutor(workers) as pool:
        try:
            return list(tqdm(pool.map(convert, jobs), **progress))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run(main: Callable[[], None]) -> None:
    """Runs a script's ``main``: user errors become one line on stderr and exit status 1."""
    try:
        with interrupts_told("run the same command again to go on where it stopped"):
            main()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
