"""Console and file logging of a run, and log calls that hold back repetitions."""

import atexit
import logging
import os
import sys
import time
from collections import Counter
from functools import cache
from typing import Any, TextIO

import torch
from detectron2.utils.file_io import PathManager
from tabulate import tabulate
from termcolor import colored

__all__ = ["create_small_table", "log_every_n_seconds", "log_first_n", "setup_logger"]

_DATE = "%m/%d %H:%M:%S"
_PLAIN = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"


class _ConsoleFormatter(logging.Formatter):
    """A green header with a shortened logger name; warnings and errors say so in red."""

    def __init__(self, root: str, shown_as: str):
        super().__init__(colored("[%(asctime)s %(name)s]: ", "green") + "%(message)s", datefmt=_DATE)
        self._root, self._shown_as = root + ".", shown_as + "." if shown_as else ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        name, record.name = record.name, record.name.replace(self._root, self._shown_as)
        line = super().formatMessage(record)
        record.name = name  # other handlers get the same record
        if record.levelno < logging.WARNING:
            return line
        word, style = ("WARNING", ["blink"]) if record.levelno < logging.ERROR else ("ERROR", ["blink", "underline"])
        return f"{colored(word, 'red', attrs=style)} {line}"


@cache
def _shared_stream(filename: str) -> TextIO:
    """One append-mode stream per file, shared by all loggers that write to it."""
    PathManager.mkdirs(os.path.dirname(filename))
    stream = PathManager.open(filename, "a")
    atexit.register(stream.close)
    return stream


@cache  # a second call with the same arguments must not log everything twice
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Makes the logger ``name`` write to the console (rank 0 only) and to a file (every rank).

    Args:
        output: a ``.txt`` or ``.log`` file, or a folder that gets ``log.txt``; None writes no file.
            Ranks above 0 append ``.rank<N>`` to the name.
        abbrev_name: what console lines show instead of ``name``; "d2" for "detectron2" by default.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    shown_as = abbrev_name if abbrev_name is not None else {"detectron2": "d2"}.get(name, name)
    plain = logging.Formatter(_PLAIN, datefmt=_DATE)

    def add(stream: TextIO, formatter: logging.Formatter) -> None:
        handler = logging.StreamHandler(stream)
        handler.setLevel(logging.DEBUG)
        handler.setFormatter(formatter)
        logger.addHandler(handler)

    if configure_stdout and distributed_rank == 0:
        add(sys.stdout, _ConsoleFormatter(name, shown_as) if color else plain)
    if output is not None:
        filename = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        add(_shared_stream(f"{filename}.rank{distributed_rank}" if distributed_rank else filename), plain)
    return logger


_times_seen: Counter = Counter()
_last_shown: dict[tuple, float] = {}


def _calling_line() -> tuple[str, tuple]:
    """(module name, hashable place) of the nearest frame outside this file."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "__main__")
    place = (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
    return ("detectron2" if module == "__main__" else module), place


def log_first_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None, key: Any = "caller") -> None:
    """Logs ``msg`` the first ``n`` times only.

    Args:
        name: the logger; the caller's module if None.
        key: what counts as a repetition: "caller" (the same source line), "message" (the same text),
            or a tuple of both.
    """
    module, place = _calling_line()
    aspects = (key,) if isinstance(key, str) else tuple(key)
    identity = (place if "caller" in aspects else ()) + ((msg,) if "message" in aspects else ())
    _times_seen[identity] += 1
    if _times_seen[identity] <= n:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Logs from the same source line at most once in ``n`` seconds."""
    module, place = _calling_line()
    now = time.time()
    if now - _last_shown.get(place, -float("inf")) >= n:
        _last_shown[place] = now
        logging.getLogger(name or module).log(lvl, msg)


def create_small_table(small_dict: dict[str, Any]) -> str:
    """A Markdown table of one row, the keys of ``small_dict`` as its headers."""
    layout = {"tablefmt": "pipe", "floatfmt": ".3f", "numalign": "center", "stralign": "center"}
    return tabulate([list(small_dict.values())], headers=list(small_dict), **layout)


def _log_api_usage(identifier: str) -> None:
    torch._C._log_api_usage_once("detectron2." + identifier)
