"""Makes HTML of sections: one file that needs nothing else, and may hold names of any characters."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from pnm.reporting.blocks import Section
from pnm.reporting.colours import CORRECT, FALSE, MISSED, WRONG_AREA
from pnm.scoring.scores import json_text

_SIZE = "⟦size of this page⟧"  # what stands for the size until it is known
_FOLDER = resources.files("pnm.reporting") / "page"


def _file(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def script_json(content: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: no character in it ends the element or begins a comment; nan is null."""
    text = json.dumps(json.loads(json_text(content)), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def render(
    title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section], numbers: Mapping[str, Any]
) -> str:
    """The page.

    Args:
        facts: names and values below the title; the page's size is added to them.
        numbers: what the page tells, for programs, as JSON in the element with id "numbers".
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(_file("report.html")).render(
        title=title,
        facts=[*facts, ("Size of this page", _SIZE)],
        sections=sections,
        numbers=script_json(numbers),
        css=_file("report.css"),
        js=_file("report.js"),
        colours={"correct": CORRECT, "missed": MISSED, "false": FALSE, "wrong": WRONG_AREA},
    )
    megabytes = len(page.encode("utf-8")) / 1e6
    return page.replace(_SIZE, f"{megabytes:.1f} MB", 1)
