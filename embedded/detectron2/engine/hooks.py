"""Hooks of ordinary training: timing, schedule, checkpoints, evaluation, reports."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import repeat
from typing import Any

from detectron2.solver import LRMultiplier
from detectron2.solver import LRScheduler as _LRScheduler
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn
from torch.optim import Optimizer

from .train_loop import HookBase

__all__ = [
    "CallbackHook",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
]

logger = logging.getLogger(__name__)


def _clock(seconds: float) -> timedelta:
    return timedelta(seconds=int(seconds))


class CallbackHook(HookBase):
    """A hook made of functions that take the trainer."""

    def __init__(
        self,
        *,
        before_train: Callable | None = None,
        after_train: Callable | None = None,
        before_step: Callable | None = None,
        after_step: Callable | None = None,
    ):
        given = {"before_train": before_train, "after_train": after_train}
        given |= {"before_step": before_step, "after_step": after_step}
        self._calls = {moment: call for moment, call in given.items() if call is not None}

    def _at(self, moment: str) -> None:
        if moment in self._calls:
            self._calls[moment](self.trainer)

    def before_train(self) -> None:
        self._at("before_train")

    def before_step(self) -> None:
        self._at("before_step")

    def after_step(self) -> None:
        self._at("after_step")

    def after_train(self) -> None:
        self._at("after_train")
        self._calls = {}  # closures may hold the trainer


class IterationTimer(HookBase):
    """Records each iteration's seconds as ``time``, and at the end says how long training and hooks took.

    Place it first, so that it does not measure other hooks. The first ``warmup_iter`` iterations are left out.
    """

    def __init__(self, warmup_iter: int = 3):
        self._warmup_iter = warmup_iter
        self._began = time.perf_counter()
        self._step, self._steps = Timer(), Timer()

    def _restart(self) -> None:
        self._began = time.perf_counter()
        self._steps.reset()

    def before_train(self) -> None:
        self._restart()
        self._steps.pause()

    def before_step(self) -> None:
        self._step.reset()
        self._steps.resume()

    def after_step(self) -> None:
        storage = self.trainer.storage
        if storage.iter - self.trainer.start_iter + 1 < self._warmup_iter:
            self._restart()
        else:
            storage.put_scalars(time=self._step.seconds())
        self._steps.pause()

    def after_train(self) -> None:
        total, steps = time.perf_counter() - self._began, self._steps.seconds()
        timed = self.trainer.storage.iter + 1 - self.trainer.start_iter - self._warmup_iter
        if timed > 0 and steps > 0:
            logger.info(
                "Overall training speed: %d iterations in %s (%.4f s / it)", timed, _clock(steps), steps / timed
            )
        logger.info("Total training time: %s (%s on hooks)", _clock(total), _clock(total - steps))


class PeriodicWriter(HookBase):
    """Lets event writers report every ``period`` iterations, after the last one, and before closing them."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20):
        strangers = [writer for writer in writers if not isinstance(writer, EventWriter)]
        assert not strangers, f"not EventWriters: {strangers}"
        self._writers, self._period = writers, period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """Saves a checkpoint every ``period`` iterations, and ``model_final`` after the last one."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class _WithEvaluation(HookBase):
    """Base of hooks that act every ``period`` iterations, but at the end of training only once, after it."""

    _period = 0
    _at_end = True

    def _act(self) -> None:
        raise NotImplementedError

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._act()

    def after_train(self) -> None:
        # trainer.iter stays below max_iter if an iteration failed
        if self._at_end and self.trainer.iter >= self.trainer.max_iter:
            self._act()


class LRScheduler(HookBase):
    """Steps a learning-rate schedule after every iteration and records the rate as ``lr``.

    Args:
        optimizer: the trainer's if None.
        scheduler: torch's, or one of fvcore's, which then multiplies the initial rates; the trainer's if None.
    """

    def __init__(self, optimizer: Optimizer | None = None, scheduler: _LRScheduler | ParamScheduler | None = None):
        self._optimizer, self._scheduler = optimizer, scheduler

    @property
    def scheduler(self) -> Any:
        return self._scheduler or self.trainer.scheduler

    def before_train(self) -> None:
        self._optimizer = self._optimizer or self.trainer.optimizer
        if isinstance(self.scheduler, ParamScheduler):
            trainer = self.trainer
            self._scheduler = LRMultiplier(self._optimizer, self.scheduler, trainer.max_iter, trainer.iter - 1)
        self._shown_group = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: Optimizer) -> int:
        """The group whose rate stands for all: the largest, or among single parameters the commonest rate's first."""
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        rate = self._optimizer.param_groups[self._shown_group]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict() if isinstance(self.scheduler, _LRScheduler) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if isinstance(self.scheduler, _LRScheduler):
            self.scheduler.load_state_dict(state_dict)


class EvalHook(_WithEvaluation):
    """Evaluates every ``eval_period`` iterations (0: never) and, if ``eval_after_train``, at the end.

    Every process needs this hook.

    Args:
        eval_function: returns a nested dict of numbers (or None), which are recorded as ``task/metric``.
    """

    def __init__(self, eval_period: int, eval_function: Callable[[], Any], eval_after_train: bool = True):
        self._period, self._evaluate, self._at_end = eval_period, eval_function, eval_after_train

    def _act(self) -> None:
        from detectron2.evaluation.testing import flatten_results_dict

        results = self._evaluate()
        if results:
            if not isinstance(results, dict):
                raise ValueError(f"an evaluation must return a dict, got {results!r}")
            flat = flatten_results_dict(results)
            try:
                flat = {name: float(value) for name, value in flat.items()}
            except (TypeError, ValueError) as error:
                raise ValueError(f"an evaluation must return a nested dict of numbers, got {flat}") from error
            self.trainer.storage.put_scalars(smoothing_hint=False, **flat)
        comm.synchronize()  # all go on together, however long their share took

    def after_train(self) -> None:
        super().after_train()
        self._evaluate = None  # a closure may hold the trainer


class PreciseBN(HookBase):
    """Replaces batch norm's moving averages by true averages over ``num_iter`` batches.

    Runs every ``period`` iterations (0: never) and after the last; does nothing for models without batch norm in
    training mode.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable, num_iter: int):
        self._period, self._model, self._num_iter = period, model, num_iter
        self._loader, self._batches = data_loader, None
        self._disabled = not get_bn_modules(model)
        if self._disabled:
            logger.info("precise batch norm is off: no batch norm of the model is in training mode")

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            self.update_stats()

    def update_stats(self) -> None:
        """Recomputes the statistics now."""
        if self._disabled:
            return
        self._batches = self._batches or iter(self._loader)
        logger.info("computing batch-norm statistics over %d batches", self._num_iter)
        with EventStorage():  # losses of these batches are not the run's
            batches = (next(source) for source in repeat(self._batches))
            update_bn_stats(self._model, batches, self._num_iter)
