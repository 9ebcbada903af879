"""One expiry for a result that counts many things, each with an end of its own.

Such a result is computed again once in a while, not at each end. Most ends never come, because things in use are kept
alive. A count that expired at each end would be computed again and again, with the same result.
"""

from __future__ import annotations

from typing import Final

from fusion_cluster.bodies.expiry import expire_at

STEP_S: Final = 1.0
"""How late an end may show in the count, and the shortest time between two computations because of ends."""


def expire_after_end(first_end_s: float | None, now_s: float) -> None:
    """Let the present computation's result expire at the first end of what it counts, at the earliest in one step.

    So an end shows at most one step late. An end that is further away shows at once.

    Args:
        first_end_s: the first end among the things alive now, by the wall clock; None: they do not end.
        now_s: the time for which the result is right.
    """
    if first_end_s is not None:
        expire_at(max(first_end_s, now_s + STEP_S))
