"""Label maps that lie where their image does: tag by tag, and as GDAL sees them."""

import io

import numpy as np
import pytest
import tifffile

from pnm.pictures.geotiff import encode_geotiff
from pnm.pictures.samples import GEO_TAGS, read_header, read_samples

KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
TAGS = {
    33550: ("d", 3, (10.0, 10.0, 0.0)),
    33922: ("d", 6, (0.0, 0.0, 0.0, 500000.0, 5300000.0, 0.0)),
    34735: ("H", 16, KEYS),
    34736: ("d", 2, (6378137.0, 298.257223563)),
    34737: ("s", 0, "WGS 84 / UTM zone 33N|WGS 84|"),
    42113: ("s", 0, "-9999"),
}
AFFINE = {34264: ("d", 16, (8.0, 2, 0, 5e5, -2, 8, 0, 53e5, 0, 0, 0, 0, 0, 0, 0, 1)), 34735: TAGS[34735]}


def write_scene(path, tags, values=None, **options):
    values = np.random.default_rng(0).integers(0, 60000, (70, 90, 4)).astype(np.uint16) if values is None else values
    extra = [(code, dtype, count, value, True) for code, (dtype, count, value) in tags.items()]
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", extratags=extra, **options)
    return values


def tags_of(source):
    with tifffile.TiffFile(source) as file:
        tags = file.pages[0].tags
        return {code: (int(tags[code].dtype), tags[code].count, tags[code].value) for code in GEO_TAGS if code in tags}


@pytest.mark.parametrize("tags", [TAGS, AFFINE], ids=["pixel scale", "affine"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "byteorder": ">"}], ids=["little", "big"])
def test_tags_survive(tmp_path, tags, dtype, options):
    path = tmp_path / "a.tif"
    write_scene(path, tags, resolution=(300.5, 72.25), resolutionunit=2, **options)
    labels = np.random.default_rng(1).integers(0, 200, (70, 90)).astype(dtype)
    geo = read_header(path).geo
    assert geo == read_samples(path).geo
    written = encode_geotiff(labels, geo, classes=range(8))
    assert tags_of(io.BytesIO(written)) == tags_of(path) and len(tags_of(path)) == len(tags) + 3
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(written)), labels)


def test_a_class_is_not_hidden_as_no_data(tmp_path):
    write_scene(tmp_path / "a.tif", {**TAGS, 42113: ("s", 0, "3")})
    geo, labels = read_header(tmp_path / "a.tif").geo, np.zeros((70, 90), np.uint8)
    assert 42113 not in tags_of(io.BytesIO(encode_geotiff(labels, geo, classes=range(8))))
    assert tags_of(io.BytesIO(encode_geotiff(labels, geo, classes=range(3))))[42113][2] == "3"


def test_tiffs_that_lie_nowhere_have_no_tags(tmp_path):
    write_scene(tmp_path / "a.tif", {42113: ("s", 0, "0")}, resolution=(300, 300))
    assert read_header(tmp_path / "a.tif").geo == {}
    write_scene(tmp_path / "b.tif", {**TAGS, 274: ("H", 1, 6)})  # turned: rows are no longer where the tags say
    assert read_header(tmp_path / "b.tif").geo == {}


def test_as_gdal_sees_them(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from rasterio.transform import Affine

    for n, transform in enumerate((Affine(10, 0, 5e5, 0, -10, 53e5), Affine(8, 2, 5e5, 2, -8, 53e5))):
        path, shape = tmp_path / f"{n}.tif", {"height": 70, "width": 90, "count": 5, "dtype": "uint16"}
        options = {
            "crs": "EPSG:32633",
            "transform": transform,
            "nodata": 65535,
            "compress": "lzw",
            "interleave": "band",
        }
        with rasterio.open(path, "w", driver="GTiff", **shape, **options) as scene:
            values = np.random.default_rng(n).integers(0, 60000, (5, 70, 90)).astype(np.uint16)
            scene.write(values)
        samples = read_samples(path)
        np.testing.assert_array_equal(samples.values, values.transpose(1, 2, 0))
        assert samples.nodata == 65535
        labels = np.random.default_rng(n).integers(0, 9, (70, 90)).astype(np.uint8)
        (tmp_path / "labels.tif").write_bytes(encode_geotiff(labels, samples.geo))
        with rasterio.open(path) as scene, rasterio.open(tmp_path / "labels.tif") as written:
            assert written.crs == scene.crs and written.transform == scene.transform and written.bounds == scene.bounds
            np.testing.assert_array_equal(written.read(1), labels)
