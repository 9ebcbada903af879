"""One spelling for each plain value: numbers, text, times, and what is written as text (paths, fractions, addresses).

A *spelling* turns a Python value into what is encoded for it. Two values that a type hint takes for the same give the
same bytes: `1`, `1.0` and `True` for an `int` parameter; `Decimal("1.0")` and `Decimal("1.00")`; one instant in two
time zones. What does not fit the hint is left as it is: decoding says so. What would arrive as another value is refused
here, with a ValueError.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import ipaddress
import math
import pathlib
import re
import sys
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

Spelling = Callable[[Any], Any]

_EXACT: Final = decimal.Context(prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[])
_MAX_PLAIN_DIGITS: Final = 28
_ONE: Final = Decimal(1)
NAN_DECIMAL: Final = Decimal("NaN")
"""The one NaN among Decimals."""


# -- numbers -----------------------------------------------------------------------------------------------------------
def spell_int(value: Any) -> Any:
    """Whole numbers of every kind are ints."""
    if type(value) is int:
        return value
    if isinstance(value, int):
        return int.__int__(value)
    value = unwrapped(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2.0**64 else value
    if isinstance(value, Decimal):
        is_whole = value.is_finite() and value.adjusted() < 20 and value == value.to_integral_value()
        return int(value) if is_whole else value
    if isinstance(value, fractions.Fraction):
        return value.numerator if value.denominator == 1 else value
    if isinstance(value, complex) and value.imag == 0:
        return spell_int(value.real)
    return int.__int__(value) if isinstance(value, int) else value


def spell_float(value: Any) -> Any:
    """Numbers of every kind are floats; there is one NaN, and -0.0 is 0.0."""
    value = spell_float_as_it_is(value)
    if type(value) is not float:
        return value
    return value + 0.0 if value == value else math.nan


def spell_float_as_it_is(value: Any) -> Any:
    """Numbers of every kind are floats."""
    if type(value) is float:
        return value
    value = unwrapped(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, complex) and value.imag == 0:
        return value.real
    if isinstance(value, int | Decimal | fractions.Fraction):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return value
    return value


def spell_bool(value: Any) -> Any:
    """0 and 1 of every kind are False and True."""
    if type(value) is bool:
        return value
    number = spell_int(value)
    return bool(number) if type(number) is int and 0 <= number <= 1 else value


def spell_decimal(value: Any) -> Any:
    """Equal Decimals have equal digits: 1, not 1.00; 100, not 1E+2; 0, not -0; one NaN."""
    value = spell_decimal_as_it_is(value)
    if not isinstance(value, Decimal):
        return value
    if not value.is_finite():
        if value.is_snan():
            raise ValueError("a signalling NaN equals nothing, so it cannot be an argument")
        return NAN_DECIMAL if value.is_nan() else value
    if not value:
        return Decimal(0)
    shortest = value.normalize(_EXACT)
    # 100, not 1E+2: the body of the method sees the canonical value.
    if value.adjusted() < _MAX_PLAIN_DIGITS and shortest == shortest.to_integral_value():
        return shortest.quantize(_ONE, context=_EXACT)
    return shortest


def spell_decimal_as_it_is(value: Any) -> Any:
    """Ints are Decimals; digits stay."""
    if type(value) is Decimal:
        return value
    value = unwrapped(value)
    return Decimal(value) if isinstance(value, int | Decimal) else value


def _spell_complex(value: Any) -> Any:
    value = unwrapped(value)
    if isinstance(value, int | float | Decimal | fractions.Fraction):
        value = spell_float(value)
    if not isinstance(value, complex | float):
        return value
    return [spell_float(value.real), spell_float(value.imag)]


def _complex(value: Any) -> complex:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, int | float) for part in value):
        return complex(float(value[0]), float(value[1]))
    raise ValueError("Expected a complex number as [real, imaginary]")


def _spell_fraction(value: Any) -> Any:
    value = unwrapped(value)
    return str(fractions.Fraction(value)) if isinstance(value, int | fractions.Fraction) else value


_FRACTION: Final = re.compile(r"-?[0-9]{1,4000}(/[0-9]{1,4000})?")


def _fraction(value: Any) -> fractions.Fraction:
    if isinstance(value, int) and not isinstance(value, bool):
        return fractions.Fraction(value)
    if not isinstance(value, str) or not _FRACTION.fullmatch(value) or value.endswith("/0"):
        raise ValueError('Expected a fraction as "numerator/denominator"')
    return fractions.Fraction(value)


def unwrapped(value: Any) -> Any:
    """Return a plain number for a NumPy scalar; any other value as it is."""
    numpy = sys.modules.get("numpy")
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


# -- text and bytes ----------------------------------------------------------------------------------------------------
def spell_str(value: Any) -> Any:
    """Subclasses of str, such as members of a StrEnum, are text."""
    return str.__str__(value) if isinstance(value, str) and type(value) is not str else value


def spell_bytes(value: Any) -> Any:
    """Objects that hold bytes (bytearray, memoryview) are bytes."""
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) and type(value) is not bytes else value


# -- times -------------------------------------------------------------------------------------------------------------
def spell_datetime(value: Any) -> Any:
    """An instant is in UTC, whichever zone it was given in; a time without a zone has no `fold`."""
    if not isinstance(value, datetime.datetime):
        return value
    if value != value:  # pandas' NaT
        raise ValueError(f"Expected `datetime`, got `{type(value).__name__}`")
    if getattr(value, "nanosecond", 0):
        raise ValueError("a time with nanoseconds cannot travel: a datetime has microseconds")
    if value.utcoffset() is not None:
        value = value.astimezone(datetime.UTC)
        zone: datetime.tzinfo | None = datetime.UTC
    else:
        zone = None
    if type(value) is datetime.datetime and value.tzinfo is zone and not value.fold:
        return value
    return datetime.datetime(
        *(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond), zone
    )


def spell_date(value: Any) -> Any:
    """A date is a plain date; a datetime is not one."""
    if type(value) is datetime.date or not isinstance(value, datetime.date):
        return value
    if isinstance(value, datetime.datetime):
        raise ValueError("Expected `date`, got `datetime`")
    return datetime.date(value.year, value.month, value.day)


def spell_time(value: Any) -> Any:
    """A time of the day has a fixed offset of whole minutes or no zone, and no `fold`."""
    if not isinstance(value, datetime.time):
        return value
    offset = value.utcoffset()
    if offset is None and value.tzinfo is not None:
        raise ValueError(f"a time of the day has no fixed offset in the zone {value.tzinfo}: use a datetime")
    if offset is not None and offset % datetime.timedelta(minutes=1):
        raise ValueError("a time of the day has an offset in whole minutes")
    zone = None if offset is None else datetime.timezone(offset)
    return datetime.time(value.hour, value.minute, value.second, value.microsecond, zone)


def spell_timedelta(value: Any) -> Any:
    """A duration in microseconds."""
    if type(value) is datetime.timedelta or not isinstance(value, datetime.timedelta):
        return value
    if getattr(value, "nanoseconds", 0):
        raise ValueError("a duration with nanoseconds cannot travel: a timedelta has microseconds")
    return datetime.timedelta(value.days, value.seconds, value.microseconds)


# -- what is written as text -------------------------------------------------------------------------------------------
def _spell_path_of(kind: type[pathlib.PurePath]) -> Spelling:
    is_windows = isinstance(kind(), pathlib.PureWindowsPath)

    def spell(value: Any) -> Any:
        if not isinstance(value, pathlib.PurePath):
            return value
        if isinstance(value, pathlib.PureWindowsPath) is not is_windows:
            raise ValueError(f"a {type(value).__name__} would arrive as a {type(kind()).__name__}")
        return str(value)

    return spell


def _spell_text_of(*kinds: type) -> Spelling:
    return lambda value: str(value) if isinstance(value, kinds) else value


def _spell_zone(value: Any) -> Any:
    if not isinstance(value, zoneinfo.ZoneInfo):
        return value
    if value.key is None:
        raise ValueError("a time zone that was read from a file has no name to travel by")
    return value.key


def _from_text(kind: Callable[[str], Any]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        return kind(value)

    return convert


def _zone(key: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"no time zone {key!r}") from error


_ADDRESSES: Final = (
    *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network),
    *(ipaddress.IPv6Network, ipaddress.IPv4Interface, ipaddress.IPv6Interface),
)
_PATHS: Final = (pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path, type(pathlib.Path()))

FOREIGN: Final = MappingProxyType[type, tuple[Spelling, Callable[[Any], Any]]](
    {
        complex: (_spell_complex, _complex),
        fractions.Fraction: (_spell_fraction, _fraction),
        zoneinfo.ZoneInfo: (_spell_zone, _from_text(_zone)),
        **{kind: (_spell_path_of(kind), _from_text(kind)) for kind in _PATHS},
        **{kind: (_spell_text_of(kind), _from_text(kind)) for kind in _ADDRESSES},
    }
)
"""Types that msgspec does not know: how a value is spelled, and how it is made again from what is decoded."""

_SHARED: Final[dict[type, Spelling]] = {
    int: spell_int,
    bool: spell_bool,
    str: spell_str,
    **dict.fromkeys((bytes, bytearray, memoryview), spell_bytes),
    datetime.datetime: spell_datetime,
    datetime.date: spell_date,
    datetime.time: spell_time,
    datetime.timedelta: spell_timedelta,
    uuid.UUID: lambda value: value,
    type(None): lambda value: value,
    **{kind: both[0] for kind, both in FOREIGN.items()},
}
KEY_SCALARS: Final = MappingProxyType(_SHARED | {float: spell_float, Decimal: spell_decimal})
"""Spellings of plain values in keys: equal values have one."""

EXACT_SCALARS: Final = MappingProxyType(_SHARED | {float: spell_float_as_it_is, Decimal: spell_decimal_as_it_is})
"""Spellings of plain values that travel exactly as they are."""
