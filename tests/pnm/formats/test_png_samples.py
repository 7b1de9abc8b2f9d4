"""Samples of PNGs of every kind, filter and interlacing equal what Pillow and OpenCV decode; damage is found."""

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pnm.errors import UserError
from pnm.formats.label_png import decode_label_png, decode_panoptic_png
from pnm.formats.png_samples import decode_samples

GREY, RGB, PALETTE, RGBA = 0, 2, 3, 6
KINDS = [(8, GREY), (16, GREY), (1, PALETTE), (2, PALETTE), (4, PALETTE), (8, PALETTE), (8, RGB), (8, RGBA)]
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, RGBA: 4}
PALETTE_BYTES = np.random.default_rng(7).integers(0, 256, (256, 3)).astype(np.uint8)
# Of each eight by eight pixels, those that a pass of Adam7 holds, as the specification draws them.
PASSES = np.array(
    [
        [1, 6, 4, 6, 2, 6, 4, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [5, 6, 5, 6, 5, 6, 5, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [3, 6, 4, 6, 3, 6, 4, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [5, 6, 5, 6, 5, 6, 5, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
    ]
)


def predictor(kind: int, left: int, above: int, corner: int) -> int:
    if kind == 4:
        return min((left, above, corner), key=lambda value: abs(left + above - corner - value))
    return [0, left, above, (left + above) // 2][kind]


def filtered(pixels: np.ndarray, bits: int, kinds: list[int]) -> bytes:
    """Rows of (H, W, C) samples as they are stored, the filter types taken in turn."""
    as_bits = (pixels[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(as_bits.reshape(len(pixels), -1).astype(np.uint8), axis=1)
    step, stored = max(1, bits * pixels.shape[2] // 8), bytearray()
    above = [0] * (step + rows.shape[1])
    for y, row in enumerate(rows):
        kind, now = kinds[y % len(kinds)], [0] * step + row.tolist()
        stored.append(kind)
        for i in range(step, len(now)):
            stored.append((now[i] - predictor(kind, now[i - step], above[i], above[i - step])) % 256)
        above = now
    return bytes(stored)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(compressed: bytes, size: tuple[int, int], bits: int = 8, kind: int = GREY, interlaced: bool = False) -> bytes:
    header = struct.pack(">IIBBBBB", size[1], size[0], bits, kind, 0, 0, interlaced)
    palette = chunk(b"PLTE", PALETTE_BYTES[: 2**bits].tobytes()) if kind == PALETTE else b""
    parts = [compressed[i : i + 100] for i in range(0, len(compressed), 100)]
    data = chunk(b"IHDR", header) + palette + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def encoded(pixels: np.ndarray, bits: int, kind: int, filters: list[int], interlaced: bool) -> bytes:
    height, width = pixels.shape[:2]
    if not interlaced:
        return png(zlib.compress(filtered(pixels, bits, filters)), (height, width), bits, kind)
    of_pixel, stored = PASSES[np.arange(height)[:, None] % 8, np.arange(width) % 8], b""
    for number in range(1, 8):
        rows, columns = (np.flatnonzero((of_pixel == number).any(axis)) for axis in (1, 0))
        if len(rows):
            stored += filtered(pixels[np.ix_(rows, columns)], bits, filters)
    return png(zlib.compress(stored), (height, width), bits, kind, interlaced=True)


@st.composite
def images(draw):
    """Maps of some regions, as labels have them, with single pixels of noise; or noise."""
    bits, kind = draw(st.sampled_from(KINDS))
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.integers(0, 2**bits, (height, width, CHANNELS[kind]))
    block = draw(st.integers(1, 60))
    regions = np.kron(noise[::block, ::block], np.ones((block, block, 1), int))[:height, :width]
    is_noise = rng.random((height, width, 1)) < draw(st.sampled_from([0.0, 0.01, 0.2, 1.0]))
    return np.where(is_noise, noise, regions), bits, kind


@settings(deadline=None, max_examples=300)
@given(images(), st.lists(st.integers(0, 4), min_size=1, max_size=6), st.booleans())
def test_every_kind_filter_and_interlacing(image, filters, interlaced):
    pixels, bits, kind = image
    data = encoded(pixels, bits, kind, filters, interlaced)
    with Image.open(io.BytesIO(data)) as by_pillow:
        np.testing.assert_array_equal(np.asarray(by_pillow).reshape(pixels.shape), pixels)
    if kind != PALETTE:
        by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
        np.testing.assert_array_equal(by_opencv[..., [2, 1, 0, 3][: pixels.shape[2]]] if kind else by_opencv, pixels)
    if kind in (GREY, PALETTE):
        labels = decode_label_png(data, "x.png")
        assert labels.dtype == (np.uint16 if bits == 16 else np.uint8)
        assert labels.flags.c_contiguous and labels.flags.writeable
        np.testing.assert_array_equal(labels, pixels[..., 0])
    if kind != GREY:
        colors = PALETTE_BYTES[pixels[..., 0]] if kind == PALETTE else pixels[..., :3]
        ids = decode_panoptic_png(data, "x.png")
        assert ids.dtype == np.int32 and ids.flags.c_contiguous
        np.testing.assert_array_equal(ids, colors.astype(int) @ [1, 256, 65536])


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA"])
def test_what_pillow_and_opencv_write(mode):
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (6, 9, {"RGB": 3, "RGBA": 4}.get(mode, 1)))
    pixels = np.kron(coarse, np.ones((21, 33, 1), int)).astype(np.uint16 if mode == "I;16" else np.uint8)
    if mode == "I;16":
        pixels *= 201
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    backwards = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.shape[2] > 1 else pixels
    for data in (file.getvalue(), cv2.imencode(".png", backwards)[1].tobytes()):
        if pixels.shape[2] == 1:
            np.testing.assert_array_equal(decode_label_png(data, "x.png"), pixels[..., 0])
        else:
            ids = pixels[..., :3].astype(int) @ [1, 256, 65536]
            np.testing.assert_array_equal(decode_panoptic_png(data, "x.png"), ids)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", [5, 6, 255])
def test_unknown_filter_in_the_last_row(kind, interlaced):
    pixels = np.ones((8, 1, 1), int)  # of the passes of one column, four hold rows
    stored = bytearray(filtered(pixels, 8, [0]))
    decode_label_png(png(zlib.compress(stored), (8, 1), interlaced=interlaced), "x.png")
    stored[-2] = kind
    with pytest.raises(UserError, match="x.png is damaged: its 8 x 1 pixels cannot be decoded; restore it"):
        decode_label_png(png(zlib.compress(stored), (8, 1), interlaced=interlaced), "x.png")


@pytest.mark.parametrize("decode", [decode_label_png, decode_panoptic_png])
def test_damage_behind_right_checksums_of_chunks(decode):
    kind = GREY if decode is decode_label_png else RGB
    stored = filtered(np.arange(6 * 10 * CHANNELS[kind]).reshape(6, 10, -1) % 256, 8, [0, 1, 2, 3, 4])
    good = zlib.compress(stored)
    decode(png(good, (6, 10), kind=kind), "x.png")
    adler, dictionary = good[:-1] + bytes([good[-1] ^ 1]), zlib.compressobj(zdict=stored)
    needs_dictionary = dictionary.compress(stored) + dictionary.flush()
    too_little, too_much = zlib.compress(stored[:-1]), zlib.compress(stored + b"\0")
    damaged = [adler, needs_dictionary, too_little, too_much, good[:-4], good[:-1], good[:20], good[2:-4], b""]
    for compressed in damaged:
        with pytest.raises(UserError, match="x.png is damaged: its 6 x 10 pixels cannot be decoded; restore it"):
            decode(png(compressed, (6, 10), kind=kind), "x.png")


@pytest.mark.parametrize(
    ("size", "stored"),
    [
        ((2**14, 2**14), bytes(100)),
        ((2**31 - 1, 2**31 - 1), bytes(100)),
        ((2**32 - 1, 2**32 - 1), bytes(100)),
        ((2**16, 2**16), bytes(10**6)),
        ((1000, 1000), np.random.default_rng(0).bytes(1000)),  # 1 kB could be inflated to so much
        ((1, 1), bytes(10**8)),
    ],
)
def test_no_memory_for_what_the_header_or_the_data_only_claim(size, stored):
    data = png(zlib.compress(stored), size)
    tracemalloc.start()
    try:
        message = (
            "x.png has .* pixels, expected at most" if size[0] >= 2**16 else "x.png is damaged: .* cannot be decoded"
        )
        with pytest.raises(UserError, match=message):
            decode_label_png(data, "x.png")
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data) + 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header", [(3, GREY), (16, PALETTE), (4, RGB), (2, RGBA), (0, GREY), (32, GREY)])
def test_bits_that_a_kind_cannot_have(header):
    for decode in (decode_label_png, decode_panoptic_png):
        with pytest.raises(UserError, match="x.png is damaged: its PNG header makes no sense"):
            decode(png(zlib.compress(bytes(4)), (1, 1), *header), "x.png")


@pytest.mark.parametrize("at", [26, 27, 28])
def test_unknown_methods_in_the_header(at):
    header = bytearray(png(zlib.compress(bytes(2)), (1, 1)))
    decode_label_png(bytes(header), "x.png")
    header[at] = 2
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    with pytest.raises(UserError, match="x.png is damaged: its PNG header makes no sense"):
        decode_label_png(bytes(header), "x.png")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(KINDS), st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_any_bytes_as_compressed_data(content, form, height, width, interlaced):
    bits, kind = form
    channels = CHANNELS[kind]
    for compressed in (content, zlib.compress(content)):
        try:
            found = decode_samples(compressed, height, width, bits=bits, channels=channels, interlaced=interlaced)
        except ValueError:
            continue
        assert found.shape == (height, width)
