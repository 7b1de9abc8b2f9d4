"""``CfgNode``: the tree of settings, which refuses keys it does not know and says which one was meant."""

import os
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import IO, Any

import yaml
from detectron2.utils.file_io import PathManager
from fvcore.common.config import BASE_KEY
from fvcore.common.config import CfgNode as _CfgNode

from .configurable import configurable

__all__ = ["CfgNode", "configurable", "get_cfg"]

_REMEDY = "install Detectron2 itself (https://github.com/facebookresearch/detectron2) to use it"
_Origin = Callable[[tuple[str, ...]], str]  # path of keys -> " (in FILE)"


class ConfigKeyError(KeyError):
    """A key that cannot be set; unlike KeyError it prints its message without quotes."""

    def __str__(self) -> str:
        return str(self.args[0])


def _settings(node: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path of keys, value) of every setting below ``node``; an empty node counts as a setting."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _settings(value, (*path, key))
        else:
            yield (*path, key), value


def _tree(settings: list[tuple[tuple[str, ...], Any]]) -> dict:
    """Inverse of :func:`_settings`."""
    root: dict = {}
    for (*path, last), value in settings:
        node = root
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return root


def _as_lists(value: Any) -> Any:
    """Tuples become lists, as YAML knows no tuples."""
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _nowhere(path: tuple[str, ...]) -> str:
    return ""


class CfgNode(_CfgNode):
    """fvcore's node (attribute access, freezing, ``_BASE_`` files) with errors that name key, file and remedy."""

    _loading: list[str] = []  # the file being read and those that named it as their base
    _loaded: list[str] = []  # every file of the current or last load

    @classmethod
    def _open_cfg(cls, filename: str) -> IO:
        if not PathManager.isfile(filename):
            raise FileNotFoundError(
                f"config file {filename} does not exist; a relative {BASE_KEY} starts at the file that names it"
            )
        return PathManager.open(filename, "r")

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """The file's content over that of its ``_BASE_`` (a path or a list of paths), as plain dicts.

        Raises:
            FileNotFoundError: the file or a base is missing.
            ValueError: a file is not a YAML mapping, or is its own base.
        """
        identity = filename if "://" in filename else os.path.realpath(filename)
        if identity in CfgNode._loading:
            raise ValueError(f"config file {filename} is, through its {BASE_KEY}, its own base")
        if not CfgNode._loading:
            CfgNode._loaded = []
        CfgNode._loading.append(identity)
        CfgNode._loaded.append(filename)
        try:
            loaded = super().load_yaml_with_base(filename, allow_unsafe=allow_unsafe)
        except yaml.YAMLError as error:
            raise ValueError(f"config file {filename} is not valid YAML: {error}") from error
        except (TypeError, AttributeError):  # what fvcore meets in an empty file or a bare value
            loaded = None
        finally:
            CfgNode._loading.pop()
        if not isinstance(loaded, dict):
            raise ValueError(f"config file {filename} must hold a mapping of keys to values")
        return loaded

    @classmethod
    def _file_that_sets(cls, path: tuple[str, ...]) -> str:
        """`` (in FILE)`` for the most derived file of the last load that has the key."""
        for filename in cls._loaded:
            with cls._open_cfg(filename) as file:
                found: Any = yaml.load(file, Loader=yaml.BaseLoader)
            for key in path:
                found = found.get(key) if isinstance(found, dict) else None
            if found is not None:
                return f" (in {filename})"
        return ""

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Overwrites settings with those of a YAML file and its bases.

        Args:
            allow_unsafe: admit YAML tags that call Python (a warning is logged). Such a file can run any code.

        Raises:
            FileNotFoundError: the file or one of its bases is missing.
            KeyError: a key is unknown.
            ValueError: bad YAML, another VERSION, a value of another type than the default's, or one that asks
                for a part of Detectron2 that this engine does not have.
        """
        loaded = type(self)(self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe))
        ours, theirs = self.get("VERSION"), loaded.get("VERSION", self.get("VERSION"))
        if ours != theirs:
            raise ValueError(
                f"{cfg_filename} is written for config VERSION {theirs}, expected {ours}; "
                "Detectron2 itself can upgrade old files"
            )
        self._merge(loaded, self._file_that_sets)

    def merge_from_other_cfg(self, cfg_other: _CfgNode) -> None:
        """Overwrites settings with those of another node; errors as in :meth:`merge_from_file`."""
        self._merge(cfg_other, _nowhere)

    def merge_from_list(self, cfg_list: list) -> None:
        """Overwrites settings with ``[key, value, key, value, ...]``; string values are read as Python literals.

        Errors as in :meth:`merge_from_file`, and a ValueError for a key without a value.
        """
        if len(cfg_list) % 2:
            raise ValueError(f"overrides are KEY VALUE pairs, but the last of {list(cfg_list)} has no partner")
        pairs = zip(cfg_list[::2], cfg_list[1::2], strict=True)
        kept = [
            (key, value) for key, value in pairs if self._admits(tuple(key.split(".")), self._decode_cfg_value(value))
        ]
        super().merge_from_list([item for pair in kept for item in pair])

    def _merge(self, other: _CfgNode, origin: _Origin) -> None:
        settings = list(_settings(other))
        kept = [(path, value) for path, value in settings if self._admits(path, self._decode_cfg_value(value), origin)]
        super().merge_from_other_cfg(other if len(kept) == len(settings) else type(self)(_tree(kept)))

    def _admits(self, path: tuple[str, ...], value: Any, origin: _Origin = _nowhere) -> bool:
        """Whether the setting can be merged; False if it only asks for what this engine does anyway."""
        from .defaults import FIXED

        full_key = ".".join(map(str, path))
        if "VERSION" in self and full_key in FIXED:
            only = FIXED[full_key]
            if _as_lists(value) == only:
                return False
            raise ValueError(
                f"{full_key} is {value!r}{origin(path)}, but the embedded engine has only {only!r}; {_REMEDY}"
            )
        node: Any = self
        for key in path:
            if not isinstance(node, _CfgNode) or key not in node:
                break
            node = node[key]
        else:
            return True
        moved = self.key_is_deprecated(full_key) or self.key_is_renamed(full_key)
        if moved or (isinstance(node, _CfgNode) and node.is_new_allowed()):
            return True
        raise ConfigKeyError(f"unknown config key {full_key}{origin(path)}{self._suggestion(full_key)}")

    def _suggestion(self, full_key: str) -> str:
        known = {".".join(map(str, path)).upper(): path for path, _ in _settings(self)}
        near = get_close_matches(full_key.upper(), known, n=1, cutoff=0.5)
        return f"; did you mean {'.'.join(known[near[0]])}?" if near else ""


def get_cfg() -> CfgNode:
    """A fresh copy of all settings at their defaults."""
    from .defaults import DEFAULTS

    return CfgNode(DEFAULTS)
