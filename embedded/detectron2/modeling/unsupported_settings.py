"""Settings that are valid in Detectron2 and outside the embedded engine."""

from typing import Any, NoReturn

from detectron2.utils.registry import Registry

_DETECTRON2 = "Detectron2 itself (https://github.com/facebookresearch/detectron2)"


def reject_setting(setting: str) -> NoReturn:
    """Raises ImportError that names the configuration setting and the engine that has it."""
    raise ImportError(f"{setting} is outside the embedded engine: install {_DETECTRON2}, or change the setting.")


def find_registered(registry: Registry, key: str, name: str) -> Any:
    """The object that the configuration setting ``key: name`` asks for.

    Raises:
        KeyError: when there is none; lists those there are.
    """
    known = sorted(known for known, _ in registry)
    if name not in known:
        raise KeyError(
            f"{key} {name!r} is not registered; there are {', '.join(known)}. Import the module that defines it, "
            f"or, if it is one of Detectron2's own, install {_DETECTRON2}."
        )
    return registry.get(name)
