"""Two global registries: how to load a data set by name, and what is known about it."""

import difflib
import logging
import types
from collections import UserDict
from collections.abc import Callable

from detectron2.utils.logger import log_first_n

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog"]


class _NamedDict(UserDict):
    """What both catalogues share."""

    def list(self) -> list[str]:
        """Registered names, in order of registration."""
        return [*self]

    def remove(self, name: str) -> None:
        """Forgets ``name``; KeyError if it is not registered."""
        del self[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({', '.join(self)})"

    __str__ = __repr__


class _DatasetCatalog(_NamedDict):
    """Maps a name such as ``coco_2017_train`` to a function without arguments that returns ``list[dict]``."""

    def register(self, name: str, func: Callable[[], list[dict]]) -> None:
        """Registers a loader, which must give the same list each time. ValueError if the name is taken."""
        if not callable(func):
            raise ValueError(f"data set {name!r}: expected a function that returns list[dict], got {func!r}")
        if name in self:
            raise ValueError(f"data set {name!r} is registered already: choose another name, or remove it first")
        self[name] = func

    def get(self, name: str) -> list[dict]:
        """Loads the data set. KeyError, with the nearest registered names, if there is none of this name."""
        if name not in self:
            near = difflib.get_close_matches(str(name), self.list(), n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"registered are: {', '.join(self)}"
            raise KeyError(f"data set {name!r} is not registered; {hint}")
        return self[name]()


class Metadata(types.SimpleNamespace):
    """Facts about a data set as attributes. An attribute, once set, keeps its value: a different one is an error."""

    name: str = "N/A"

    _RENAMED = dict(
        class_names="thing_classes",
        stuff_class_names="stuff_classes",
        dataset_id_to_contiguous_id="thing_dataset_id_to_contiguous_id",
    )

    def __getattr__(self, key: str):
        # Reached only for attributes that are not there.
        current = self._RENAMED.get(key)
        if current is not None:
            log_first_n(logging.WARNING, f"metadata {key!r} is now called {current!r}", n=10)
            return getattr(self, current)
        known = ", ".join(k for k in self.__dict__ if k != "name") or "nothing"
        raise AttributeError(f"data set {self.name!r} has no metadata {key!r}; it has {known}")

    def __setattr__(self, key: str, val) -> None:
        key = self._RENAMED.get(key, key)
        if key in self.__dict__:
            if self.__dict__[key] != val:
                raise ValueError(
                    f"metadata {key!r} of data set {self.name!r} is {_shortened(self.__dict__[key])} already and "
                    f"cannot become {_shortened(val)}: use another data set name, or MetadataCatalog.remove it first"
                )
            return
        super().__setattr__(key, val)

    def as_dict(self) -> dict:
        """A shallow copy."""
        return dict(self.__dict__)

    def set(self, **kwargs) -> "Metadata":
        """Sets several attributes; returns itself."""
        for key, val in kwargs.items():
            setattr(self, key, val)
        return self

    def get(self, key: str, default=None):
        """The attribute, or ``default``."""
        return getattr(self, key, default)


def _shortened(value, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


class _MetadataCatalog(_NamedDict):
    """Maps a data set's name to its one :class:`Metadata`, made empty when first asked for."""

    def get(self, name: str) -> Metadata:
        if not name:
            raise ValueError("the name of a data set must not be empty")
        if name not in self:
            self[name] = Metadata(name=name)
        return self[name]


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
