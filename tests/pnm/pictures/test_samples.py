"""Numbers of image files as they are stored: every kind of TIFF, EXIF's eight ways up, and headers that tell enough."""

import itertools

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from pnm.errors import UserError
from pnm.pictures.samples import read_header, read_samples, upright

SIZE = 37, 53


def numbers(bands, dtype, seed=0):
    values = np.random.default_rng(seed).integers(0, 250, (*SIZE, bands))
    return (values * (257 if dtype == "uint16" else 1)).astype(dtype)


def write_tiff(path, values, *, planar=False, **options):
    """(H, W, C), interleaved or plane by plane."""
    bands = values.shape[2]
    photometric = "rgb" if bands in (3, 4) else "minisblack"
    if bands == 1:
        stored, layout = values[..., 0], {}
    else:
        stored = values.transpose(2, 0, 1) if planar else values
        layout = {"planarconfig": "separate" if planar else "contig"}
    tifffile.imwrite(path, stored, photometric=photometric, **layout, **options)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("planar", [False, True])
def test_tiffs_are_read_as_they_are(tmp_path, bands, dtype, planar):
    values, path = numbers(bands, dtype), tmp_path / "a.tif"
    kinds = itertools.product((None, (16, 32)), (None, "lzw", "zlib", "zstd"), (False, True), ("<", ">"))
    for tile, compression, predictor, order in kinds:
        if predictor and not compression:
            continue
        options = {"tile": tile, "compression": compression, "predictor": predictor, "byteorder": order}
        write_tiff(path, values, planar=planar, **options)
        read = read_samples(path).values
        assert read.shape == values.shape and read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)
        header = read_header(path)
        assert header.size == SIZE and header.channels == bands and header.dtype == dtype
        assert header.is_plain == (dtype == "uint8" and bands in (1, 3, 4))


def test_of_many_pages_the_first_is_read(tmp_path):
    pages = np.random.default_rng(0).integers(0, 60000, (3, *SIZE)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    np.testing.assert_array_equal(read_samples(tmp_path / "a.tif").values[..., 0], pages[0])


def test_white_that_is_zero(tmp_path):
    values = numbers(1, "uint16")[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", 65535 - values, photometric="miniswhite")
    np.testing.assert_array_equal(read_samples(tmp_path / "a.tif").values[..., 0], values)


def test_a_palette_gives_its_colours(tmp_path):
    image = Image.fromarray(numbers(3, "uint8")).quantize(16)
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_samples(tmp_path / "a.tif").values, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_pillow_turns(tmp_path, orientation):
    values, exif = numbers(3, "uint8"), Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        turned = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(upright(values, orientation), turned)
    np.testing.assert_array_equal(read_samples(tmp_path / "a.png").values, turned)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(read_samples(tmp_path / "a.tif").values, turned)


def test_pngs_of_16_bits(tmp_path):
    import cv2

    values = numbers(3, "uint16")
    cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    np.testing.assert_array_equal(read_samples(tmp_path / "a.png").values, values)
    cv2.imwrite(str(tmp_path / "b.png"), values[..., 0])
    np.testing.assert_array_equal(read_samples(tmp_path / "b.png").values, values[..., :1])


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_damage_is_told_by_the_files_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"no image at all" * 10)
    with pytest.raises(UserError, match=rf"^image {path} cannot be read \(.*restore the file or remove it$"):
        read_header(path)
    with pytest.raises(UserError, match=rf"^image {path} cannot be read"):
        read_samples(path)


def test_a_tiff_cut_short_is_told(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, numbers(8, "uint16"), compression="zlib")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"^image {path} cannot be read"):
        read_samples(path)


def test_images_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("pnm.pictures.samples.MOST_PIXELS", 100)
    Image.new("RGB", (11, 10)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"has 10 x 11 pixels, expected at most 100: cut it into smaller ones"):
        read_header(tmp_path / "a.png")
