"""Numba compiles a kernel when it is first used, and keeps it on disk: the first run says why it waits."""

import sys
from pathlib import Path

from pnm.masks.runs import shared_pixels


def announce_compilation() -> None:
    """Prints a line to stderr if no compiled kernel is on disk, as after an installation."""
    folder = Path(shared_pixels.stats.cache_path or "")  # of this one's room: __pycache__, or one in NUMBA_CACHE_DIR
    root = folder.parent.parent if folder.name == "__pycache__" else folder.parent
    if next(root.rglob("*.nbi"), None) is None:
        print("compiling kernels for the first time; this takes up to a minute, once", file=sys.stderr, flush=True)
