"""Learning rates that follow one of fvcore's schedules, with a warm-up before or under it."""

from collections.abc import Callable
from typing import Any, Literal

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["LRMultiplier", "LRScheduler", "WarmupParamScheduler"]


class WarmupParamScheduler(CompositeParamScheduler):
    """A schedule whose first part is replaced by a warm-up.

    Args:
        scheduler: the schedule after the warm-up, any of fvcore's (multi-step, cosine, polynomial, ...).
        warmup_factor: value at the start, relative to ``scheduler``'s first value.
        warmup_length: share of the run in [0, 1] that is warm-up.
        warmup_method: "linear" (a ramp) or "constant".
        rescale_interval: True compresses ``scheduler`` into what is left; False lets the warm-up hide its start.
    """

    @staticmethod
    def _ramp(method: str) -> Callable[[float, float], ParamScheduler]:
        ramps = {"constant": lambda start, end: ConstantParamScheduler(start), "linear": LinearParamScheduler}
        if method not in ramps:
            raise ValueError(f"warmup_method is {method!r}, expected one of {sorted(ramps)}")
        return ramps[method]

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: Literal["linear", "constant"] = "linear",
        rescale_interval: bool = False,
    ):
        ramp = self._ramp(warmup_method)
        start, end = warmup_factor * scheduler(0.0), scheduler(0.0 if rescale_interval else warmup_length)
        super().__init__(
            schedulers=[ramp(start, end), scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Sets every group's rate to its initial rate times ``multiplier(iteration / max_iter)``.

    Call :meth:`step` once per iteration. ``last_iter`` is the iteration already done, -1 at the start.
    """

    def __init__(self, optimizer: Optimizer, multiplier: ParamScheduler, max_iter: int, last_iter: int = -1):
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(f"multiplier must be one of fvcore's ParamSchedulers, got {multiplier!r}")
        self._max_iter, self._multiplier = max_iter, multiplier
        super().__init__(optimizer, last_epoch=last_iter)

    def get_lr(self) -> list[float]:
        """The rate of every group at the current iteration (torch calls iterations epochs)."""
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [initial * factor for initial in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Position and initial rates; the schedule itself comes from the config."""
        return {key: getattr(self, key) for key in ("base_lrs", "last_epoch")}
