"""PNGs whose pixels are data, as bytes: labels in grey, indices with a palette, and numbers in the bytes of colours."""

import io

import numpy as np
from PIL import Image


def grey_png(values: np.ndarray) -> bytes:
    """A grey PNG of (H, W) uint8 or uint16."""
    return _encoded(values)


def colour_png(pixels: np.ndarray) -> bytes:
    """A colour PNG of (H, W, 3) or (H, W, 4) uint8: red, green, blue, and alpha."""
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return _encoded(np.ascontiguousarray(pixels[..., order]))


def palette_png(values: np.ndarray, colours: np.ndarray) -> bytes:
    """A palette PNG of (H, W) uint8 indices; ``colours`` (256, 3) uint8."""
    picture = Image.fromarray(values)
    picture.putpalette(colours.reshape(-1).tolist())
    with io.BytesIO() as file:
        picture.save(file, format="PNG")
        return file.getvalue()


def _encoded(pixels: np.ndarray) -> bytes:
    import cv2

    done, png = cv2.imencode(".png", pixels)
    assert done
    return png.tobytes()
