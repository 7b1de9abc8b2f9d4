"""Errors that a user can mend, told in one line."""

import itertools
import os
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

EXIT_USER_ERROR = 2


class UserError(ValueError):
    """What came, what was expected and what to do, in one line: the launcher and tools print it without a traceback."""


def one_line(error: BaseException) -> str:
    """The message; of an error from a loader's worker process, which carries a traceback as text, the last line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    text = lines[-1] if lines[0].startswith("Caught ") else lines[0]
    name, _, rest = text.partition(": ")
    # Only the worker's text repeats the type's name.
    return rest if rest and name.rsplit(".", 1)[-1].endswith("Error") and lines[0].startswith("Caught ") else text


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Tells errors that the user can mend in one line and exits with status 2; ``PNM_TRACEBACK=1`` shows all."""
    try:
        yield
    except (UserError, OSError, ImportError) as error:
        if os.environ.get("PNM_TRACEBACK"):
            traceback.print_exc()
        message = one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"
        print(f"error: {message}", file=sys.stderr, flush=True)
        sys.exit(EXIT_USER_ERROR)


def listed(items: Collection[object], most: int = 5) -> str:
    """The first few of some items in one line: "3, 7, 12, 40, 41, ..."."""
    shown = [str(item) for item in itertools.islice(items, most)]
    return ", ".join(shown) + (", ..." if len(items) > most else "")


def print_lines(lines: Sequence[str], most: int = 20) -> None:
    """Prints the first few lines to stderr, and how many there are more."""
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    for line in [*lines[:most], *more]:
        print(line, file=sys.stderr)
