"""A config's YAML is looked at before it is loaded: hostile text neither hangs nor fetches anything."""

from pathlib import Path
from typing import Any

import yaml

from pnm.errors import UserError

BASE = "_BASE_"
_MOST_BYTES, _MOST_DEPTH, _MOST_BASES = 1 << 20, 30, 20


def check_config_text(file: str | Path, below: tuple[Path, ...] = ()) -> None:
    """Checks a config and the ones that it builds on.

    Args:
        below: the files that build on this one.

    Raises:
        UserError: not YAML, too large or too deep; an alias within what another one stands for, which may grow without
            end; a ``_BASE_`` that is no file, or builds on itself.
    """
    path = Path(file)
    if path.resolve() in below or len(below) > _MOST_BASES:
        raise UserError(f"{file}: {BASE} leads back to the file itself, or through more than {_MOST_BASES} files")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{file} has more than {_MOST_BYTES} bytes: it is no config")
        text = path.read_text("utf-8")
        _check_events(file, text)
        bases = _bases(file, yaml.safe_load(text))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is not text: expected a YAML config") from None
    except UserError:
        raise
    except Exception as error:  # PyYAML's readers of numbers and dates raise nearly anything
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())[:300]}") from None
    for base in bases:
        where = Path(base).expanduser() if base.startswith("~") else path.parent / base
        if "://" in base or not where.is_file():
            raise UserError(f"{file}: {BASE} {base[:200]} does not exist; it must be a file, relative to this one")
        check_config_text(where, (*below, path.resolve()))


def _check_events(file: str | Path, text: str) -> None:
    depth, anchored = 0, [False]  # whether each collection that is open is, or lies within, an anchored one
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            anchored.append(anchored[-1] or event.anchor is not None)
            if depth > _MOST_DEPTH:
                raise UserError(f"{file}: more than {_MOST_DEPTH} lists or mappings in one another")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent) and anchored[-1]:
            raise UserError(f"{file}: alias *{event.anchor} within what another anchor names: write it out")


def _bases(file: str | Path, content: Any) -> list[str]:
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}, expected config keys: KEY: value")
    bases = (content or {}).get(BASE, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{file}: {BASE} is {str(bases)[:80]}, expected the name of a file")
    return bases
