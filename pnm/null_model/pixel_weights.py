"""Pixel weights from the null model (Zhang et al., "PNM: Pixel Null Model for General Image Segmentation", Eq. 3-5)."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pnm.errors import UserError

if TYPE_CHECKING:  # importing it takes longer than evaluating hundreds of images
    import torch

TRANSFORMS = ("log", "linear", "inverse")
Array = TypeVar("Array", np.ndarray, "torch.Tensor")


def check_transform(transform: str) -> None:
    """A UserError unless the transform is known."""
    if transform not in TRANSFORMS:
        raise UserError(f"transform is {transform!r}, expected one of {', '.join(TRANSFORMS)} (Eq. 3, 4, 5)")


def pixel_weights(pnm: Array, transform: str = "log", *, overwrite_pnm: bool = False) -> Array:
    """The weight rho of each pixel: the less likely a random segmenter is right, the larger.

    Args:
        pnm: null model in (0, 1], any shape, floating; NumPy or torch.
        transform: "log" 1 - ln PNM (Eq. 3), "linear" 2 - PNM (Eq. 4) or "inverse" 1 / PNM (Eq. 5).
        overwrite_pnm: allow ``pnm`` to be overwritten. Of a NumPy array, new memory costs more than the logarithms.

    Returns:
        Array of the same kind, shape, type and device: at least 1, and exactly 1 where PNM is 1. "linear" is at most 2,
        "inverse" at most d**2, "log" at most 1 + 2 ln d.

    Raises:
        UserError: an unknown transform, or a null model that is not floating.
    """
    check_transform(transform)
    if isinstance(pnm, np.ndarray):
        is_floating = pnm.dtype.kind == "f"
    else:
        is_floating = hasattr(pnm, "is_floating_point") and pnm.is_floating_point()
    if not is_floating:
        kind = getattr(pnm, "dtype", type(pnm).__name__)
        raise UserError(f"the null model is {kind}, expected a floating array: what pixel_null_model returns")
    if not isinstance(pnm, np.ndarray):
        return 2 - pnm if transform == "linear" else 1 / pnm if transform == "inverse" else 1 - pnm.log()
    out = pnm if overwrite_pnm else np.empty_like(pnm)
    if transform == "linear":
        return np.subtract(2, pnm, out=out)
    if transform == "inverse":
        return np.divide(1, pnm, out=out)
    return np.subtract(1, np.log(pnm, out=out), out=out)
