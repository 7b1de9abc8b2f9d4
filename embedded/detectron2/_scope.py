"""What the embedded engine leaves out is reported by the name of the package that has it.

Every package of the engine ends its ``__init__`` with ``__getattr__ = outside(__name__)``, and
:func:`install_finder` answers imports of whole modules that are not here.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder

_REMEDY = (
    "the embedded engine holds only what this project uses. Install Detectron2 itself "
    "(https://github.com/facebookresearch/detectron2); the project then runs on it unchanged."
)


def outside(package: str) -> Callable[[str], object]:
    """Returns a module ``__getattr__`` for ``package`` that raises AttributeError naming real Detectron2.

    The error is of that kind since programs ask modules for names that may not be there: ``hasattr``, ``pickle``.
    """

    def missing(name: str) -> object:
        raise AttributeError(f"{package}.{name} is not available: {_REMEDY}")

    return missing


class _MissingModuleFinder(MetaPathFinder):
    """Last on ``sys.meta_path``: asked only for ``detectron2.*`` modules that nobody else has found.

    ``from package import name`` asks for a module of that name, too, where the package has no such attribute.
    """

    def find_spec(self, fullname, path=None, target=None):
        if fullname.startswith("detectron2.") and not fullname.rpartition(".")[2].startswith("__"):
            # The import system passes over an error of the very name that it asked for; what is missing is Detectron2.
            raise ModuleNotFoundError(f"{fullname} is not available: {_REMEDY}", name="detectron2")
        return None


def install_finder() -> None:
    """Appends the finder to ``sys.meta_path``, once."""
    if not any(isinstance(finder, _MissingModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(_MissingModuleFinder())
