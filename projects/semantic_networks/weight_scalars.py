"""What a run logs about its pixel weights."""

import torch
from detectron2.utils.events import get_event_storage, has_event_storage


@torch.no_grad()
def log_weights(
    name: str, weights: torch.Tensor, valid: torch.Tensor, weighted: torch.Tensor, unweighted: torch.Tensor
) -> None:
    """Logs ``pnm/<name>_{mean_weight,share_above_2,loss_weighted,loss_unweighted}`` of this process's batch.

    Args:
        weights: of any shape; ``valid`` (bool, alike) says which pixels count.
        weighted, unweighted: scalars, before the loss's own factor.
    """
    if not has_event_storage():
        return
    number = valid.sum().clamp(min=1)
    values = {
        "mean_weight": weights.where(valid, 0).sum() / number,
        "share_above_2": ((weights > 2) & valid).sum() / number,
        "loss_weighted": weighted,
        "loss_unweighted": unweighted,
    }
    numbers = torch.stack([value.float() for value in values.values()]).tolist()  # one synchronisation
    for key, number_ in zip(values, numbers):
        get_event_storage().put_scalar(f"pnm/{name}_{key}", number_)
