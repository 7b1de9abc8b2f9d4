"""What a JSON file looks like, for recognising its format: parsed once, however many formats ask."""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from pnm.errors import UserError
from pnm.formats.coco_instances import read_json

_HEAD = 2**16  # bytes
_WHOLE = ("categories",)  # lists that are short, and tell formats apart


def json_summary(path: Path) -> Mapping[str, Any]:
    """The object that a ``*.json`` holds, of whose lists there is the first entry, and all of ``categories``.

    Empty of what is no such file, or can't be read.
    """
    try:
        if path.suffix.lower() != ".json" or not path.is_file():
            return {}
        state = path.stat()
        return _summary(path, state.st_mtime_ns, state.st_size)
    except (UserError, OSError):
        return {}


@lru_cache(maxsize=4)
def _summary(path: Path, changed: int, size: int) -> Mapping[str, Any]:
    try:
        parts = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):  # not an object; or one that Python reads nevertheless
        return _shortened(read_json(path, ""))
    return {key: _first(raw) if key not in _WHOLE else json.loads(bytes(raw)) for key, raw in parts.items()}


def _first(raw: msgspec.Raw) -> Any:
    """A value; of a list, a list of its first entry."""
    head = bytes(memoryview(raw)[:_HEAD])
    if head.startswith(b"["):
        text = head.decode("utf-8", "ignore")[1:].lstrip()
        with suppress(ValueError):  # longer than that
            return [] if text.startswith("]") else [json.JSONDecoder().raw_decode(text)[0]]
    value = json.loads(bytes(raw))
    return value[:1] if isinstance(value, list) else value


def _shortened(content: Any) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        return {}
    return {
        key: value[:1] if isinstance(value, list) and key not in _WHOLE else value for key, value in content.items()
    }


def lists_in(summary: Mapping[str, Any], *keys: str) -> bool:
    """Whether all of these are lists of objects, as far as they are looked at; empty ones, too."""
    return all(
        isinstance(summary.get(key), list) and all(isinstance(entry, dict) for entry in summary[key]) for key in keys
    )
