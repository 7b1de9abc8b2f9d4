"""Polygons drawn as COCO's C code draws them, as runs of pixels down the columns, in time proportional to their height
and width and not to their area.

COCO rounds corners to fifths of a pixel and walks along each edge from one fifth to the next, along the longer side.
Wherever that walk passes the middle of a column, a run begins or ends at the row where it does. Here only those places
are looked at. Of each column, they come in pairs.

An example, a triangle in an image of 4 x 3, whose columns have the middles 0, 1 and 2, fifths 2, 7 and 12; it covers
pixels 1 and 2 of column 0, and pixel 1 of column 1, 5 if counted down the columns::

    >>> x, y = np.array([0, 10, 0], np.int32), np.array([3, 8, 18], np.int32)
    >>> starts, ends = draw_polygon(x, y, 4, 3)
    >>> starts.tolist(), ends.tolist()
    ([1, 6], [3, 7])
"""

import numpy as np

from pnm.kernels import kernel

FIFTHS = 5  # of a pixel


@kernel
def _columns(a: int, b: int, width: int) -> tuple[int, int]:
    """First column whose middle an edge from fifths a to b passes, and the one after the last."""
    least, most = min(a, b), max(a, b)
    first = max((least + FIFTHS - 3) // FIFTHS, 0)  # whose middle lies between fifths 5n + 2 and 5n + 3
    return first, max(min((most + FIFTHS - 3) // FIFTHS, width), first)


@kernel
def _row(fifths: int, height: int) -> int:
    """The first row whose middle lies below."""
    return 0 if fifths < 3 else min((fifths + 2) // FIFTHS, height)


@kernel
def _flat_edge(xs: int, ys: int, xe: int, ye: int, n: int) -> int:
    """Where an edge that is at least as wide as high passes the middle of column n, in fifths; xs < xe."""
    slope, t = (ye - ys) / (xe - xs), FIFTHS * n + 2 - xs
    return min(int(ys + slope * t + 0.5), int(ys + slope * (t + 1) + 0.5))


@kernel
def _steep_edge(xs: int, ys: int, xe: int, ye: int, n: int) -> int:
    """Where an edge that is higher than wide passes the middle of column n, in fifths; ys < ye.

    It is the step before the first one on the other side of it. The division tells it but for rounding.
    """
    slope, middle = (xe - xs) / (ye - ys), float(FIFTHS * n + 3)
    t = int((middle - 0.5 - xs) / slope)
    is_right = slope > 0
    while (xs + slope * t + 0.5 >= middle) == is_right:
        t -= 1
    while (xs + slope * (t + 1) + 0.5 >= middle) != is_right:
        t += 1
    return ys + t


@kernel
def _crossing(xs: int, ys: int, xe: int, ye: int, n: int) -> int:
    if abs(xe - xs) >= abs(ye - ys):
        return _flat_edge(xs, ys, xe, ye, n) if xs < xe else _flat_edge(xe, ye, xs, ys, n)
    return _steep_edge(xs, ys, xe, ye, n) if ys < ye else _steep_edge(xe, ye, xs, ys, n)


@kernel
def _count(x: np.ndarray, width: int) -> np.ndarray:
    """(W' + 1,) where the crossings of each column begin in a list of all; columns without any at the end left out."""
    right = 0
    for k in range(x.size):
        right = max(right, _columns(np.int64(x[k - 1]), np.int64(x[k]), width)[1])
    places = np.zeros(right + 2, np.int64)
    for k in range(x.size):  # how many more edges than in the column before
        first, last = _columns(np.int64(x[k - 1]), np.int64(x[k]), width)
        places[first + 1] += 1
        places[last + 1] -= 1
    for _ in range(2):
        for n in range(1, right + 2):
            places[n] += places[n - 1]
    return places[: right + 1]


@kernel
def _put(rows: np.ndarray, first: int, last: int, row: int) -> None:
    """Puts a row in its place among the sorted rows first..last - 1."""
    while last > first and rows[last - 1] > row:
        rows[last] = rows[last - 1]
        last -= 1
    rows[last] = row


@kernel
def draw_polygon(x: np.ndarray, y: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs of a polygon.

    Args:
        x, y: (C,) int32, corners in fifths of a pixel, as :func:`fifths` makes them.
        height, width: of the image.

    Returns:
        First pixel of each run and the one after its last, (R,) int64 each, sorted, neither empty nor touching.
    """
    places = _count(x, width)
    right = places.size - 1
    ends, rows = places[:right].copy(), np.empty(places[right], np.int64)
    for k in range(x.size):
        xs, ys, xe, ye = np.int64(x[k - 1]), np.int64(y[k - 1]), np.int64(x[k]), np.int64(y[k])
        first, last = _columns(xs, xe, width)
        for n in range(first, last):
            _put(rows, places[n], ends[n], _row(_crossing(xs, ys, xe, ye, n), height))
            ends[n] += 1
    run_starts, run_ends, number = np.empty(rows.size // 2, np.int64), np.empty(rows.size // 2, np.int64), 0
    for n in range(right):
        for k in range(places[n], places[n + 1], 2):
            start, end = n * height + rows[k], n * height + rows[k + 1]
            if start == end:
                continue
            if number and run_ends[number - 1] == start:
                number -= 1
            else:
                run_starts[number] = start
            run_ends[number] = end
            number += 1
    return run_starts[:number], run_ends[:number]


@kernel
def unite(
    starts_a: np.ndarray, ends_a: np.ndarray, starts_b: np.ndarray, ends_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Runs that are in one mask or the other, or both."""
    room = starts_a.size + starts_b.size
    starts, ends, number = np.empty(room, np.int64), np.empty(room, np.int64), 0
    i = j = 0
    while i + j < room:
        is_a = j == starts_b.size or (i < starts_a.size and starts_a[i] <= starts_b[j])
        start, end = (starts_a[i], ends_a[i]) if is_a else (starts_b[j], ends_b[j])
        i, j = i + is_a, j + (not is_a)
        if number and ends[number - 1] >= start:
            ends[number - 1] = max(ends[number - 1], end)
        else:
            starts[number], ends[number] = start, end
            number += 1
    return starts[:number], ends[:number]


@kernel
def fifth(coordinate: float) -> int:
    """A coordinate in pixels, in whole fifths of them, as COCO rounds."""
    return int(FIFTHS * coordinate + 0.5)


def fifths(coordinates: np.ndarray) -> np.ndarray:
    """Coordinates (C,) float64 in whole fifths of a pixel, int32."""
    largest = float(np.iinfo(np.int32).max)
    return np.clip(np.trunc(FIFTHS * coordinates + 0.5), -largest, largest).astype(np.int32)
