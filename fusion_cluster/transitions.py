"""Transition tables: which events each state allows, and which state follows, as data.

A table is written state first, because that is how people read it: `{State: {Event: NewState}}`. The code that runs it
looks up one event at a time, so each table is turned once, at import. An event that a state does not name is not
allowed in that state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from fusion_cluster.errors import FusionError

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


def turned(table: Mapping[S, Mapping[E, S]]) -> dict[E, dict[S, S]]:
    """Return a table event first."""
    by_event: dict[E, dict[S, S]] = {}
    for state, row in table.items():
        for event, following in row.items():
            by_event.setdefault(event, {})[state] = following
    return by_event


def next_state(table: Mapping[S, Mapping[E, S]], event: E, state: S, error: type[FusionError]) -> S:
    """Return the state that an event leads to.

    Raises:
        FusionError: of the given class; the table does not allow the event in this state.
    """
    following = table[state].get(event)
    if following is None:
        raise error(f"{event.name} is not allowed in state {type(state).__name__}.{state.name}")
    return following
