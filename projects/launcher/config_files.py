"""Where config files are; nothing heavy is imported, so that a wrong name is told at once."""

import difflib
from pathlib import Path

from pnm.errors import UserError

_ROOT = Path(__file__).resolve().parents[2]  # of a clone, or the installed package
CONFIGS = _ROOT / "configs"


def find_config_file(name: str) -> str:
    """The path of a config: ``name`` itself, or that file among this project's configs.

    Raises:
        UserError: there is none; the nearest is named.
    """
    if Path(name).is_file():
        return name
    relative = name.removeprefix("configs/")
    for candidate in (CONFIGS / relative, CONFIGS / f"{relative}.yaml"):
        if candidate.is_file():
            return str(candidate)
    known = [path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")]
    near = difflib.get_close_matches(relative, known, n=1, cutoff=0.3)
    advice = f"; did you mean configs/{near[0]}?" if near else ""
    raise UserError(f"config file {name} does not exist{advice}")
