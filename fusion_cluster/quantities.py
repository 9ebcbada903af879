"""Checks the times, counts and amounts that users give, where they enter the library.

Invariant: every returned number can be added to a clock, given to timers and to gRPC, and compared with any other. Any
other input ends with an `InvalidArgument` that names the parameter and shows the value.
"""

from __future__ import annotations

import math
import numbers
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from fusion_cluster.errors import InvalidArgument

LONGEST_S: Final = 100 * 365 * 86_400.0
"""A hundred years. A longer time counts as infinite: clocks, timers and gRPC cannot hold it."""

MOST: Final = 2**62 - 1
"""The largest count: larger ones do not fit into the integers of the C code that compares them."""

MAX_SHOWN_CHARACTERS: Final = 60

_ABOVE_0: Final = math.ulp(0.0)
_FINITE: Final = f"and at most a hundred years ({LONGEST_S:.0f})"


# -- times, in seconds -------------------------------------------------------------------------------------------------
def as_timeout(field: str, value: object) -> float:
    """Return how long something may take; None becomes infinite: no limit.

    Raises:
        InvalidArgument: it is not a number above 0.
    """
    if value is None:
        return math.inf
    return _countable(as_number(field, value, "a number of seconds above 0, or None for no limit", least=_ABOVE_0))


def as_finite_timeout(field: str, value: object) -> float:
    """Return how long something may take; the time must be finite.

    Raises:
        InvalidArgument: it is not a number above 0, or more than a hundred years.
    """
    return as_number(field, value, f"a number of seconds above 0, {_FINITE}", least=_ABOVE_0, most=LONGEST_S)


def as_delay(field: str, value: object) -> float:
    """Return how long to wait, or to keep something; infinite: no limit.

    Raises:
        InvalidArgument: it is not a number, or it is negative.
    """
    return _countable(as_number(field, value, "a number of seconds, 0 or more"))


def as_finite_delay(field: str, value: object) -> float:
    """Return how long to wait; the time must be finite.

    Raises:
        InvalidArgument: it is not a number, it is negative, or more than a hundred years.
    """
    return as_number(field, value, f"a number of seconds, 0 or more, {_FINITE}", most=LONGEST_S)


# -- counts and amounts ------------------------------------------------------------------------------------------------
def as_count(field: str, value: object, *, least: int = 1, most: int = MOST) -> int:
    """Return a whole number.

    Raises:
        InvalidArgument: it is not a whole number, or it is out of its range.
    """
    is_too_large = False
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        if least <= int(value) <= most:
            return int(value)
        is_too_large = int(value) > most
    range_of_it = f"from {least} to {most}" if is_too_large or most < MOST else f"{least} or more"
    raise InvalidArgument(f"{field} must be a whole number, {range_of_it}, not {shown(value)}", field=field)


def as_number(field: str, value: object, wanted: str = "", *, least: float = 0.0, most: float = math.inf) -> float:
    """Return a number as a float; infinite if the number is too large for a float.

    Args:
        field: the name of the parameter.
        value: the value that was given for it.
        wanted: the words in the error for what it must be; "": made from `least`.
        least: the smallest value that is allowed.
        most: the largest value that is allowed.

    Raises:
        InvalidArgument: it is not a number, or it is out of its range.
    """
    number = math.nan
    if isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool):
        real: Any = value
        try:
            number = float(real)
        except OverflowError:
            number = math.inf if real > 0 else -math.inf
        except ValueError:  # Decimal's signalling NaN
            number = math.nan
    if least <= number <= most:
        return number
    wanted = wanted or f"a number, {least:g} or more"
    instead = ": write .total_seconds()" if isinstance(value, timedelta) else ""
    raise InvalidArgument(f"{field} must be {wanted}, not {shown(value)}{instead}", field=field)


def shown(value: object) -> str:
    """Return a short text for a value of any kind, for messages."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"a number of about {round(value.bit_length() * math.log10(2)):,} digits"
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}… (a {type(value).__name__})"


def _countable(seconds: float) -> float:
    return seconds if seconds <= LONGEST_S else math.inf
