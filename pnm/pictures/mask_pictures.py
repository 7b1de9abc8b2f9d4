"""Pictures of masks and of labels, as people have them."""

from pathlib import Path

import numpy as np
from PIL import Image

from pnm.errors import UserError

_LUMA = np.array([0.299, 0.587, 0.114])  # brightness of red, green and blue (ITU-R BT.601)
_ALMOST_GREY = 24  # how far the channels of a grey picture may be apart, of 255: a JPG moves them


def read_mask_picture(path: Path) -> np.ndarray:
    """Values of a picture of a mask.

    A palette picture gives its indices, see :func:`is_palette_turned`. Of one with transparency, that is the mask,
    unless all is opaque; colours must be greys, or two, of which the brighter is the object.

    Returns:
        (H, W) uint8, uint16 or float32.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no picture, has several pages or many colours.
    """
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise UserError(f"{path} has {image.n_frames} pages, expected one mask: save the right one alone")  # type: ignore[attr-defined]
            return mask_picture(image, path)
    except FileNotFoundError:
        raise FileNotFoundError(f"mask {path} is missing: check the path") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no picture that can be read ({error}): expected a mask") from None


def is_palette_turned(picture: Path | Image.Image) -> bool:
    """Whether a palette picture has two indices, the greater one of the darker colour."""
    if not isinstance(picture, Image.Image):
        with Image.open(picture) as image:
            return is_palette_turned(image)
    if picture.mode != "P":
        return False
    colors = np.asarray(picture.getpalette("RGB"), np.float64).reshape(-1, 3)
    used = [n for n in np.unique(np.asarray(picture)).tolist() if n < len(colors)]
    return len(used) == 2 and bool(colors[used[0]] @ _LUMA > colors[used[1]] @ _LUMA)


def mask_picture(image: Image.Image, name: Path | str) -> np.ndarray:
    """As :func:`read_mask_picture` of an image that is open; ``name`` is for messages."""
    mode, values = image.mode, np.asarray(image)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.ndim == 3:
        return _of_channels(values, mode, name)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.min(initial=0) < 0 or values.max(initial=0) >= 2**16:
        raise UserError(f"{name} has values from {values.min()} to {values.max()}, expected 0 to {2**16 - 1}")
    return values.astype(np.uint8 if values.dtype == np.uint8 else np.uint16)


def _of_channels(values: np.ndarray, mode: str, name: Path | str) -> np.ndarray:
    alpha = values[..., -1] if mode in ("LA", "PA", "RGBA", "La", "RGBa") else None
    if alpha is not None and alpha.min() < 255:
        print(f"{name} has transparency: that is taken for the mask")
        return alpha
    colours = values[..., :-1] if alpha is not None else values
    if np.ptp(colours.astype(np.int16), axis=2).max() <= _ALMOST_GREY:
        return np.rint(colours.mean(axis=2)).astype(np.uint8)
    kinds, index = np.unique(colours.reshape(-1, colours.shape[2]), axis=0, return_inverse=True)
    if len(kinds) != 2:
        raise UserError(
            f"{name} is a picture of {len(kinds)} colours, expected a mask: two colours, greys, or transparency around "
            "the object"
        )
    order = (kinds[:, :3] @ _LUMA).argsort(kind="stable")
    print(f"{name} has two colours: the brighter one is {kinds[order[1]].tolist()}")
    return np.where(index.reshape(colours.shape[:2]) == order[1], np.uint8(255), np.uint8(0))


def exact_labels(values: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) labels in the values of a picture; a UserError where it cannot hold any."""
    if values.dtype.kind == "f" or path.suffix.lower() in (".jpg", ".jpeg"):
        raise UserError(f"{path} cannot hold labels, which must be exact: expected a grey or palette PNG")
    return values


def foreground(values: np.ndarray, name: Path | str) -> np.ndarray:
    """(H, W) bool: the object in a grey picture. Of two values it is the greater one, of more those from the middle of
    the range on, which is said. Numbers with a point are from 0 to 1."""
    levels = np.unique(values)
    if values.dtype.kind == "f" and not (np.isfinite(levels).all() and levels[0] >= 0 and levels[-1] <= 1):
        raise UserError(f"{name} has numbers beyond 0 to 1, or that aren't finite: expected a mask in that range")
    if len(levels) <= 2:
        return values == levels[-1] if len(levels) == 2 else values > 0
    middle = 0.5 if values.dtype.kind == "f" else (int(np.iinfo(values.dtype).max) + 1) // 2
    print(f"{name} has {len(levels)} values, expected 2: those from {middle} on are taken for the object")
    return values >= middle
