"""How pixels are weighted: the null model's settings, and the weights that they give a batch of label maps."""

from dataclasses import dataclass

import torch

from pnm.null_model.batched import pixel_null_model_torch
from pnm.null_model.pixel_weights import pixel_weights


@dataclass(frozen=True)
class PNMSettings:
    """What a weighted loss needs to know.

    Attributes:
        locality: side d of the window in pixels, odd.
        transform: "log", "linear" or "inverse" (Eq. 3, 4, 5).
        border: "valid" or "zero", see :func:`pnm.null_model.null_model.pixel_null_model`.
    """

    locality: int
    transform: str = "log"
    border: str = "valid"

    def weights(self, labels: torch.Tensor, ignore_label: int | None) -> torch.Tensor:
        """(N, H, W) float32 weights of (N, H, W) integer labels."""
        null_model = pixel_null_model_torch(labels, self.locality, ignore_label=ignore_label, border=self.border)
        return pixel_weights(null_model, self.transform)
