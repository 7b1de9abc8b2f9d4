"""Memory of one image used again for the next."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt
_KEPT, _LARGEST = 2**28, 2**25  # bytes that stay with the process; more at once are given back


def keep_freed_memory() -> None:
    """Lets a program keep what it frees, up to 256 MB: asking for it anew takes longer than decoding a label map.

    For programs that look at one image after another; without effect but on Linux with glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_TRIM_THRESHOLD, _KEPT)
            mallopt(_MMAP_THRESHOLD, _LARGEST)
