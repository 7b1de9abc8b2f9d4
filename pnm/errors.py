"""Errors that a user can mend, told in one line."""

import os
import sys
import traceback
from collections.abc import Iterator
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
