"""Settings that the masks in a folder were refined with, kept beside them: no run goes on with others."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from pnm.errors import UserError
from pnm.formats.atomic_files import write_text
from pnm.predictions.refinement import Step

_RECORD = ".refined-with.json"
_SHOWN = 20  # characters of a value; longer ones are digests


@runtime_checkable
class HasSettings(Protocol):
    """A step that says what it depends on, by the options that a user gives; else its fingerprint stands for all."""

    @property
    def named_settings(self) -> Mapping[str, str]: ...


def settings_of(steps: Sequence[Step], options: Mapping[str, object]) -> dict[str, str]:
    """All that refined masks depend on but images and masks: ``options``, and those of steps one after the other."""
    settings = {"refiners": str(len(steps)), **{name: str(value) for name, value in options.items()}}
    for n, step in enumerate(steps, 1):
        own = step.named_settings if isinstance(step, HasSettings) else {"refiner": step.fingerprint}
        settings |= {name if n == 1 else f"{name} of refiner {n}": value for name, value in own.items()}
    return settings


def has_settings(folder: Path, settings: Mapping[str, str]) -> bool:
    """Whether these are the settings of the run that a folder is the output of."""
    return _read(folder / _RECORD) == settings


def keep_settings(folder: Path, settings: Mapping[str, str], *, overwrite: bool) -> None:
    """Keeps the settings of a run in its output folder.

    Raises:
        UserError: masks in it have other settings, or settings that can't be read, and are not to be replaced; the
            message names them.
    """
    path = folder / _RECORD
    before = _read(path)
    if before is None and path.exists() and not overwrite:
        raise UserError(
            f"{path}, which says what the masks there were refined with, is damaged: add --overwrite to refine all "
            "anew, or choose another --output"
        )
    if before is not None and not overwrite:
        differing = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
        if differing:
            told = "; ".join(_told(name, before.get(name), settings.get(name)) for name in differing)
            raise UserError(
                f"{folder} holds masks that were refined with other settings ({told}): give the same, add --overwrite "
                "to refine all anew, or choose another --output"
            )
    if before != settings:
        write_text(path, json.dumps(dict(settings), indent=1))


def _told(name: str, before: str | None, now: str | None) -> str:
    if max(len(before or ""), len(now or "")) > _SHOWN:
        return f"another {name}"
    return f"{name} {before or 'none'}, now {now or 'none'}"


def _read(path: Path) -> dict[str, str] | None:
    """What was kept; None of nothing, or of something torn."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
