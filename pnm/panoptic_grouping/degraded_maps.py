"""Panoptic truth made as wrong as predictions are, to train a refiner of panoptic maps without any base model.

Instances are merged, split, lost, taken for another class, pierced, redrawn and invented, stuff is confused and
redrawn, and borders become void: :mod:`pnm.panoptic_grouping.degradation_events` says how, :class:`EventRates` how
often.
"""

from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.panoptic_grouping import degradation_events as events
from pnm.panoptic_grouping.map_draft import Draft
from pnm.panoptic_grouping.panoptic_map import PanopticMap

UNCHANGED = 0.05  # of images: a refiner has to learn to leave what is right


class EventRates(NamedTuple):
    """Probabilities of the events, in the order in which they are drawn."""

    merge: float = 0.10  # of an instance, with one of its class nearby
    split: float = 0.05  # of an instance, in two
    drop: float = 0.10  # of an instance
    wrong_class: float = 0.05  # of an instance
    holes: float = 0.10  # of an instance, one to three in it
    outline: float = 0.85  # of an instance, drawn coarsely
    invented: float = 0.4  # instances an image, mean of a Poisson distribution, which isn't clipped at 1
    stuff_joined: float = 0.10  # of a stuff segment, with another one
    stuff_void: float = 0.05  # of a stuff segment that isn't joined
    stuff_outline: float = 0.5  # of a stuff segment, drawn at an eighth of the resolution
    void_borders: float = 0.3  # of an image, along all borders

    def scaled(self, strength: float) -> "EventRates":
        """All rates times ``strength``, probabilities at most 1."""
        rates = EventRates(*(min(1.0, rate * strength) for rate in self))
        return rates._replace(invented=self.invented * strength)


RATES = EventRates()


def degraded_map(
    truth: PanopticMap, things: int, stuff: int, rng: np.random.Generator, *, strength: float = 1.0
) -> PanopticMap:
    """A wrong version of a true map; of 5 % of the maps the true one.

    Args:
        truth: is left as it is.
        things, stuff: number of classes, T and S.
        strength: factor of all rates; 0 gives the truth.

    Returns:
        Of the same size, int32, its segments numbered without gaps; stuff of one class is one segment, always.

    Raises:
        UserError: a class isn't in 0..T+S-1, or ``strength`` is negative.
    """
    if not all(0 <= kind < things + stuff for kind in truth.classes):
        raise UserError(
            f"classes are {truth.classes}, expected 0 to {things + stuff - 1}: {things} things, {stuff} stuff"
        )
    if not strength >= 0:
        raise UserError(f"strength is {strength}, expected 0 or more")
    draft = Draft.of(truth, things, stuff)
    draft.join_stuff()
    if strength > 0 and rng.random() >= UNCHANGED:
        _draw_events(draft, rng, RATES.scaled(strength))
    return draft.renumbered()


def _draw_events(draft: Draft, rng: np.random.Generator, rates: EventRates) -> None:
    events.merge_instances(draft, rng, rates.merge)
    events.split_instances(draft, rng, rates.split)
    events.drop_instances(draft, rng, rates.drop)
    events.change_classes(draft, rng, rates.wrong_class)
    events.make_holes(draft, rng, rates.holes)
    events.redraw_instances(draft, rng, rates.outline)
    events.invent_instances(draft, rng, rates.invented)
    events.change_stuff(draft, rng, rates.stuff_joined, rates.stuff_void)
    events.redraw_stuff(draft, rng, rates.stuff_outline)
    events.void_borders(draft, rng, rates.void_borders)
