"""One expiry for a result that counts many things, each of which ends at a time of its own.

Such a result is computed again once in a while, not at each end. Most ends never come, because what is used is kept
alive. A count that expired at each end would be computed again and again, with the same result.
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
