"""Numba compiles a kernel when it is first used, and keeps it on disk: the first run says why it waits."""

import os
import sys
from pathlib import Path

from pnm.machine_code import ENDING, folders


def announce_compilation() -> None:
    """Prints a line to stderr if no compiled kernel is on disk, as after an installation."""
    roots = [Path(__file__).parent] if not os.environ.get("NUMBA_CACHE_DIR") else []
    roots += [folder.parent if folder.name == "pnm_kernels" else folder for folder in folders(__file__)]
    if not any(next(root.rglob(f"*{ending}"), None) for root in roots for ending in (ENDING, ".nbi")):
        print("compiling kernels for the first time; this takes up to a minute, once", file=sys.stderr, flush=True)
