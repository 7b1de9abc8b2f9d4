"""PNGs whose pixel values are data: label maps, COCO panoptic ids, weight maps. Read exactly or not at all.

Image libraries read pictures: they turn palettes into colours, and some return the part of a damaged file that they
could decode. Here a file's checksums are tested first, and only the parts that hold its samples are decoded (IHDR and
IDAT of the PNG specification, https://www.w3.org/TR/png-3/), by :mod:`pnm.formats.png_samples`. What changes
colours is left out.
"""

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from zlib_ng import zlib_ng

from pnm.errors import UserError
from pnm.formats.png_samples import decode_samples
from pnm.masks.runs import MOST_PIXELS

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6
_KINDS = {_GREY: "grey", _RGB: "colour", _PALETTE: "palette", 4: "grey-and-alpha", _RGBA: "colour"}
_BITS = {_GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), 4: (8, 16), _RGBA: (8, 16)}
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _RGBA: 4}
_UP = 2  # filter type: a row is stored as its difference from the row above
_LEVEL = 3  # of zlib; from 4 on, maps hardly shrink and take longer to read, too
_ADVICE = "restore it from where it came from"


class _Png(NamedTuple):
    height: int
    width: int
    bits: int
    kind: int
    interlaced: bool
    samples: bytes  # IDAT, zlib compressed
    palette: bytes


def read_bytes(path: str | Path, what: str = "label file") -> bytes:
    """Content of a file; a UserError that says ``what`` cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise UserError(f"{what} {path} {reason}; check the path, and DETECTRON2_DATASETS") from None


def read_label_png(path: str | Path) -> np.ndarray:
    """Pixel values of a label map, see :func:`decode_label_png`."""
    return decode_label_png(read_bytes(path), path)


def decode_label_png(data: bytes, name: str | Path) -> np.ndarray:
    """Pixel values of a label map from the bytes of its PNG.

    Args:
        data: the file's content, grey with 8 or 16 bits, or a palette image: its indices are the labels.
        name: the file's name, for messages.

    Returns:
        (H, W) uint8, or uint16 if the file has 16 bits.

    Raises:
        UserError: no PNG, truncated or damaged; a colour or black-and-white image.
    """
    png = _parse(data, name)
    if png.kind not in (_GREY, _PALETTE):
        raise UserError(
            f"{name} is a {_KINDS[png.kind]} image, expected one label a pixel: a grey or palette PNG; panoptic PNGs "
            "go with data sets that are registered as panoptic"
        )
    if png.kind == _GREY and png.bits < 8:
        raise UserError(
            f"{name} is a grey image of {png.bits} bit(s), whose values every reader scales; save it with 8 bits"
        )
    return _decode(png, name)


def read_panoptic_png(path: str | Path) -> np.ndarray:
    """Segment ids of a COCO panoptic PNG, see :func:`decode_panoptic_png`."""
    return decode_panoptic_png(read_bytes(path, "panoptic file"), path)


def decode_panoptic_png(data: bytes, name: str | Path) -> np.ndarray:
    """Segment ids R + 256 G + 65536 B of a COCO panoptic PNG from the file's bytes.

    Args:
        data: the file's content, 8-bit colour; alpha is ignored, a palette is looked up.
        name: the file's name, for messages.

    Returns:
        (H, W) int32 in [0, 2**24).

    Raises:
        UserError: no PNG, truncated or damaged; a grey image, or 16 bits a channel.
    """
    png = _parse(data, name)
    if png.kind not in (_RGB, _RGBA, _PALETTE) or png.bits > 8:
        raise UserError(
            f"{name} is a {png.bits}-bit {_KINDS[png.kind]} image, expected a panoptic PNG: 8-bit colour, "
            "id = R + 256 G + 65536 B"
        )
    if png.kind == _PALETTE:
        colors = np.zeros((256, 4), np.uint8)
        colors[: len(png.palette) // 3, :3] = np.frombuffer(png.palette, np.uint8).reshape(-1, 3)
        return colors.view("<i4")[:, 0].astype(np.int32)[_decode(png, name)]
    return _decode(png, name)


def png_size(data: bytes, name: str | Path) -> tuple[int, int]:
    """(height, width) that a PNG's header states.

    Raises:
        UserError: not the start of a PNG.
    """
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        raise UserError(f"{name} is not a PNG; convert it, or {_ADVICE}")
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def png_size_of(path: str | Path) -> tuple[int, int]:
    """(height, width) that a PNG file's header states; a UserError if it is no PNG."""
    with Path(path).open("rb") as file:
        return png_size(file.read(64), path)


def encode_label_png(labels: np.ndarray) -> bytes:
    """A grey PNG of (H, W) uint8 or uint16 labels, with as many bits, H and W at least 1."""
    import cv2

    if labels.dtype == np.uint16:
        return encode_grey16_png(labels)
    done, png = cv2.imencode(".png", labels)
    assert done and labels.dtype == np.uint8
    return png.tobytes()


def encode_grey16_png(values: np.ndarray) -> bytes:
    """PNG of (H, W) uint16 values, H and W at least 1.

    Each row is stored as its difference from the one above. For weight maps that takes half of the time of cv2's
    adaptive choice of filters, both to write and to read, and is smaller.
    """
    height, width = values.shape
    pixels = values.astype(">u2").view(np.uint8)
    rows = np.empty((height, 1 + 2 * width), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    header, samples = struct.pack(">IIBBBBB", width, height, 16, _GREY, 0, 0, 0), zlib.compress(rows.data, _LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", samples) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _parse(data: bytes, name: str | Path) -> _Png:
    """What matters of a PNG, every checksum tested."""
    height, width = png_size(data, name)
    parts: dict[bytes, list[bytes]] = {b"IHDR": [], b"PLTE": [], b"IDAT": []}
    at, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise UserError(f"{name} is truncated: it ends after {len(data)} bytes; {_ADVICE}")
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        if at + 12 + size > len(data):
            raise UserError(f"{name} is truncated or damaged: it ends after {len(data)} bytes; {_ADVICE}")
        if struct.unpack_from(">I", data, at + 8 + size)[0] != zlib_ng.crc32(data[at + 4 : at + 8 + size]):
            raise UserError(f"{name} is damaged: a checksum is wrong at byte {at}; {_ADVICE}")
        if kind in parts:
            parts[kind].append(body)
        at += 12 + size
    header = parts[b"IHDR"][0]
    known = len(header) == 13 and header[8] in _BITS.get(header[9], ()) and header[10:12] == b"\0\0" and header[12] < 2
    if not known or not height or not width:
        raise UserError(f"{name} is damaged: its PNG header makes no sense; {_ADVICE}")
    if height * width > MOST_PIXELS:  # a small file may say so, and each would take up to eight bytes
        raise UserError(
            f"{name} has {height} x {width} pixels, expected at most {MOST_PIXELS}: cut it into smaller ones"
        )
    samples, palette = b"".join(parts[b"IDAT"]), b"".join(parts[b"PLTE"])
    palette = palette[: len(palette) // 3 * 3][:768]
    return _Png(height, width, header[8], header[9], header[12] == 1, samples, palette)


def _decode(png: _Png, name: str | Path) -> np.ndarray:
    """(H, W) samples, a palette's indices, or ids of colours."""
    channels = _CHANNELS[png.kind]
    try:
        return decode_samples(
            png.samples, png.height, png.width, bits=png.bits, channels=channels, interlaced=png.interlaced
        )
    except ValueError:
        raise UserError(
            f"{name} is damaged: its {png.height} x {png.width} pixels cannot be decoded; {_ADVICE}"
        ) from None
