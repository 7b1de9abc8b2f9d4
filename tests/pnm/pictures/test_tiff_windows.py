"""Rectangles of TIFFs of every layout equal those of the whole file."""

import numpy as np
import pytest
import tifffile

from pnm.errors import UserError
from pnm.pictures.pictures import Toning
from pnm.pictures.tiff_windows import RgbWindows, TiffWindows, write_bands

VALUES = np.random.default_rng(0).integers(0, 256, (310, 420, 3), np.uint8)
LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 50, "compression": "zlib"},
    "tiles": {"tile": (128, 64), "compression": "lzw", "predictor": True},
    "jpeg": {"tile": (128, 128), "compression": "jpeg"},
    "big": {"tile": (64, 64), "bigtiff": True, "byteorder": ">"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rectangles(layout, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VALUES, photometric="rgb", **LAYOUTS[layout])
    whole = tifffile.imread(path)
    with TiffWindows(path) as windows:
        assert windows.shape == (310, 420, 3)
        for top, left, bottom, right in ((0, 0, 310, 420), (100, 60, 260, 300), (309, 419, 310, 420)):
            assert np.array_equal(windows.read(top, left, bottom, right), whole[top:bottom, left:right])
        assert np.array_equal(RgbWindows(windows, Toning())[5:90, 3:400], whole[5:90, 3:400])


def test_deep_grey_and_white_is_zero(tmp_path):
    deep = VALUES[..., 0].astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "deep.tif", deep, tile=(64, 64))
    with TiffWindows(tmp_path / "deep.tif") as windows:
        assert np.array_equal(RgbWindows(windows, Toning())[0:310, 0:420], np.repeat(VALUES[..., :1], 3, 2))
    tifffile.imwrite(tmp_path / "white.tif", VALUES[..., 0], photometric="miniswhite")
    with TiffWindows(tmp_path / "white.tif") as windows:
        assert np.array_equal(windows.read(0, 0, 310, 420)[..., 0], 255 - VALUES[..., 0])


def test_bands_are_written_as_they_come(tmp_path):
    labels = VALUES[..., 0]
    write_bands(tmp_path / "out.tif", labels.shape, labels.dtype, (labels[y : y + 256] for y in (0, 256)), {})
    assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), labels)


def test_errors(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "planar.tif", VALUES.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    with pytest.raises(UserError, match="is planar, turned or of colours that are no light"):
        TiffWindows(tmp_path / "planar.tif")
    (tmp_path / "text.tif").write_text("no tiff", "utf-8")
    with pytest.raises(UserError, match="cannot be read"):
        TiffWindows(tmp_path / "text.tif")
    tifffile.imwrite(tmp_path / "cut.tif", VALUES, photometric="rgb", tile=(64, 64), compression="zlib")
    content = bytearray((tmp_path / "cut.tif").read_bytes())
    content[len(content) // 2 :] = b"\0" * (len(content) - len(content) // 2)
    (tmp_path / "cut.tif").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"), TiffWindows(tmp_path / "cut.tif") as windows:
        windows.read(0, 0, 310, 420)
    tifffile.imwrite(tmp_path / "float.tif", VALUES.astype(np.float32), photometric="rgb")
    with TiffWindows(tmp_path / "float.tif") as windows:
        with pytest.raises(UserError, match="float32, whose range isn't known"):
            RgbWindows(windows, Toning())
        with pytest.raises(UserError, match="--stretch needs all of an image's numbers"):
            RgbWindows(windows, Toning(stretch=(2, 98)))
    monkeypatch.setattr("pnm.pictures.tiff_windows._LARGEST", 1000)
    with pytest.raises(UserError, match="is one strip of 310 rows"):
        TiffWindows(tmp_path / "float.tif")
