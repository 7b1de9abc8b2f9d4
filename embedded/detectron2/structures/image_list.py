"""A batch of images of different sizes in one padded tensor."""

from collections.abc import Sequence

import torch


class ImageList:
    """Images padded at the bottom and right to a common size.

    Attributes:
        tensor: (N, ..., H, W).
        image_sizes: N pairs (height, width) before padding.
    """

    def __init__(self, tensor: torch.Tensor, image_sizes: list[tuple[int, int]]):
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> torch.Tensor:
        """The idx-th image without its padding."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args, **kwargs) -> "ImageList":
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[torch.Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Pads and stacks.

        Args:
            tensors: (..., Hi, Wi) tensors that agree in all but the last two axes.
            size_divisibility: the common height and width become multiples of it, where above 1.
            pad_value: fills the padding.
            padding_constraints: ``size_divisibility`` here overrides the argument; ``square_size`` above 0
                fixes both sides.

        Raises:
            ValueError: for an empty list, other leading axes, or an image larger than ``square_size``.
        """
        leading = {tuple(t.shape[:-2]) for t in tensors}
        if len(leading) != 1:
            raise ValueError(f"a batch needs images with the same leading axes, got {sorted(leading)}")
        sizes = [(t.shape[-2], t.shape[-1]) for t in tensors]
        padded_size = _padded_size(sizes, {"size_divisibility": size_divisibility, **(padding_constraints or {})})
        batch = tensors[0].new_full((len(tensors), *leading.pop(), *padded_size), pad_value)
        for slot, image, (height, width) in zip(batch, tensors, sizes):
            slot[..., :height, :width] = image
        return ImageList(batch, sizes)


def _padded_size(sizes: list[tuple[int, int]], constraints: dict[str, int]) -> tuple[int, int]:
    """The smallest (height, width) that holds all sizes and satisfies the constraints."""
    need = tuple(max(side) for side in zip(*sizes))
    square, multiple = constraints.get("square_size", 0), max(constraints["size_divisibility"], 1)
    if square > 0:
        if max(need) > square:
            raise ValueError(f"an image of {need} (height, width) exceeds the square_size {square} of the backbone")
        need = (square, square)
    return tuple(-(-side // multiple) * multiple for side in need)
