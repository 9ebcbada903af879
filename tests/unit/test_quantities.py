"""Times, counts and amounts: what is one is given back as a plain number, whatever else is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_cluster.errors import InvalidArgument
from fusion_cluster.quantities import (
    LONGEST_S,
    as_count,
    as_delay,
    as_finite_delay,
    as_finite_timeout,
    as_number,
    as_timeout,
)

TIMES = (as_timeout, as_finite_timeout, as_delay, as_finite_delay)
FINITE = (as_finite_timeout, as_finite_delay)
UNREPRESENTABLE = type("Unrepresentable", (), {"__repr__": lambda self: 1 / 0})()

NO_NUMBERS = (
    math.nan,
    Decimal("NaN"),
    Decimal("sNaN"),
    -1,
    -math.inf,
    -(10**400),
    "5",
    b"5",
    "inf",
    True,
    False,
    np.True_,
    timedelta(seconds=5),
    [5],
    1j,
    object(),
    UNREPRESENTABLE,
)


@pytest.mark.parametrize("check", TIMES)
@pytest.mark.parametrize(
    "value", [5, 5.0, Decimal(5), Fraction(5), np.float32(5), np.float64(5), np.int64(5)], ids=repr
)
def test_a_number_of_any_kind_is_a_time(check: Callable[[str, object], float], value: object) -> None:
    seconds = check("wait_s", value)
    assert seconds == 5.0
    assert type(seconds) is float


@pytest.mark.parametrize("check", [*TIMES, as_number, as_count])
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_anything_else_is_refused_by_name(check: Callable[[str, object], float], value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^wait_s must be .*, not .+") as refused:
        check("wait_s", value)
    assert refused.value.field == "wait_s"
    assert len(str(refused.value)) < 250


def test_the_message_shows_the_value() -> None:
    with pytest.raises(InvalidArgument, match=r"^wait_s must be a number of seconds, 0 or more, not '5'$"):
        as_delay("wait_s", "5")
    with pytest.raises(InvalidArgument, match=r"timedelta\(seconds=5\): write \.total_seconds\(\)$"):
        as_delay("wait_s", timedelta(seconds=5))
    with pytest.raises(InvalidArgument, match=r"not a number of about 400 digits$"):
        as_finite_delay("wait_s", 10**400)


@pytest.mark.parametrize("value", [math.inf, 1e12, 10**400, Decimal("1e400"), Decimal("Infinity"), 2 * LONGEST_S])
def test_a_time_that_no_clock_can_count_is_infinite_or_refused(value: object) -> None:
    assert as_timeout("wait_s", value) == as_delay("wait_s", value) == math.inf
    for check in FINITE:
        with pytest.raises(InvalidArgument, match="at most a hundred years"):
            check("wait_s", value)


def test_zero_is_a_delay_and_not_a_timeout() -> None:
    assert as_delay("wait_s", 0) == as_finite_delay("wait_s", 0) == 0.0
    for check in (as_timeout, as_finite_timeout):
        with pytest.raises(InvalidArgument, match="above 0"):
            check("wait_s", 0)


def test_none_is_no_limit_where_there_need_be_none() -> None:
    assert as_timeout("wait_s", None) == math.inf
    for check in (as_finite_timeout, as_delay, as_finite_delay):
        with pytest.raises(InvalidArgument, match="not None"):
            check("wait_s", None)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)], ids=repr)
def test_a_whole_number_is_a_count(value: object) -> None:
    count = as_count("shards", value)
    assert count == 3
    assert type(count) is int


@pytest.mark.parametrize("value", [0, 3.0, 10**400, 2**62, math.inf, Decimal(3), None], ids=lambda v: type(v).__name__)
def test_what_is_not_whole_or_out_of_range_is_not_a_count(value: object) -> None:
    with pytest.raises(
        InvalidArgument, match=r"^shards must be a whole number, (1 or more|from 1 to 4611686018427387903), not "
    ) as refused:
        as_count("shards", value)
    assert refused.value.field == "shards"


def test_a_count_may_have_a_range() -> None:
    assert as_count("port", 0, least=0, most=65_535) == 0
    with pytest.raises(InvalidArgument, match=r"^port must be a whole number, from 0 to 65535, not 70000$"):
        as_count("port", 70_000, least=0, most=65_535)


ANYTHING = st.one_of(
    st.floats(), st.integers(), st.decimals(allow_nan=None), st.text(), st.none(), st.booleans(), st.timedeltas()
)


@settings(max_examples=100)
@given(value=ANYTHING)
def test_whatever_comes_in_is_a_usable_number_or_refused(value: object) -> None:
    for check in (*TIMES, as_number, as_count):
        try:
            number = check("wait_s", value)
        except InvalidArgument:
            continue
        assert number >= 0
        assert number <= LONGEST_S or number == math.inf or check not in TIMES
