from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import pytest

from fusion_cluster.errors import LocalProtocolError, RemoteProtocolError
from fusion_cluster.protocol.states import (
    CALLER_CALL,
    CALLER_LINK,
    OWNER_CALL,
    OWNER_LINK,
    CallerCall,
    CallerCallEvent,
    CallerLink,
    CallerLinkEvent,
    OwnerCall,
    OwnerCallEvent,
    OwnerLink,
    OwnerLinkEvent,
)
from fusion_cluster.transitions import next_state, turned

Table = Mapping[IntEnum, Mapping[IntEnum, IntEnum]]

MACHINES = [
    pytest.param(CALLER_LINK, CallerLinkEvent, {CallerLink.DETACHED}, CallerLink.CLOSED, id="caller's link"),
    pytest.param(CALLER_CALL, CallerCallEvent, {CallerCall.WAITING}, CallerCall.ENDED, id="caller's call"),
    pytest.param(OWNER_LINK, OwnerLinkEvent, {OwnerLink.DETACHED}, OwnerLink.LOST, id="owner's link"),
    pytest.param(
        OWNER_CALL, OwnerCallEvent, {OwnerCall.RUNNING, OwnerCall.REQUESTED}, OwnerCall.FORGOTTEN, id="owner's call"
    ),
]


@pytest.mark.parametrize(("table", "events", "first", "last"), MACHINES)
def test_every_state_is_reached_and_the_end_is_reached_from_everywhere(
    table: Table, events: type[IntEnum], first: set[IntEnum], last: IntEnum
) -> None:
    assert set(table) == set(type(last))
    assert {event for row in table.values() for event in row} == set(events)
    steps = {(state, following) for state, row in table.items() for following in row.values()}
    reached = set(first)
    while more := {following for state, following in steps if state in reached} - reached:
        reached |= more
    assert reached == set(type(last))
    ending = {last}
    while more := {state for state, following in steps if following in ending} - ending:
        ending |= more
    assert ending == set(type(last))


@pytest.mark.parametrize(("table", "events", "first", "last"), MACHINES)
def test_nothing_comes_back_from_the_end(
    table: Table, events: type[IntEnum], first: set[IntEnum], last: IntEnum
) -> None:
    assert set(table[last].values()) <= {last}


def test_what_the_table_does_not_allow_is_an_error_of_whoever_did_it() -> None:
    with pytest.raises(RemoteProtocolError, match=r"WELCOME is not allowed in state CallerLink\.OPEN"):
        next_state(CALLER_LINK, CallerLinkEvent.WELCOME, CallerLink.OPEN, RemoteProtocolError)
    with pytest.raises(LocalProtocolError, match=r"RESULT is not allowed in state OwnerCall\.KEPT"):
        next_state(OWNER_CALL, OwnerCallEvent.RESULT, OwnerCall.KEPT, LocalProtocolError)


@pytest.mark.parametrize(("table", "events", "first", "last"), MACHINES)
def test_a_turned_table_says_the_same(table: Table, events: type[IntEnum], first: set[IntEnum], last: IntEnum) -> None:
    by_event = turned(table)
    assert {(state, event, row[event]) for state, row in table.items() for event in row} == {
        (state, event, following) for event, row in by_event.items() for state, following in row.items()
    }
