"""What the embedded engine leaves out is reported by the name of the package that has it.

Every package of the engine ends its ``__init__`` with ``__getattr__ = outside(__name__)``, and
:func:`install_finder` answers imports of whole modules that are not here.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

_REMEDY = (
    "the embedded engine holds only what this project uses. Install Detectron2 itself "
    "(https://github.com/facebookresearch/detectron2); the project then runs on it unchanged."
)


def outside(package: str) -> Callable[[str], object]:
    """Returns a module ``__getattr__`` for ``package`` that raises ImportError naming real Detectron2.

    Dunder names and submodules not imported yet raise AttributeError, as the import system expects.
    """

    def missing(name: str) -> object:
        path = getattr(sys.modules[package], "__path__", None)
        is_submodule = path is not None and PathFinder.find_spec(f"{package}.{name}", path) is not None
        if name.startswith("__") or is_submodule:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        raise ImportError(f"{package}.{name} is not available: {_REMEDY}", name=package)

    return missing


class _MissingModuleFinder(MetaPathFinder):
    """Last on ``sys.meta_path``: asked only for ``detectron2.*`` modules that nobody else has found."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.startswith("detectron2."):
            raise ModuleNotFoundError(f"{fullname} is not available: {_REMEDY}", name=fullname)
        return None


def install_finder() -> None:
    """Appends the finder to ``sys.meta_path``, once."""
    if not any(isinstance(finder, _MissingModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(_MissingModuleFinder())
