"""How far two predictions differ, and how sure that is: a bootstrap over images.

Images are drawn with replacement as often as there are images, both predictions are scored on the same draw, and the
percentiles of the scores are the interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.metrics.metric_values import MetricValues

OnSamples = Callable[[np.ndarray], MetricValues]
_AT_ONCE = 50  # resamples; bounds the memory of their statistics


class Interval(NamedTuple):
    """A value on the data set itself, and the percentile interval over resamples; nan where undefined."""

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """One metric of two predictions, A and B; ``difference`` is B - A."""

    a: Interval
    b: Interval
    difference: Interval


def resampled(images: int, resamples: int, seed: int = 0) -> np.ndarray:
    """(``resamples``, ``images``) int64: how often each image is drawn; rows sum to ``images``.

    Raises:
        UserError: fewer than one image or resample, or a negative seed.
    """
    return np.concatenate([*resampled_blocks(images, resamples, seed)])


def resampled_blocks(images: int, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """The rows of :func:`resampled`, a few at a time: all of a million images take gigabytes.

    Raises:
        UserError: fewer than one image or resample, or a negative seed.
    """
    if images < 1 or resamples < 1 or seed < 0:
        raise UserError(
            f"{images} image(s), {resamples} resample(s) and seed {seed} came: a bootstrap needs at least one image "
            "and resample, and a seed from 0"
        )
    generator, share = np.random.default_rng(seed), np.full(images, 1 / images)
    sizes = (min(_AT_ONCE, resamples - first) for first in range(0, resamples, _AT_ONCE))
    return (generator.multinomial(images, share, size=size).astype(np.int64) for size in sizes)


def _on_all(
    sides: Sequence[OnSamples], blocks: Iterable[np.ndarray], done: Callable[[int], object]
) -> list[dict[str, np.ndarray]]:
    """What each side scores on each resample."""
    parts: list[dict[str, list[np.ndarray]]] = [{} for _ in sides]
    for block in blocks:
        for on_samples, part in zip(sides, parts, strict=True):
            for name, values in on_samples(block).items():
                part.setdefault(name, []).append(values)
            done(len(block))
    return [{name: np.concatenate(values) for name, values in part.items()} for part in parts]


def interval(value: float, samples: np.ndarray, level: float = 0.95) -> Interval:
    """Percentile interval of (B,) samples; those that are nan, where a class wasn't drawn, are left out.

    Raises:
        UserError: a level that isn't between 0 and 1.
    """
    if not 0 < level < 1:
        raise UserError(f"level is {level}, expected a fraction between 0 and 1, such as 0.95")
    known = samples[~np.isnan(samples)]
    if np.isnan(value) or not known.size:
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def intervals(
    on_samples: OnSamples,
    images: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    done: Callable[[int], object] = lambda number: None,
) -> MetricValues:
    """Every metric of one prediction as an :class:`Interval`, from the draws that :func:`compare` makes.

    Args and errors are those of :func:`compare`.
    """
    (drawn,) = _on_all([on_samples], resampled_blocks(images, resamples, seed), done)
    whole = on_samples(np.ones((1, images), np.int64))
    return whole.like(lambda name: interval(whole[name][0], drawn[name], level))


def compare(
    a: OnSamples,
    b: OnSamples,
    images: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    done: Callable[[int], object] = lambda number: None,
) -> MetricValues:
    """Every metric of two predictions of the same images, with intervals.

    Args:
        a, b: what each prediction scores on B data sets, given as (B, ``images``) multiplicities of the images: (B,)
            values of each metric. The metrics' ``compute_many`` are made for it.
        images: their number; the same images in the same order in both.
        resamples: data sets that are drawn; the seed decides which.
        level: of the intervals.
        done: told the number of resamples after each block of one prediction, for a progress bar.

    Returns:
        A :class:`Comparison` of each metric; both must have the same ones. A prediction compared with itself differs
        by 0, from 0 to 0.

    Raises:
        UserError: see :func:`resampled` and :func:`interval`.
    """
    blocks = resampled_blocks(images, resamples, seed)
    every = np.ones((1, images), np.int64)
    whole_a, whole_b = a(every), b(every)
    drawn_a, drawn_b = _on_all([a, b], blocks, done)

    def comparison(name: str) -> Comparison:
        return Comparison(
            interval(whole_a[name][0], drawn_a[name], level),
            interval(whole_b[name][0], drawn_b[name], level),
            interval(whole_b[name][0] - whole_a[name][0], drawn_b[name] - drawn_a[name], level),
        )

    return whole_a.like(comparison)
