"""What makes a picture from a package usable: its size, its alpha channel, and that it is not there already."""

import io

import numpy as np
from PIL import Image, ImageOps

LONGEST_SIDE = 1600
LEAST_OPAQUE_PIXELS = 3600  # 60 x 60
OPAQUE, TRANSPARENT = 230, 25  # of 255
MOST_SOFT = 0.5  # half-transparent pixels for each opaque one; more are smoke, glow or glass
LEAST_DIFFERENCE = 2.0  # grey levels, in the mean over a fingerprint: the same picture in another size has below 1
_FINGERPRINT_SIDE = 16


def open_picture(content: bytes) -> Image.Image | None:
    """The picture as RGB or RGBA, turned as its EXIF data say; None where it can't be read, or has 16 bits."""
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        if picture.mode.startswith(("I", "F")):
            return None
        has_alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
        return picture.convert("RGBA" if has_alpha else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow raises all of them
        return None


def is_photograph(picture: Image.Image, least_side: int) -> bool:
    """Whether it is large enough and opaque everywhere; ``least_side`` in pixels."""
    is_opaque = picture.mode == "RGB" or np.asarray(picture.getchannel("A")).min() >= OPAQUE
    return min(picture.size) >= least_side and bool(is_opaque)


def is_cutout(picture: Image.Image, least_side: int) -> bool:
    """Whether its alpha channel shows an object: opaque pixels, at least 3600, and transparent ones beside few soft."""
    if picture.mode != "RGBA" or min(picture.size) < least_side:
        return False
    alpha = np.asarray(picture.getchannel("A"))
    n_opaque, n_transparent = int((alpha >= OPAQUE).sum()), int((alpha <= TRANSPARENT).sum())
    n_soft = alpha.size - n_opaque - n_transparent
    return n_opaque >= LEAST_OPAQUE_PIXELS and n_transparent > 0 and n_soft <= MOST_SOFT * n_opaque


def scaled_down(picture: Image.Image) -> Image.Image:
    """The picture with at most 1600 pixels on its longer side."""
    scale = LONGEST_SIDE / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def fingerprint(picture: Image.Image) -> np.ndarray:
    """(16, 16) float32 grey levels, whatever the size; transparent parts count as grey."""
    ground = Image.new("RGBA", picture.size, (128, 128, 128, 255))
    grey = Image.alpha_composite(ground, picture.convert("RGBA")).convert("L")
    side = _FINGERPRINT_SIDE
    return np.asarray(grey.resize((side, side), Image.Resampling.BOX), np.float32)


def nearest(print_: np.ndarray, others: list[np.ndarray]) -> tuple[int, float]:
    """Which of the other fingerprints, as they are or mirrored, is most alike: its place and the mean difference in
    grey levels; (-1, infinity) if there is none."""
    if not others:
        return -1, float("inf")
    stack = np.stack(others)
    differences = [np.abs(stack - shown).mean(axis=(1, 2)) for shown in (print_, print_[:, ::-1])]
    smaller = np.minimum(*differences)
    place = int(smaller.argmin())
    return place, float(smaller[place])
