"""Label maps as GeoTIFFs that lie where their image does."""

import io
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from pnm.pictures.samples import GeoTag

_X, _Y, _UNIT, _NODATA = 282, 283, 296, 42113
_ASCII = 2
_TILE = 256  # px
_SOFTWARE = "pnm"


def encode_geotiff(labels: np.ndarray, geo: Mapping[int, GeoTag], classes: Collection[int] = ()) -> bytes:
    """A TIFF of (H, W) labels with the tags of an image.

    Args:
        labels: unsigned integers of 8, 16 or 32 bits.
        geo: of the image.
        classes: labels that mean something. The image's number for no data is left out if it is one of them: programs
            would hide that class.
    """
    import tifffile

    content = io.BytesIO()
    tifffile.imwrite(content, labels, tile=(_TILE, _TILE), **geotiff_options(geo, classes))
    return content.getvalue()


def geotiff_options(geo: Mapping[int, GeoTag], classes: Collection[int]) -> dict[str, Any]:
    """How tifffile writes such a TIFF; see :func:`encode_geotiff`."""
    options: dict[str, Any] = {}
    if _X in geo and _Y in geo:
        options["resolution"] = geo[_X].value, geo[_Y].value
        options["resolutionunit"] = int(geo[_UNIT].value) if _UNIT in geo else None
    kept = {code: tag for code, tag in geo.items() if code not in (_X, _Y, _UNIT)}
    if _NODATA in kept and _number(kept[_NODATA].value) in set(classes):
        del kept[_NODATA]
    tags = [(code, tag.dtype, 0 if tag.dtype == _ASCII else tag.length, tag.value, True) for code, tag in kept.items()]
    fixed = {"photometric": "minisblack", "compression": "zlib", "metadata": None, "software": _SOFTWARE}
    return {**options, **fixed, "extratags": tags}


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
