"""Which pixels and objects change, for a strength that a person chooses."""

from typing import NamedTuple

import numpy as np

from pnm.errors import UserError

DEFAULT_STRENGTH = 0.5


class Decision(NamedTuple):
    """When pixels and objects change.

    Attributes:
        pixel: probability of the other label above which a pixel changes where no belief in the object is known, 0.5
            to 1.
        risk: most probability at which a refinement may be worse, 0 to 1.
    """

    pixel: float
    risk: float

    @property
    def margin(self) -> float:
        """The logit of ``pixel``."""
        return float(np.log(self.pixel / (1 - self.pixel))) if self.pixel < 1 else float("inf")


def decision_of(strength: float, key: str = "--strength") -> Decision:
    """The decision of a strength from 0, which changes nothing, to 1, by which all is done that is expected to gain.

    Raises:
        UserError: another number.
    """
    if isinstance(strength, bool) or not 0 <= strength <= 1:
        raise UserError(f"{key} is {strength!r}, expected a number from 0 (nothing changes) to 1")
    return Decision(1 - strength / 2, float(strength) ** 3)
