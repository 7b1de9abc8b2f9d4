"""What processes of a test do; imported by its own name, for a Detectron2 clone on the path has a package ``tests``."""

import numpy as np

from pnm.interior_offsets.field import interior_offsets
from pnm.interior_offsets.stored import OffsetSource, open_offsets

SOURCE = OffsetSource("a" * 64, bins=8, threshold=0.4, scale=2.0, steps=3)


def offsets(seed=0, size=(40, 30)):
    """Any offsets of an image."""
    rng = np.random.default_rng(seed)
    return interior_offsets(rng.random(size), rng.integers(0, 8, size), 8)


def add_many(folder, paths, seed):
    """Stores offsets of files."""
    stored = open_offsets(folder, SOURCE)
    for path in paths:
        stored.add(path, offsets(seed, (64, 64)))
