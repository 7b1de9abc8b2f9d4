"""Training loops: steps with hooks around them, in full or mixed precision."""

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage
from detectron2.utils.logger import _log_api_usage
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "TrainerBase"]

logger = logging.getLogger(__name__)


class HookBase:
    """What happens around training steps. ``self.trainer`` is set when the hook is registered.

    Order: ``before_train``, then per iteration ``before_step``, the step with ``after_backward`` inside it,
    ``after_step``; at the end ``after_train``, also if training failed.
    """

    trainer: "TrainerBase" = None

    def before_train(self) -> None:
        pass

    def after_train(self) -> None:
        pass

    def before_step(self) -> None:
        pass

    def after_backward(self) -> None:
        pass

    def after_step(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this hook; a hook that returns something also has ``load_state_dict``."""
        return {}


class TrainerBase:
    """A loop over iterations with hooks; subclasses say in :meth:`run_step` what an iteration does.

    Attributes:
        iter: the current iteration; equals ``max_iter`` once training is complete.
        storage: the run's :class:`EventStorage`, from :meth:`train` on.
    """

    def __init__(self) -> None:
        self.iter = self.start_iter = 0
        self.max_iter: int
        self.storage: EventStorage
        self._hooks: list[HookBase] = []
        _log_api_usage(f"trainer.{type(self).__name__}")

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Appends hooks, which run in this order; None entries are left out."""
        for hook in hooks:
            if hook is None:
                continue
            assert isinstance(hook, HookBase), f"{hook!r} is not a HookBase"
            hook.trainer = weakref.proxy(self)  # trainer and hook would otherwise keep each other alive
            self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Runs iterations ``start_iter`` to ``max_iter - 1``."""
        self.start_iter, self.iter, self.max_iter = start_iter, start_iter, max_iter
        logger.info("training iterations %d to %d", start_iter, max_iter - 1)
        with EventStorage(start_iter) as self.storage:
            try:
                self._iterate()
            except Exception:
                logger.error("training stopped at iteration %d", self.iter)
                raise
            finally:
                self.after_train()

    def _iterate(self) -> None:
        self.before_train()
        while self.iter < self.max_iter:
            for part in (self.before_step, self.run_step, self.after_step):
                part()
            self.iter += 1

    def run_step(self) -> None:
        raise NotImplementedError

    def _tell_hooks(self, moment: str) -> None:
        for hook in self._hooks:
            getattr(hook, moment)()

    def before_train(self) -> None:
        self._tell_hooks("before_train")

    def before_step(self) -> None:
        self.storage.iter = self.iter
        self._tell_hooks("before_step")

    def after_backward(self) -> None:
        self._tell_hooks("after_backward")

    def after_step(self) -> None:
        self._tell_hooks("after_step")

    def after_train(self) -> None:
        self.storage.iter = self.iter
        self._tell_hooks("after_train")

    def state_dict(self) -> dict[str, Any]:
        """Iteration and the hooks' states by class name; of hooks of one class, the first's."""
        states: dict[str, Any] = {}
        for hook in self._hooks:
            state, name = hook.state_dict(), type(hook).__qualname__
            if state and name not in states:
                states[name] = state
        return {"iteration": self.iter, **({"hooks": states} if states else {})}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`; states of hooks that are not registered are reported and ignored."""
        self.iter = state_dict["iteration"]
        registered: dict[str, HookBase] = {}
        for hook in self._hooks:
            registered.setdefault(type(hook).__qualname__, hook)
        for name, state in state_dict.get("hooks", {}).items():
            if name in registered:
                registered[name].load_state_dict(state)
            else:
                logger.warning("the checkpoint has a state of hook %s, which this run does not use", name)


class SimpleTrainer(TrainerBase):
    """One model that returns losses, one loader, one optimizer; data-parallel if the model is.

    Args:
        model: takes a batch, returns a dict of scalar losses (or one scalar). It is put into training mode.
        data_loader: yields batches, forever.
        gather_metric_period: losses are gathered from all processes every this many iterations.
        zero_grad_before_forward: clear gradients before the forward pass instead of after it.
        async_write_metrics: gather in a thread, so that the GPU need not wait.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ):
        super().__init__()
        model.train()
        self.model, self.optimizer = model, optimizer
        self.data_loader = data_loader
        self._iterator: Iterator | None = None
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self._executor = ThreadPoolExecutor(max_workers=1)  # one, so that iterations stay in order

    @property
    def _data_loader_iter(self) -> Iterator:
        # worker processes start with the first batch asked for, not before
        if self._iterator is None:
            self._iterator = iter(self.data_loader)
        return self._iterator

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable]) -> None:
        """Continues with the loader that ``data_loader_builder()`` returns; the old one is freed first."""
        self._iterator = self.data_loader = None
        self.data_loader = data_loader_builder()

    def run_step(self) -> None:
        """Batch, losses, gradients, metrics, update."""
        assert self.model.training, "a hook left the model in eval mode; call model.train() when it is done"
        waiting_since = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - waiting_since

        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        with self._precision():
            losses = self.model(batch)
            if isinstance(losses, torch.Tensor):
                losses = {"total_loss": losses}
            total = sum(losses.values())
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self._backward(total)
        self.after_backward()
        if self.async_write_metrics:
            self._executor.submit(self._write_metrics, losses, data_time, iter=self.iter)
        else:
            self._write_metrics(losses, data_time)
        self._update()

    def _precision(self) -> AbstractContextManager:
        return nullcontext()

    def _backward(self, total: torch.Tensor) -> None:
        total.backward()

    def _update(self) -> None:
        self.optimizer.step()

    def _write_metrics(
        self, loss_dict: Mapping[str, torch.Tensor], data_time: float, prefix: str = "", iter: int | None = None
    ) -> None:
        at = self.iter if iter is None else iter
        if (at + 1) % self.gather_metric_period:
            return
        try:
            SimpleTrainer.write_metrics(loss_dict, data_time, at, prefix)
        except Exception:
            logger.exception("could not record the losses of iteration %d", at)  # a thread would swallow it
            raise

    @staticmethod
    def write_metrics(loss_dict: Mapping[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str = "") -> None:
        """Stores the losses, averaged over the processes, their sum ``total_loss`` and the longest wait for data.

        Collective; only the main process stores losses.

        Raises:
            FloatingPointError: the sum is infinite or not a number.
        """
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        everybody = comm.gather(({name: loss.item() for name, loss in loss_dict.items()}, data_time))
        if not comm.is_main_process():
            return
        storage.put_scalar("data_time", max(wait for _, wait in everybody), cur_iter=cur_iter)
        mean = {name: float(np.mean([losses[name] for losses, _ in everybody])) for name in everybody[0][0]}
        total = sum(mean.values())
        if not np.isfinite(total):
            raise FloatingPointError(
                f"the loss is infinite or not a number at iteration {cur_iter}: {mean}. "
                "A lower SOLVER.BASE_LR, a longer warm-up or SOLVER.CLIP_GRADIENTS may help"
            )
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(mean) > 1:
            storage.put_scalars(cur_iter=cur_iter, **mean)

    def after_train(self) -> None:
        self._executor.shutdown(wait=True)
        super().after_train()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


class AMPTrainer(SimpleTrainer):
    """:class:`SimpleTrainer` with automatic mixed precision and scaled losses. Needs a GPU.

    Args:
        grad_scaler: torch's GradScaler; a default one if None.
        precision: the lower precision, ``torch.float16`` or ``torch.bfloat16``.
        log_grad_scaler: also record the loss scale, as ``[metric]grad_scaler``.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: Any = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ):
        devices = model.device_ids or [] if isinstance(model, DistributedDataParallel) else []
        assert not isinstance(model, DataParallel) and len(devices) < 2, "AMPTrainer wants one device per process"
        super().__init__(
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics
        )
        self.grad_scaler = torch.amp.GradScaler("cuda") if grad_scaler is None else grad_scaler
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def run_step(self) -> None:
        if not torch.cuda.is_available():
            raise ValueError("mixed precision (SOLVER.AMP.ENABLED) needs a CUDA GPU, and there is none")
        super().run_step()

    def _precision(self) -> AbstractContextManager:
        return torch.autocast("cuda", dtype=self.precision)

    def _backward(self, total: torch.Tensor) -> None:
        self.grad_scaler.scale(total).backward()
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())

    def _update(self) -> None:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
