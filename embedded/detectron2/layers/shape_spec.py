"""What one module tells the next about a tensor it will produce."""

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """Shape of a feature map as far as it is known; ``stride`` is in input pixels per cell."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
