"""The time as a service: values that are right until the next step of the clock, and then out of date by themselves.

Whatever depends on them is out of date with them: a board that shows "3 minutes ago" is computed again when that has
become "4 minutes ago", and not before.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from fusion_cluster.bodies.expiry import expire_at
from fusion_cluster.catalogue.service import ComputeService, runtime_of
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.graph import compute_method
from fusion_cluster.quantities import LONGEST_S, as_number

FINEST_GRANULARITY_S: Final = 0.01
"""The clock does not step more often than this: each step computes everything again that depends on it."""

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 60 * _MINUTE_S
_DAY_S: Final = 24 * _HOUR_S
_UNITS: Final = (
    (_MINUTE_S, "a minute", "minutes"),
    (_HOUR_S, "an hour", "hours"),
    (_DAY_S, "a day", "days"),
    (30 * _DAY_S, "a month", "months"),
    (365 * _DAY_S, "a year", "years"),
)


class Clock(ComputeService):
    """What time it is. It needs no database.

    A key is computed by the shard that owns it, by that shard's clock, and its next step is pushed to all who have read
    it: so all readers see one clock, which steps at one moment but for the time that a push takes. Nothing ticks that
    nobody has asked for: the next step is waited for only from one read to the invalidation that follows it.
    """

    @compute_method
    async def now(self, granularity_s: float = 1.0) -> datetime:
        """The time in UTC, rounded down to a whole number of `granularity_s`, counted from 1970 on.

        It is out of date when the next step begins. With 60 it steps at each full minute, with 86,400 at midnight.

        Args:
            granularity_s: the length of a step in seconds, 0.01 or more. Choose the longest that will do: at each step
                whatever depends on it is out of date.

        Raises:
            InvalidArgument: it is no finite number, or less.
        """
        wanted = f"a number of seconds from {FINEST_GRANULARITY_S} to {LONGEST_S:.0f}"
        as_number("granularity_s", granularity_s, wanted, least=FINEST_GRANULARITY_S, most=LONGEST_S)
        step = _whole_steps(0.0, granularity_s, runtime_of(self).clock.wall())
        expire_at((step + 1) * granularity_s)
        return datetime.fromtimestamp(step * granularity_s, UTC)

    @compute_method
    async def moments_ago(self, moment: datetime) -> str:
        """How long ago that was, in words: "just now", "a minute ago", "3 hours ago", "2 years ago".

        It is out of date exactly when the words change. The time is rounded down to the largest unit that fits; months
        have 30 days, years 365. A time that is yet to come was "just now", as if it was told by a clock that is ahead.

        Args:
            moment: a time with its zone.

        Raises:
            InvalidArgument: it has no zone, or is no time.
        """
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            raise InvalidArgument(f"a moment is a time with its zone, not {moment!r}", field="moment")
        words, until_s = _in_words(moment.timestamp(), runtime_of(self).clock.wall())
        expire_at(until_s)
        return words


def _in_words(moment_s: float, now_s: float) -> tuple[str, float]:
    """Say how long ago `moment_s` was; return until when one would say so, too."""
    words, until_s = "just now", moment_s + _MINUTE_S
    for unit_s, one, many in _UNITS:
        if now_s < moment_s + unit_s:
            return words, min(until_s, moment_s + unit_s)
        count = _whole_steps(moment_s, unit_s, now_s)
        words = f"{one if count == 1 else f'{count} {many}'} ago"
        until_s = moment_s + (count + 1) * unit_s
    return words, until_s


def _whole_steps(start_s: float, step_s: float, now_s: float) -> int:
    """Return the largest n with `start_s + n * step_s <= now_s`, in these very floats.

    The end of a step is one of these sums too, so whoever comes at the end of one finds the next.
    """
    steps = math.floor((now_s - start_s) / step_s)
    while start_s + (steps + 1) * step_s <= now_s:
        steps += 1
    while start_s + steps * step_s > now_s:
        steps -= 1
    return steps
