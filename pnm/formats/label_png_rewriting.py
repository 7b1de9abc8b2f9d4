"""Label PNGs written anew with other values: same bit depth, same palette."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

_START = 8  # bytes of the signature
_COLOURS = (b"PLTE", b"tRNS")  # what samples look like
_UP = 2  # filter type: a row is stored as its difference from the row above
_LEVEL = 6


def with_samples(png: bytes, values: np.ndarray) -> bytes:
    """A grey or palette PNG with other samples.

    Args:
        png: a sound file of such an image, of any bit depth.
        values: (H, W) integers of its size that fit its bit depth.
    """
    chunks = list(_chunks(png))
    width, height, bits, kind = struct.unpack_from(">IIBB", chunks[0][1])
    assert values.shape == (height, width) and values.min() >= 0 and values.max() < 2**bits
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    colours = [(name, body) for name, body in chunks if name in _COLOURS]
    samples = zlib.compress(_filtered(_packed(values, bits)), _LEVEL)
    parts = [(b"IHDR", header), *colours, (b"IDAT", samples), (b"IEND", b"")]
    return png[:_START] + b"".join(_chunk(name, body) for name, body in parts)


def most_value(png: bytes) -> int:
    """The largest value that :func:`with_samples` can write: of the bit depth, or the last colour of a palette."""
    chunks = dict(_chunks(png))
    bits = chunks[b"IHDR"][8]
    return min(2**bits, len(chunks.get(b"PLTE", bytes(3 * 2**bits))) // 3) - 1


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = _START
    while at < len(png):
        size, name = struct.unpack_from(">I4s", png, at)
        yield name, png[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _packed(values: np.ndarray, bits: int) -> np.ndarray:
    """(H, bytes of a row) uint8, samples from the highest bit down."""
    if bits == 16:
        return values.astype(">u2").view(np.uint8)
    samples = values.astype(np.uint8)
    if bits == 8:
        return samples
    planes = np.unpackbits(samples[..., None], axis=-1)[..., 8 - bits :]
    return np.packbits(planes.reshape(len(values), -1), axis=-1)


def _filtered(rows: np.ndarray) -> bytes:
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered.tobytes()
