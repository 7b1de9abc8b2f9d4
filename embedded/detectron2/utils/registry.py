"""Name -> object registries, and objects found by their dotted name."""

import pydoc
from typing import Any

from fvcore.common.registry import Registry

__all__ = ["Registry", "locate"]


def locate(name: str) -> Any:
    """Returns the object called ``name``, a dotted path such as ``"package.module.Class"``.

    Raises:
        ImportError: nothing can be imported under that name.
    """
    found = pydoc.locate(name)
    if found is None:
        raise ImportError(f"nothing is called {name!r}: expected the dotted path of an importable object")
    return found
