"""One writer at a time for a folder, by a lock that ends with the process that holds it, however that ends."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pnm.errors import UserError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = "lock"
logger = logging.getLogger(__name__)


def _acquire(file: BinaryIO) -> bool:
    """False if another process has it. Where the file system knows no locks, a warning must do."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.warning("%s cannot be locked (%s): let no other process write there", file.name, error.strerror)
    return True


@contextmanager
def folder_locked(folder: str | Path) -> Iterator[None]:
    """Makes the folder where it is missing and holds its lock, the file ``lock``, which stays.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        file = (Path(folder) / LOCK).open("ab")
    except OSError as error:
        raise UserError(f"folder {folder} is not writable ({error.strerror}); choose another") from None
    with file:
        if not _acquire(file):
            raise UserError(f"another process is writing to {folder}; wait until it has finished")
        yield
