"""Label and panoptic PNGs are read exactly, or not at all."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pnm.errors import UserError
from pnm.formats.label_png import (
    decode_label_png,
    decode_panoptic_png,
    encode_grey16_png,
    png_size,
    read_label_png,
    read_panoptic_png,
)

RNG = np.random.default_rng(0)


def saved(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A chunk added after the header."""
    return png[:33] + chunk(kind, content) + png[33:]


def by_hand(rows: bytes, height: int, width: int, bits: int = 8, kind: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (64, 65)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values(shape, dtype):
    labels = RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    read = decode_label_png(saved(Image.fromarray(labels)), "x.png")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_give_indices(bits, transparent):
    labels = RNG.integers(0, 2**bits, (9, 21)).astype(np.uint8)
    image = Image.fromarray(labels).copy()
    image.putpalette(RNG.integers(0, 256, 3 * 2**bits).astype(np.uint8).tobytes())
    data = saved(image, bits=bits, **({"transparency": 1} if transparent else {}))
    assert data[24] == bits and data[25] == 3
    np.testing.assert_array_equal(decode_label_png(data, "x.png"), labels)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"gAMA", struct.pack(">I", 45455)),
        (b"tRNS", b"\0\5"),
        (b"sBIT", b"\4"),
        (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),  # turned by 90 degrees
    ],
)
def test_what_changes_colours_changes_no_label(kind, content):
    labels = RNG.integers(0, 256, (9, 21)).astype(np.uint8)
    data = with_chunk(saved(Image.fromarray(labels)), kind, content)
    np.testing.assert_array_equal(decode_label_png(data, "x.png"), labels)


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 65535)))
def test_written_maps_are_read_by_both(values):
    data = encode_grey16_png(values)
    assert png_size(data, "x.png") == values.shape
    np.testing.assert_array_equal(decode_label_png(data, "x.png"), values)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_panoptic_ids(mode):
    colors = RNG.integers(0, 256, (40, 3)).astype(np.uint8)
    index = RNG.integers(0, 40, (11, 17))
    if mode == "P":
        image = Image.fromarray(index.astype(np.uint8)).copy()
        image.putpalette(colors.tobytes())
    else:
        alpha = RNG.integers(0, 256, (11, 17, 1)).astype(np.uint8)
        image = Image.fromarray(np.concatenate([colors[index], alpha], axis=-1)[..., : len(mode)])
    ids = decode_panoptic_png(saved(image), "x.png")
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, colors[index].astype(int) @ [1, 256, 65536])


def test_palette_shorter_than_its_indices():
    data = with_chunk(by_hand(b"\0\0\1\2", 1, 3, kind=3), b"PLTE", bytes([1, 2, 3, 4, 5, 6, 7]))
    assert decode_panoptic_png(data, "x.png").tolist() == [[197121, 394500, 0]]


@pytest.mark.parametrize("decode", [decode_label_png, decode_panoptic_png])
def test_every_truncation_and_every_flipped_byte_is_found(decode):
    pixels = RNG.integers(0, 4, (8, 12) if decode is decode_label_png else (8, 12, 3)).astype(np.uint8)
    data = saved(Image.fromarray(pixels))
    decode(data, "x.png")
    for end in range(len(data)):
        with pytest.raises(UserError, match="x.png is (no|trunc|damaged)"):
            decode(data[:end], "x.png")
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << int(RNG.integers(8))
        with pytest.raises(UserError, match="x.png is (no|trunc|damaged)"):
            decode(bytes(spoilt), "x.png")


def test_damage_that_checksums_do_not_show():
    rows = b"".join(bytes([0, *range(10)]) for _ in range(8))
    decode_label_png(by_hand(rows, 8, 10), "x.png")
    for data in (by_hand(rows[:44], 8, 10), by_hand(b"\x09" * 88, 8, 10), by_hand(rows, 2**14, 2**14)):
        with pytest.raises(UserError, match=r"x.png is damaged: its \d+ x \d+ pixels cannot be decoded; restore it"):
            decode_label_png(data, "x.png")
    for data in (by_hand(rows, 0, 10), by_hand(rows, 8, 10, kind=5)):
        with pytest.raises(UserError, match="x.png is damaged: its PNG header makes no sense"):
            decode_label_png(data, "x.png")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGB", (3, 2)), "x.png is a colour image, expected one label a pixel: a grey or palette PNG"),
        (Image.new("RGBA", (3, 2)), "x.png is a colour image, expected one label a pixel"),
        (Image.new("LA", (3, 2)), "x.png is a grey-and-alpha image, expected one label a pixel"),
        (Image.new("1", (3, 2)), r"x.png is a grey image of 1 bit\(s\), .* save it with 8 bits"),
    ],
)
def test_images_that_are_no_label_maps(image, message):
    with pytest.raises(UserError, match=message):
        decode_label_png(saved(image), "x.png")


def test_images_that_are_no_panoptic_maps():
    for mode, what in {"L": "8-bit grey", "I;16": "16-bit grey", "1": "1-bit grey"}.items():
        with pytest.raises(UserError, match=f"x.png is a {what} image, expected a panoptic PNG: 8-bit colour"):
            decode_panoptic_png(saved(Image.new(mode, (3, 2))), "x.png")
    with pytest.raises(UserError, match="x.png is a 16-bit colour image"):
        decode_panoptic_png(by_hand(bytes(13), 1, 2, bits=16, kind=2), "x.png")


@pytest.mark.parametrize("read", [read_label_png, read_panoptic_png])
def test_files(tmp_path, read):
    with pytest.raises(UserError, match=rf"file {re.escape(str(tmp_path))}/none.png does not exist; check the path"):
        read(tmp_path / "none.png")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path)
    (tmp_path / "text.png").write_text("not a picture, but rather more than a header")
    with pytest.raises(UserError, match=r"text.png is not a PNG; convert it, or restore it"):
        read(tmp_path / "text.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png", "JPEG")
    with pytest.raises(UserError, match=r"photo.png is not a PNG"):
        read(tmp_path / "photo.png")


def test_real_files_as_pillow_reads_them(real_data):
    labels = [*real_data.glob("cityscapes/gtFine/*/*/*Ids.png"), *real_data.glob("ADE*/annotations/*/*.png")]
    labels += [*real_data.glob("coco_stuff/labels/*.png"), *real_data.glob("camvid/*annot/*.png")]
    assert len(labels) > 10
    for path in labels:
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_label_png(path), np.asarray(image), str(path))
    for path in real_data.glob("coco/panoptic_val2017/*.png"):
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_panoptic_png(path), np.asarray(image).astype(int) @ [1, 256, 65536])


def test_panoptic_ids_as_panopticapi_reads_them():
    rgb2id = pytest.importorskip("panopticapi.utils").rgb2id
    pixels = RNG.integers(0, 256, (15, 10, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decode_panoptic_png(saved(Image.fromarray(pixels)), "x.png"), rgb2id(pixels))


def test_a_small_file_of_very_many_pixels(tmp_path):
    """30,000 x 30,000 equal pixels take a megabyte; nothing is inflated."""
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match="a.png has 30000 x 30000 pixels, expected at most 536870911: cut it"):
        read_label_png(tmp_path / "a.png")
