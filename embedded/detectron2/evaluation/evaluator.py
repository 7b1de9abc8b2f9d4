"""The evaluator protocol, and the loop that runs a model over a data set."""

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, MutableSequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import torch
from detectron2.utils.comm import get_world_size, is_main_process
from detectron2.utils.logger import log_every_n_seconds
from torch import nn

logger = logging.getLogger(__name__)


class DatasetEvaluator:
    """Takes inputs with their outputs, batch by batch, and sums them up at the end."""

    def reset(self) -> None:
        """Starts over."""

    def process(self, inputs: list, outputs: list) -> None:
        """Takes one batch: what the model was given, and what it returned for each."""

    def evaluate(self) -> dict | None:
        """``{task: {metric: score}}`` in the main process; collective, so all processes call it."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one."""

    def __init__(self, evaluators: list[DatasetEvaluator]):
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: list, outputs: list) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> OrderedDict:
        """The evaluators' results in one dict; ValueError if two of them report the same task."""
        merged: OrderedDict = OrderedDict()
        for evaluator in self._evaluators:
            found = evaluator.evaluate()
            if found is None or not is_main_process():
                continue
            twice = merged.keys() & found.keys()
            if twice:
                raise ValueError(f"two evaluators report {', '.join(sorted(twice))}: use one evaluator per task")
            merged.update(found)
        return merged


class _Stopwatch:
    """Mean seconds per batch of each phase, the first batches (warm-up) left out."""

    def __init__(self, total: int):
        self.total, self.warmup = total, min(5, max(total - 1, 0))
        self.done = 0
        self._restart()

    def _restart(self) -> None:
        self.seconds: Counter = Counter()
        self._counted = 0
        self._begin = self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Credits the time since the last lap to ``phase``."""
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now

    def finish_batch(self) -> None:
        self.done += 1
        self._counted += 1
        if self.done == self.warmup:
            # Kept until the first batch after the warm-up is over, so there is always something to divide.
            self._restart()

    def mean(self, phase: str) -> float:
        return self.seconds[phase] / max(self._counted, 1)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._begin

    @property
    def per_batch(self) -> float:
        return self.elapsed / max(self._counted, 1)

    def report(self) -> str:
        left = timedelta(seconds=int(self.per_batch * (self.total - self.done)))
        phases = ", ".join(f"{phase} {self.mean(phase):.4f}" for phase in ("data", "inference", "evaluation"))
        return (
            f"Inference {self.done}/{self.total}: {self.per_batch:.4f} s/batch ({phases}), "
            f"{1 / max(self.per_batch, 1e-9):.2f} batches/s, ETA {left}"
        )


def inference_on_dataset(model, data_loader, evaluator, callbacks: dict | None = None) -> dict:
    """Runs ``model`` over ``data_loader`` without gradients, in eval mode, and returns ``evaluator.evaluate()``.

    Args:
        model: nn.Module, or any function from a batch to a list of outputs.
        data_loader: of finite length; in distributed runs, this process's share.
        evaluator: one, a list of them, or None (to time the model only).
        callbacks: functions without arguments: "on_start", "before_inference", "after_inference", "on_end".
    """
    if evaluator is None or isinstance(evaluator, MutableSequence):
        evaluator = DatasetEvaluators(evaluator or [])
    hooks = {"on_start": None, "before_inference": None, "after_inference": None, "on_end": None} | (callbacks or {})

    def call(name: str) -> None:
        if hooks[name] is not None:
            hooks[name]()

    logger.info("Inference on %d batches", len(data_loader))
    evaluator.reset()
    watch = _Stopwatch(len(data_loader))
    with ExitStack() as modes:
        if isinstance(model, nn.Module):
            modes.enter_context(inference_context(model))
        modes.enter_context(torch.no_grad())
        call("on_start")
        for inputs in data_loader:
            watch.lap("data")
            call("before_inference")
            outputs = model(inputs)
            call("after_inference")
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            watch.lap("inference")
            evaluator.process(inputs, outputs)
            watch.lap("evaluation")
            watch.finish_batch()
            if watch.done >= 2 * watch.warmup or watch.mean("inference") > 5:
                log_every_n_seconds(logging.INFO, watch.report(), n=5)
        call("on_end")
    logger.info(
        "Inference took %s after warm-up: %.6f s / batch (model alone %.6f) on each of %d process(es)",
        *(timedelta(seconds=int(watch.elapsed)), watch.per_batch, watch.mean("inference"), get_world_size()),
    )
    return evaluator.evaluate() or {}


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each submodule is back in the mode it had, also after an error."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode
