"""Files read in other threads while those before are worked on."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Content = TypeVar("Content")


def read_ahead(read: Callable[[Item], Content], items: Sequence[Item], ahead: int) -> Iterator[Content]:
    """``read(item)`` of each item in order, of which at most ``ahead`` are read before they are asked for."""
    with ThreadPoolExecutor(ahead) as pool:
        waiting = deque(pool.submit(read, item) for item in items[:ahead])
        for n in range(len(items)):
            if n + ahead < len(items):
                waiting.append(pool.submit(read, items[n + ahead]))
            yield waiting.popleft().result()
