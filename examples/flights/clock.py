"""Times of a flight as minutes since midnight of its day, and as the data and people write them.

The data writes local times as hhmm numbers without a date: 5:17 is 517, midnight at the end of the day is 2400 and a
quarter past it is 15. Minutes since the day's midnight have no such gaps: they go on past 1440 into the next day.
"""

from __future__ import annotations

MINUTES_PER_DAY = 1440


def clock_minutes(hhmm: int) -> int:
    """Minutes since midnight of a time written as hhmm; 2400 is 1440."""
    hours, minutes = divmod(hhmm, 100)
    return hours * 60 + minutes


def next_time(clock: int, after: int) -> int:
    """The first minute later than `after` at which a clock shows `clock` (both in minutes since midnight)."""
    return after + ((clock - after) % MINUTES_PER_DAY or MINUTES_PER_DAY)


def show_minute(minute: int) -> str:
    """A minute since midnight as people write it: "05:17", and "00:15+1" on the next day."""
    days, clock = divmod(minute, MINUTES_PER_DAY)
    text = f"{clock // 60:02}:{clock % 60:02}"
    return f"{text}+{days}" if days else text


def read_minute(text: str) -> int:
    """The minute since midnight that `show_minute` showed so."""
    clock, _, days = text.partition("+")
    hours, minutes = clock.split(":")
    return int(days or 0) * MINUTES_PER_DAY + int(hours) * 60 + int(minutes)
