"""Numbers of any kind as 8-bit RGB: bands, v / 257, percentiles, and what is refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from pnm.errors import UserError
from pnm.pictures.pictures import Toning, check_header, read_picture, toned
from pnm.pictures.samples import Samples

RNG = np.random.default_rng(0)


def plain(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_16_bits_are_their_8_bit_twin():
    eight = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    np.testing.assert_array_equal(toned(Samples(eight.astype(np.uint16) * 257), Toning(), "a"), eight)
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    np.testing.assert_array_equal(toned(Samples(every), Toning(), "a")[..., 0], np.rint(every[..., 0] / 257))


@pytest.mark.parametrize(("count", "chosen"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_channels_without_being_told(count, chosen):
    values = RNG.integers(0, 256, (5, 6, count)).astype(np.uint8)
    np.testing.assert_array_equal(toned(Samples(values), Toning(), "a"), values[..., chosen])


def test_bands():
    values = RNG.integers(0, 256, (5, 6, 8)).astype(np.uint8)
    np.testing.assert_array_equal(toned(Samples(values), Toning((8, 3, 3)), "a"), values[..., [7, 2, 2]])
    with pytest.raises(UserError, match=r"^image a has 8 channel\(s\), but --bands names 9: correct it$"):
        toned(Samples(values), Toning((1, 2, 9)), "a")
    with pytest.raises(UserError, match="--bands are 0 1 2, expected numbers of channels from 1"):
        Toning((0, 1, 2))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_stretch_is_linear_between_percentiles(dtype):
    values = (RNG.normal(2000, 300, (40, 50, 3)) if dtype != "uint8" else RNG.integers(30, 90, (40, 50, 3))).astype(
        dtype
    )
    low, high = np.percentile(values.astype(np.float64), (2, 98))
    expected = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255
    result = toned(Samples(values), Toning(stretch=(2, 98)), "a")
    assert result.dtype == np.uint8 and np.abs(result - expected).max() <= 0.5 + 1e-9
    assert (result == 0).mean() > 0.01 and (result == 255).mean() > 0.01


def test_what_is_no_data_counts_for_nothing():
    values = RNG.integers(1000, 3000, (40, 50, 3)).astype(np.float32)
    without = toned(Samples(values[:, 10:]), Toning(stretch=(0, 100)), "a")
    values[:, :5], values[:, 5:10] = -9999, np.nan
    result = toned(Samples(values, nodata=-9999), Toning(stretch=(0, 100)), "a")
    assert not result[:, :10].any()
    np.testing.assert_array_equal(result[:, 10:], without)


def test_one_number_everywhere_is_black():
    for values in (np.full((4, 5, 1), 7, np.uint16), np.full((4, 5, 1), np.nan, np.float32)):
        assert not toned(Samples(values), Toning(stretch=(2, 98)), "a").any()


@pytest.mark.parametrize("pair", [(2, 2), (98, 2), (-1, 50), (0, 101)])
def test_percentiles_that_cannot_be(pair):
    with pytest.raises(UserError, match="expected two percentiles, rising, from 0 to 100"):
        Toning(stretch=pair)


def test_numbers_of_unknown_range_are_refused_by_the_header(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.float32))
    told = rf"^image {tmp_path / 'a.tif'} has numbers of type float32, whose range isn't known: add --stretch LOW HIGH"
    with pytest.raises(UserError, match=told):
        check_header(tmp_path / "a.tif", Toning())
    with pytest.raises(UserError, match=told):
        read_picture(tmp_path / "a.tif", Toning(), plain)
    check_header(tmp_path / "a.tif", Toning(stretch=(2, 98)))
    with pytest.raises(UserError, match=r"has 1 channel\(s\), but --bands names 3"):
        check_header(tmp_path / "a.tif", Toning((1, 2, 3), (2, 98)))


def test_plain_files_are_read_as_in_training(tmp_path):
    for name in ("a.png", "a.jpg", "a.tif"):
        Image.fromarray(RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(tmp_path / name)
        picture = read_picture(tmp_path / name, Toning(), lambda path: 255 - plain(path))
        assert picture.geo == {}
        np.testing.assert_array_equal(picture.pixels, 255 - plain(tmp_path / name))
