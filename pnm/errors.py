"""Errors that a user can mend, told in one line."""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143  # 128 and the signal's number, as shells count


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


def message_of(error: BaseException) -> str:
    """What a user is told of an error: of one of the file system which file, and not in Python's own words."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'} cannot be used: {error.strerror}"
    return one_line(error)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Tells errors that the user can mend in one line and exits with status 2; ``PNM_TRACEBACK=1`` shows all."""
    try:
        yield
    except (UserError, OSError, ImportError) as error:
        if os.environ.get("PNM_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {message_of(error)}", file=sys.stderr, flush=True)
        sys.exit(EXIT_USER_ERROR)


def exit_status(work: Callable[[], None]) -> int:
    """That of a process after some work whose errors are told as :func:`one_line_errors` does; it goes on."""
    try:
        with one_line_errors():
            work()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


class _Terminated(BaseException):
    """SIGTERM came."""


def _end_children() -> None:
    """Interrupts the processes that this one has started, so that they put away what they write, and ends those that
    don't hear it within seconds."""
    children = multiprocessing.active_children()
    for process in children:
        if process.pid is not None:
            with suppress(OSError):
                os.kill(process.pid, signal.SIGINT)
    for process in children:
        process.join(5)
        process.terminate()


@contextmanager
def interrupts_told(text: str) -> Iterator[None]:
    """Tells Ctrl-C and SIGTERM in one line, e.g. how to go on, after what was being written has been put away.

    Processes that this one has started end, too; exit status 130 or 143. ``PNM_TRACEBACK=1`` shows all.
    """
    owner, is_ours = os.getpid(), threading.current_thread() is threading.main_thread()
    is_ours = is_ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def terminate(*_: object) -> None:
        if os.getpid() != owner:  # a copy, as pools of processes are made of
            os._exit(EXIT_TERMINATED)
        raise _Terminated

    if is_ours:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (KeyboardInterrupt, _Terminated) as end:
        _end_children()
        if os.environ.get("PNM_TRACEBACK"):
            traceback.print_exc()
        is_interrupt = isinstance(end, KeyboardInterrupt)
        print(f"{'interrupted' if is_interrupt else 'terminated'}: {text}", file=sys.stderr, flush=True)
        sys.exit(EXIT_INTERRUPTED if is_interrupt else EXIT_TERMINATED)
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def listed(items: Collection[object], most: int = 5) -> str:
    """The first few of some items in one line: "3, 7, 12, 40, 41, ..."."""
    shown = [str(item) for item in itertools.islice(items, most)]
    return ", ".join(shown) + (", ..." if len(items) > most else "")


def print_lines(lines: Sequence[str], most: int = 20) -> None:
    """Prints the first few lines to stderr, and how many there are more."""
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    for line in [*lines[:most], *more]:
        print(line, file=sys.stderr)
