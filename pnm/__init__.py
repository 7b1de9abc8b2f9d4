"""Pixel null model and boundary refinement: the mathematics, over NumPy and torch.

Importing this package makes ``detectron2`` importable: the installed one if there is one, otherwise
the engine in ``embedded/``. Nothing in ``pnm`` itself imports it.
"""

import importlib.util
import sys
from pathlib import Path

_EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"

__version__ = "0.1.0"


def _provide_detectron2() -> None:
    if importlib.util.find_spec("detectron2") is None:
        sys.path.append(str(_EMBEDDED))


_provide_detectron2()
