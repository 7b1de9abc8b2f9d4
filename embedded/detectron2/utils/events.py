"""Scalars, images and histograms of a training run: a storage that collects and writers that report."""

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from itertools import takewhile
from typing import Any

import torch
from detectron2.utils.file_io import PathManager
from fvcore.common.history_buffer import HistoryBuffer

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "EventWriter",
    "JSONWriter",
    "TensorboardXWriter",
    "get_event_storage",
    "has_event_storage",
]

_active: list["EventStorage"] = []


def has_event_storage() -> bool:
    """True inside a ``with EventStorage():`` block."""
    return bool(_active)


def get_event_storage() -> "EventStorage":
    """The innermost active storage.

    Raises:
        AssertionError: called outside any ``with EventStorage():`` block.
    """
    assert _active, "no EventStorage is active: wrap the call in 'with EventStorage(start_iter):'"
    return _active[-1]


class EventStorage:
    """Histories of named scalars over iterations, plus images and histograms until TensorBoard takes them.

    Used as a context manager it becomes what :func:`get_event_storage` returns.
    """

    def __init__(self, start_iter: int = 0):
        self.iter = start_iter
        self._scope = ""
        self._buffers: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._newest: dict[str, tuple[float, int]] = {}
        self._smoothed: dict[str, bool] = {}
        self._vis_data: list[tuple] = []
        self._histograms: list[dict] = []

    def __enter__(self) -> "EventStorage":
        _active.append(self)
        return self

    def __exit__(self, exc_type, exc_val, exc_tb) -> None:
        assert _active.pop() is self, "event storages must be left in the reverse order of entering them"

    @property
    def iter(self) -> int:
        """The current iteration, from 0."""
        return self._iter

    @iter.setter
    def iter(self, val: int) -> None:
        self._iter = int(val)

    @property
    def iteration(self) -> int:
        """Alias of :attr:`iter`."""
        return self._iter

    def step(self) -> None:
        """Moves to the next iteration."""
        self._iter += 1

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Within the block, scalar names get the prefix ``name/``."""
        outer, self._scope = self._scope, name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._scope = outer

    def put_scalar(self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Appends one value to the history of ``name``.

        Args:
            smoothing_hint: whether writers should show a median instead of the last value; the same in every
                call for one name (AssertionError otherwise).
            cur_iter: the iteration it belongs to, the current one if None.
        """
        name, entry = self._scope + name, (float(value), self._iter if cur_iter is None else cur_iter)
        agreed = self._smoothed.setdefault(name, smoothing_hint)
        assert agreed == smoothing_hint, f"scalar {name!r} was put before with smoothing_hint={agreed}"
        self._buffers[name].update(*entry)
        self._newest[name] = entry

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any) -> None:
        """:meth:`put_scalar` for every keyword."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Keeps an RGB image (3, H, W), uint8 or float in [0, 1], for TensorBoard."""
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Keeps the histogram of all elements of ``hist_tensor`` for TensorBoard."""
        low, high = (float(edge) for edge in hist_tensor.aminmax())
        moments = {"sum": float(hist_tensor.sum()), "sum_squares": float(hist_tensor.square().sum())}
        uppers = torch.linspace(low, high, bins + 1)[1:].tolist()
        counts = torch.histc(hist_tensor, bins).tolist()
        buckets = {"bucket_limits": uppers, "bucket_counts": counts, "num": len(hist_tensor)}
        place = {"tag": hist_name, "global_step": self._iter, "min": low, "max": high}
        self._histograms.append(place | moments | buckets)

    def history(self, name: str) -> HistoryBuffer:
        """The history of one scalar; KeyError if it was never put."""
        if name not in self._buffers:
            raise KeyError(f"no scalar {name!r} was put so far; known: {sorted(self._buffers)}")
        return self._buffers[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """All histories by name."""
        return self._buffers

    def latest(self) -> dict[str, tuple[float, int]]:
        """The last (value, iteration) of every scalar."""
        return self._newest

    def smoothing_hints(self) -> dict[str, bool]:
        """Which scalars asked to be smoothed."""
        return self._smoothed

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values of ``name`` fall into the ``window_size`` iterations up to its last one."""
        entries = self._buffers[name].values()
        oldest = entries[-1][1] - window_size
        return sum(1 for _ in takewhile(lambda entry: entry[1] > oldest, reversed(entries)))

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """As :meth:`latest`, with the median over the last ``window_size`` iterations where smoothing was asked for."""

        def shown(name: str, value: float) -> float:
            if not self._smoothed[name]:
                return value
            return self._buffers[name].median(self.count_samples(name, window_size))

        return {name: (shown(name, value), at) for name, (value, at) in self._newest.items()}

    def clear_images(self) -> None:
        """Drops all images."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Drops all histograms."""
        self._histograms = []


class EventWriter:
    """Reports what the active storage holds; :meth:`write` is called every so many iterations."""

    def write(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


class _NewScalars(EventWriter):
    """Base of writers that report every scalar once per iteration it was put in."""

    def __init__(self, window_size: int):
        self._window_size = window_size
        self._reported_until = -1

    def _unreported(self, storage: EventStorage) -> list[tuple[int, str, float]]:
        """(iteration, name, smoothed value), oldest first, of scalars put since the last call."""
        scalars = storage.latest_with_smoothing_hint(self._window_size).items()
        new = [(at, name, value) for name, (value, at) in scalars if at > self._reported_until]
        self._reported_until = max([self._reported_until, *(at for at, _, _ in new)])
        return sorted(new, key=lambda item: item[0])


class JSONWriter(_NewScalars):
    """Appends one JSON object per reported iteration to a file, so that it reads line by line."""

    def __init__(self, json_file: str, window_size: int = 20):
        super().__init__(window_size)
        self._file = PathManager.open(json_file, "a")

    def write(self) -> None:
        rows: dict[int, dict[str, Any]] = {}
        for at, name, value in self._unreported(get_event_storage()):
            rows.setdefault(at, {"iteration": at})[name] = value
        self._file.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows.values())
        self._file.flush()
        with suppress(AttributeError):  # not every file system's handle has a descriptor
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class TensorboardXWriter(_NewScalars):
    """Writes scalars, images and histograms to TensorBoard files in ``log_dir``.

    Further keywords go to ``torch.utils.tensorboard.SummaryWriter``.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any):
        super().__init__(window_size)
        self._options = {"log_dir": log_dir, **kwargs}

    @cached_property
    def _writer(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self._options)

    def write(self) -> None:
        storage = get_event_storage()
        for at, name, value in self._unreported(storage):
            self._writer.add_scalar(name, value, at)
        for name, image, at in storage._vis_data:
            self._writer.add_image(name, image, at)
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_images()
        storage.clear_histograms()

    def close(self) -> None:
        if "_writer" in vars(self):  # opened by the first write
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs one line of progress: time left, iteration, losses, metrics, seconds, learning rate, memory.

    Args:
        max_iter: length of the run in iterations; None leaves the estimate out.
        window_size: iterations over which the shown medians go.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20):
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._seen: tuple[int, float] | None = None

    def _time_left(self, storage: EventStorage) -> timedelta | None:
        """The median iteration time times what is left; from the wall clock where no time was recorded."""
        if self._max_iter is None:
            return None
        left = self._max_iter - storage.iter - 1
        if "time" in storage.histories():
            seconds = storage.history("time").median(1000) * left
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            return timedelta(seconds=int(seconds))
        now, seen = (storage.iter, time.perf_counter()), self._seen
        self._seen = now
        if seen is None or now[0] == seen[0]:
            return None
        return timedelta(seconds=int((now[1] - seen[1]) / (now[0] - seen[0]) * left))

    def _medians(self, storage: EventStorage, marker: str) -> str:
        shown = (
            f"{name}: {buffer.median(storage.count_samples(name, self._window_size)):.4g}"
            for name, buffer in storage.histories().items()
            if marker in name
        )
        return "  ".join(shown)

    def _seconds(self, storage: EventStorage) -> str:
        """Average and last seconds of an iteration, and of waiting for its data."""
        known, text = storage.histories(), ""
        if "time" in known:
            text += f"time: {known['time'].global_avg():.4f}  last_time: {known['time'].latest():.4f}  "
        if "data_time" in known:
            average = known["data_time"].avg(storage.count_samples("data_time", self._window_size))
            text += f"data_time: {average:.4f}  last_data_time: {known['data_time'].latest():.4f}  "
        return text

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return  # the run is over: hooks after the last step have nothing to add about progress
        seconds, left = self._seconds(storage), self._time_left(storage)
        lr = f"{storage.history('lr').latest():.5g}" if "lr" in storage.histories() else "N/A"
        memory = f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M" if torch.cuda.is_available() else ""
        eta = f"eta: {left}  " if left is not None else ""
        losses, metrics = self._medians(storage, "loss"), self._medians(storage, "[metric]")
        self.logger.info(f" {eta}iter: {storage.iter}  {losses}  {metrics}  {seconds} lr: {lr}  {memory}")
