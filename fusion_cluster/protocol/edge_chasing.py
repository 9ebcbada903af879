"""Edge chasing: finds computations of several processes that wait for each other (Chandy, Misra and Haas, 1983).

A *wait* is one read that feeds a replica, from the call until its answer; its number is unique in the cluster. A probe
travels along waits, from the caller's end to the owner's end, and on along the waits on which the requested computation
depends by then. `on_arrival` decides where it goes; the driver supplies what the process knows.

A probe that meets a wait of its own path has found a cycle, but perhaps a phantom: a wait at its beginning may have
ended while it travelled. So it goes around once more. Invariant: a wait is broken only after every wait of the cycle
was seen before *and* after the moment at which the path closed. A wait never begins a second time, so all of them
existed at that moment, and the cycle was a true one.

All probes that find a cycle refuse the same wait, the one for the key of the lowest rank, as within one process
(`graph.computing.rank`): the second probe finds it gone. The process that has the wait refuses it: the wait ends with
`CircularDependencyError`, and nobody else who waits for that key gets the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

MAX_HOPS: Final = 4096
"""How many waits the path of a probe may have. A longer cycle is not found: its reads end at their deadlines."""

MAX_NAMED_HOPS: Final = 64
"""How many waits of a path carry the keys on their way."""

MAX_KEYS: Final = 12
"""How many keys a hop names; keys in the middle are left out."""

MAX_KEY_LENGTH: Final = 200
"""How many characters of a key are named."""

MAX_GENERATIONS: Final = 8
"""How many computations of one key may wait for each other, one after another, before that counts as a cycle.

A computation that is out of date is not joined, so a cycle whose keys change all the time is a chain without end.
"""

SEPARATOR: Final = " → "

NUMBER_MARK: Final = "\0"
"""Between the text of a key and its number."""


class Hop(Struct, frozen=True):
    """One wait on the way of a probe.

    Attributes:
        wait: the number of the wait.
        keys: the keys of the computations, from the one at which the probe arrived up to the one before the wait. Empty
            for the first hop until the path closes, and in a path that is too long. The first of them is `numbered`.
        lowest_rank: that of all keys that are waited for there: by one of the computations after the first, or by the
            wait itself. 0 for the first hop until the path closes.
    """

    wait: int
    keys: tuple[str, ...] = ()
    lowest_rank: int = 0


class Probe(Struct, frozen=True):
    """A question on its way: does the computation that I wait for wait for me?

    Attributes:
        number: tells apart the probes that one wait has sent.
        hops: the way so far; the last one is the wait that it is travelling along. In a closed path: the cycle, from
            that wait on.
        confirmed: how many waits it has been sent along since its path closed; 0: the path is not closed yet.
    """

    number: int
    hops: tuple[Hop, ...]
    confirmed: int = 0

    @property
    def travels_along(self) -> int:
        """The number of the wait that it travels along."""
        return self.hops[0 if self.confirmed else -1].wait


class Forward(Struct, frozen=True):
    """Send the probe along a wait, `probe.travels_along`."""

    probe: Probe


class Break(Struct, frozen=True):
    """Refuse a wait of this process: one on the way from the requested computation to a wait for another process.

    Attributes:
        wait: the wait for another process at the end of the way.
        rank: that of the key whose wait is refused; None: the one that `wait` waits for.
        beyond: the keys of the cycle from the other process on, back to the requested computation, which is not among
            them.
    """

    wait: int
    rank: int | None
    beyond: tuple[str, ...]


Decision: TypeAlias = Forward | Break


class Way(Struct, frozen=True):
    """The way within this process from the requested computation to a wait for another process.

    Attributes:
        keys: on the way, beginning with the requested computation, without the key that the wait is for.
        lowest_rank: of the keys that are waited for on the way: all but the first, and the one that the wait is for.
    """

    keys: Sequence[str]
    lowest_rank: int = 0


Reach: TypeAlias = Mapping[int, Way]
"""Waits for other processes -> the ways there."""


def probe_from(wait: int, number: int) -> Probe:
    """Return a new probe, to be sent along the wait that may have closed a cycle."""
    return Probe(number, (Hop(wait),))


def on_arrival(probe: Probe, reach: Reach) -> list[Decision]:
    """Decide where a probe goes from here.

    Args:
        probe: as it came.
        reach: the waits for other processes on which the computation depends, directly or through others of this
            process.
    """
    return _confirm(probe, reach) if probe.confirmed else _chase(probe, reach)


def numbered(text: str, number: int) -> str:
    """Return a key that is told apart from all others by its number: two keys may have the same text."""
    return f"{text}{NUMBER_MARK}{number:x}"


def named(keys: Sequence[str]) -> tuple[str, ...]:
    """Return keys as a hop names them: each key of bounded length, without the middle of a long row."""
    if len(keys) > MAX_KEYS:
        half = MAX_KEYS // 2
        keys = [*keys[:half], f"… {len(keys) - 2 * half} more …", *keys[-half:]]
    return tuple(map(_cut, keys))


def _cut(key: str) -> str:
    text, mark, number = key.partition(NUMBER_MARK)
    return key if len(text) <= MAX_KEY_LENGTH else f"{text[: MAX_KEY_LENGTH - 1]}…{mark}{number}"


def in_words(keys: Sequence[str], beyond: Sequence[str], index: int) -> str:
    """Return a cycle as text, from a computation and back to it.

    Args:
        keys: on the way in this process.
        beyond: those on the rest of the cycle (see `Break`).
        index: the place of the computation among `keys`.
    """
    cycle = (*keys[index:], *beyond, *keys[: index + 1])
    return SEPARATOR.join(key.partition(NUMBER_MARK)[0] for key in cycle)


def _chase(probe: Probe, reach: Reach) -> list[Decision]:
    hops = probe.hops
    at = {hop.wait: index for index, hop in enumerate(hops)}
    decisions: list[Decision] = []
    for wait, way in reach.items():
        index = at.get(wait)
        if index is not None:
            # Here it closes. The keys that lead to this wait within the cycle are known only now.
            cycle = (Hop(wait, named(way.keys), way.lowest_rank), *hops[index + 1 :])
            decisions.append(Forward(Probe(probe.number, cycle, confirmed=1)))
        elif len(hops) < MAX_HOPS:
            hop = Hop(wait, named(way.keys) if len(hops) < MAX_NAMED_HOPS else (), way.lowest_rank)
            if _is_endless(hops, hop):
                return [Break(wait, None, tuple(key for step in hops for key in step.keys))]
            decisions.append(Forward(Probe(probe.number, (*hops, hop))))
    return decisions


def _is_endless(hops: Sequence[Hop], hop: Hop) -> bool:
    if len(hops) < MAX_GENERATIONS or not hop.keys:
        return False
    key = hop.keys[0]
    return sum(1 for step in hops if step.keys and step.keys[0] == key) >= MAX_GENERATIONS


def _confirm(probe: Probe, reach: Reach) -> list[Decision]:
    cycle = probe.hops
    count = len(cycle)
    following = cycle[1 % count]
    way = reach.get(following.wait)
    if way is None or probe.confirmed > 2 * count:
        return []  # it is not a cycle any more
    if probe.confirmed >= count and following.wait == _refused(cycle):
        if way.lowest_rank != following.lowest_rank:
            return []  # another way has taken its place: a new probe finds that
        beyond = [key for hop in (*cycle[2:], cycle[0])[: count - 1] for key in (hop.keys or ("…",))]
        return [Break(following.wait, way.lowest_rank, tuple(beyond))]
    return [Forward(Probe(probe.number, (*cycle[1:], cycle[0]), probe.confirmed + 1))]


def _refused(cycle: Sequence[Hop]) -> int:
    """Return the wait at the end of the way on which the key of the lowest rank is waited for."""
    return min(cycle, key=lambda hop: (hop.lowest_rank, hop.wait)).wait
