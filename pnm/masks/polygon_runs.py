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
    ([1, 5], [3, 6])
"""

import numpy as np

from pnm.kernels import kernel

FIFTHS = 5  # of a pixel


@kernel
def _column(fifth: int) -> int:
    """The first column whose middle, between fifths 5n + 2 and 5n + 3, is not left of a corner."""
    return (fifth + FIFTHS - 3) // FIFTHS


@kernel
def _row(fifth: int, height: int) -> int:
    """The first row whose middle lies below."""
    return 0 if fifth < 3 else min((fifth + 2) // FIFTHS, height)


@kernel
def _steep_step(xs: int, slope: float, per_fifth: float, middle: float) -> int:
    """The last step down an edge that is higher than wide before it passes the middle of a column, ``middle`` - 0.5.

    A product tells it but for rounding.
    """
    t = int((middle - 0.5 - xs) * per_fifth)
    while (xs + slope * t + 0.5 >= middle) == (slope > 0):
        t -= 1
    while (xs + slope * (t + 1) + 0.5 >= middle) != (slope > 0):
        t += 1
    return t


@kernel
def _places(x: np.ndarray, left: int, right: int) -> np.ndarray:
    """(W' + 2,) where the crossings of columns left..right - 1 begin in a list of all, and twice where they end.

    A column has as many as edges pass its middle.
    """
    places = np.zeros(right - left + 2, np.int64)
    before = min(max(_column(np.int64(x[x.size - 1])), left), right)
    for k in range(x.size):  # how many more edges than in the column before
        after = min(max(_column(np.int64(x[k])), left), right)
        places[min(before, after) - left + 1] += 1
        places[max(before, after) - left + 1] -= 1
        before = after
    edges = total = 0
    for n in range(1, places.size):
        edges += places[n]
        total += edges
        places[n] = total
    return places


@kernel
def _cross(x: np.ndarray, y: np.ndarray, left: int, right: int, height: int, places: np.ndarray) -> np.ndarray:
    """(N,) rows in which edges pass the middles of columns, sorted in each column."""
    rows, ends = np.empty(places[places.size - 1], np.int64), places.copy()
    for k in range(x.size):
        xs, ys, xe, ye = np.int64(x[k - 1]), np.int64(y[k - 1]), np.int64(x[k]), np.int64(y[k])
        first, last = max(_column(min(xs, xe)), left), min(_column(max(xs, xe)), right)
        if first >= last:
            continue
        is_flat = abs(xe - xs) >= abs(ye - ys)
        if xs > xe if is_flat else ys > ye:
            xs, ys, xe, ye = xe, ye, xs, ys
        slope = (ye - ys) / (xe - xs) if is_flat else (xe - xs) / (ye - ys)
        per_fifth = (ye - ys) / (xe - xs)
        t = FIFTHS * first + 2 - xs + (slope < 0)  # of the steps on both sides of the middle, the upper one counts
        for n in range(first, last):
            if is_flat:
                row = _row(int(ys + slope * t + 0.5), height)
                t += FIFTHS
            else:
                row = _row(ys + _steep_step(xs, slope, per_fifth, float(FIFTHS * n + 3)), height)
            at = ends[n - left]
            ends[n - left] = at + 1
            while at > places[n - left] and rows[at - 1] > row:
                rows[at] = rows[at - 1]
                at -= 1
            rows[at] = row
    return rows


@kernel
def draw_polygon(x: np.ndarray, y: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs of a polygon.

    Args:
        x, y: (C,) int32, corners in fifths of a pixel, as :func:`fifths` makes them; C at least 1.
        height, width: of the image.

    Returns:
        First pixel of each run and the one after its last, (R,) int64 each, sorted, neither empty nor touching.
    """
    left = min(max(_column(np.int64(x.min())), 0), width)
    right = max(min(_column(np.int64(x.max())), width), left)
    places = _places(x, left, right)
    rows, number = _cross(x, y, left, right, height, places), 0
    starts, ends = np.empty(rows.size // 2, np.int64), np.empty(rows.size // 2, np.int64)
    for n in range(right - left):
        base = (left + n) * height
        for k in range(places[n], places[n + 1], 2):
            start, end = base + rows[k], base + rows[k + 1]
            if start == end:
                continue
            if number and ends[number - 1] == start:
                number -= 1
            else:
                starts[number] = start
            ends[number] = end
            number += 1
    return starts[:number], ends[:number]


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
    largest = np.iinfo(np.int32).max // FIFTHS - 1
    return np.trunc(FIFTHS * np.clip(coordinates, -largest, largest) + 0.5).astype(np.int32)
