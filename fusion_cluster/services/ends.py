"""Ends that are seen together: what is counted of many, each with its end, is computed again once in a while, not for
each end.

Whoever is kept alive has an end that never comes; a count that expired at the first end of all that it has counted
would be computed again for one after the other, and come out the same.
"""

from __future__ import annotations

from typing import Final

from fusion_cluster.bodies.expiry import expire_at

STEP_S: Final = 1.0
"""By how much an end may show later in what is counted, and how often at most that is computed again for ends."""


def expire_after_end(first_end_s: float | None, now_s: float) -> None:
    """Let the result that is being computed expire at the first end of what is in it, but not within a step from now.

    So no end shows later than by a step, and one that is further away shows when it comes.

    Args:
        first_end_s: when the first ends of what is alive now, by the clock on the wall; None: nothing ends.
        now_s: the time for which the result is right.
    """
    if first_end_s is not None:
        expire_at(max(first_end_s, now_s + STEP_S))
