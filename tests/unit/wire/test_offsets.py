"""Offsets with seconds: an instant is the same after the way through JSON, whatever it is in."""

from __future__ import annotations

import datetime
import zoneinfo
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from fusion_cluster.errors import UsageError
from fusion_cluster.wire.codec import value_codec

ODD = datetime.timezone(datetime.timedelta(hours=1, seconds=30))
NOON = datetime.datetime(2024, 1, 1, 12, tzinfo=ODD)
LONG_AGO = datetime.datetime(1880, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Amsterdam"))
WHOLE = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30)))


@dataclass(frozen=True)
class Meeting:
    at: datetime.datetime
    title: str = "12:00:00+01:00"


class Visit(pydantic.BaseModel):
    at: datetime.datetime
    until: datetime.datetime | None = None


@pytest.mark.parametrize("at", [NOON, LONG_AGO, WHOLE])
@pytest.mark.parametrize(
    ("hint", "make"),
    [
        (datetime.datetime, lambda at: at),
        (list[datetime.datetime], lambda at: [WHOLE, at]),
        (dict[str, Meeting | None], lambda at: {"a": Meeting(at), "b": None}),
        (dict[datetime.datetime, int], lambda at: {at: 1}),
        (Visit, lambda at: Visit(at=at, until=NOON)),
        (set[datetime.datetime], lambda at: {at}),
    ],
)
def test_an_instant_is_the_same_in_json(at: datetime.datetime, hint: Any, make: Any) -> None:
    codec, value = value_codec(hint), make(at)
    assert codec.decode_json(codec.encode_json(value)) == value


def test_whole_offsets_are_written_as_they_are() -> None:
    assert value_codec(datetime.datetime).encode_json(WHOLE) == '"2024-01-01T12:00:00-03:30"'
    assert value_codec(datetime.datetime).encode_json(NOON) == '"2024-01-01T10:59:30Z"'
    assert value_codec(Any).encode_json({"at": NOON}) == '{"at":"2024-01-01T10:59:30Z"}'


def test_a_time_of_the_day_with_an_odd_offset_is_refused() -> None:
    with pytest.raises(UsageError, match="offset in whole minutes"):
        value_codec(datetime.time).encode_json(NOON.timetz())
