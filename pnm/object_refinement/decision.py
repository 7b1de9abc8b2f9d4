"""Which pixels and objects change, for a strength that a person chooses."""

from numbers import Real
from typing import NamedTuple

import numpy as np

from pnm.errors import UserError

DEFAULT_STRENGTH = 0.5
# At the default strength a refinement may be worse with a probability of 0.15, and change 12 % of the pixels: chosen so
# that masks of people, some of which lie well beside the edge, stay as they are (benchmarks/universal.py).
_RISK_POWER, _CHANGE = 2.75, 0.12


class Decision(NamedTuple):
    """When pixels and objects change.

    Attributes:
        pixel: probability of the other label above which a pixel changes where no belief in the object is known, 0.5
            to 1.
        risk: most probability at which a refinement may be worse, 0 to 1.
        change: most pixels that a refinement may change, as a share of the object's.
    """

    pixel: float
    risk: float
    change: float

    @property
    def margin(self) -> float:
        """The logit of ``pixel``."""
        return float(np.log(self.pixel / (1 - self.pixel))) if self.pixel < 1 else float("inf")


def decision_of(strength: float, key: str = "--strength") -> Decision:
    """The decision of a strength from 0, which changes nothing, to 1, by which every pixel gets its likelier label.

    Raises:
        UserError: another number.
    """
    if isinstance(strength, bool) or not isinstance(strength, Real) or not 0 <= strength <= 1:
        raise UserError(f"{key} is {strength!r}, expected a number from 0 (nothing changes) to 1")
    change = _CHANGE * strength / (1 - strength) if strength < 1 else float("inf")
    return Decision(1 - strength / 2, float(strength) ** _RISK_POWER, change)
