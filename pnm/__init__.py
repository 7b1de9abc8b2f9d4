"""Pixel null model and boundary refinement: the mathematics, over NumPy and torch.

Importing this package makes ``detectron2`` importable: the installed one if there is one, otherwise the engine in
``embedded/``. Nothing in ``pnm`` itself imports it, but for the Detectron2 plug-ins ``pnm.projects``.
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

__version__ = "0.2.0"

_HERE = Path(__file__).resolve().parent
_CLONE = _HERE.parent if (_HERE.parent / "embedded" / "detectron2").is_dir() else None


class _RoomsBeside:
    """Finds ``pnm.projects`` and ``pnm.tools`` in a clone, where they lie beside this package and not in it."""

    ROOMS = ("pnm.projects", "pnm.tools")

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name not in cls.ROOMS or _CLONE is None:
            return None
        folder = _CLONE / name.removeprefix("pnm.")
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def ensure_detectron2() -> None:
    """Makes ``import detectron2`` work; importing ``pnm`` has done so already."""
    if importlib.util.find_spec("detectron2") is None:
        sys.path.append(str((_CLONE or _HERE) / "embedded"))


if _CLONE is not None and _RoomsBeside not in sys.meta_path:
    sys.meta_path.append(_RoomsBeside)
ensure_detectron2()
