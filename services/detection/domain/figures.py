"""How sure a share is: interval estimates for precision and false-positive rates."""

from __future__ import annotations

import math

_Z = 1.96
"""Two-sided 95 %."""


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; (0, 1) without any trial. It holds for few trials and for shares near 0."""
    if trials <= 0:
        return 0.0, 1.0
    share = hits / trials
    scale = 1 + _Z**2 / trials
    centre = (share + _Z**2 / (2 * trials)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    # At the ends the interval touches 0 and 1 exactly; floating point would miss by 1e-17.
    return (0.0 if hits == 0 else centre - half), (1.0 if hits >= trials else centre + half)
