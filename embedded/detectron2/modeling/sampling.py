"""Random choice of training samples."""

import torch

__all__ = ["subsample_labels"]


def subsample_labels(
    labels: torch.Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Chooses up to ``num_samples`` elements: positives up to their fraction, then background.

    Args:
        labels: (N,) with -1 ignored, ``bg_label`` background, anything else positive.

    Returns:
        Indices of the chosen positives and of the chosen background, each in random order. Two permutations are
        drawn, positives first.
    """
    background = labels == bg_label
    chosen, room = [], int(num_samples * positive_fraction)
    for candidates in (~background & (labels != -1), background):
        indices = candidates.nonzero()[:, 0]
        order = torch.randperm(len(indices), device=indices.device)
        chosen.append(indices[order[:room]])
        room = num_samples - len(chosen[0])
    return chosen[0], chosen[1]
