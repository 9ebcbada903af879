"""Claims: no two hosts deliver one event, or two of one key, at the same time; a claim that is not renewed ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

import pytest

from fusion_cluster import Database
from fusion_cluster.catalogue.slots import SLOT_COUNT
from fusion_cluster.database.event_claims import EventClaims
from fusion_cluster.database.event_look import WINDOW
from fusion_cluster.database.event_store import EventState, StoredEvent
from fusion_cluster.events.claims import ClaimedEvent, Verdict
from fusion_cluster.runtime import Clock, Runtime
from tests.unit.events.orders import OrderPlaced, ProductChanged, Unheard

pytest_plugins = ["tests.databases"]

NOW = 1_700_000_000.0


class Outbox:
    """An outbox with hosts that look at it, at a time that the test sets."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOW
        self.names = itertools.count(1)

    def host(self, types: Iterable[str] = ("OrderPlaced", "ProductChanged"), ahead_s: float = 0.0) -> EventClaims:
        """A host whose clock is ahead."""
        name = f"host {next(self.names)}"
        return EventClaims(self.database, me=name, types=list(types), clock=lambda: self.now + ahead_s, claim_s=10.0)

    async def emit(self, *events: object, delay_s: float = 0.0) -> None:
        async with self.database.operation() as operation:
            for event in events:
                operation.emit(event, delay_s=delay_s)

    async def stored(self) -> dict[int, StoredEvent]:
        """By their numbers."""
        return {one.event["number"]: one for one in await self.database.events.list()}


@pytest.fixture
async def outbox(database: Database) -> Outbox:
    await database.prepare()
    outbox = Outbox(database)
    database.live_by(Runtime(Clock(wall=lambda: outbox.now)))
    return outbox


def unjudged(event: ClaimedEvent) -> Verdict:
    raise AssertionError(f"{event} was abandoned")


def put_off(event: ClaimedEvent) -> Verdict:
    return Verdict(event.attempts + 1, NOW + 1000.0, False, event.remaining, "abandoned")


async def claim(claims: EventClaims, limit: int = 10, owned: bytes | None = None) -> list[ClaimedEvent]:
    claimed = await claims.claim(limit, owned=owned, horizon_s=1.0, judge=unjudged)
    return claimed.events


def numbers(events: Iterable[ClaimedEvent]) -> list[int]:
    return [event.payload[-1] for event in events]  # small numbers are one byte of msgpack


async def test_the_first_event_of_each_key_is_claimed_once(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1), OrderPlaced(1, 2), OrderPlaced(2, 3), ProductChanged(1, 4))
    mine, other = outbox.host(), outbox.host()
    assert numbers(await claim(mine)) == [1, 3, 4]
    assert await claim(other) == []
    assert await claim(mine) == []


async def test_hosts_that_look_at_the_same_time_share_the_events(outbox: Outbox) -> None:
    await outbox.emit(*(OrderPlaced(number, number) for number in range(40)))
    claimed = await asyncio.gather(*(claim(outbox.host(), limit=40) for _ in range(6)))
    assert sorted(number for events in claimed for number in numbers(events)) == list(range(40))


async def test_hosts_do_not_agree_which_event_of_a_key_is_first_and_never_hold_two_of_it(outbox: Outbox) -> None:
    """For the one whose clock is ahead, it is the delayed one."""
    keys = range(30)
    await outbox.emit(*(OrderPlaced(key, 1) for key in keys), delay_s=2)
    await outbox.emit(*(OrderPlaced(key, 2) for key in keys))
    hosts = [outbox.host(ahead_s=ahead_s) for ahead_s in (0.0, 5.0, 0.0, 5.0)]
    held: list[bytes] = []
    for _ in range(6):
        claimed = await asyncio.gather(*(claim(host, limit=10) for host in hosts))
        held += [event.key for events in claimed for event in events]
    assert sorted(held) == sorted(set(held))
    assert len(held) == len(keys)


async def test_the_next_of_a_key_is_claimed_with_the_end_of_the_one_before(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1), OrderPlaced(1, 2), OrderPlaced(1, 3))
    mine, other = outbox.host(), outbox.host()
    (first,) = await claim(mine)
    second = await mine.succeeded(first, wants_next=True)
    assert second is not None
    assert numbers([second]) == [2]
    assert await claim(other) == []
    assert await mine.succeeded(second, wants_next=False) is None
    assert numbers(await claim(other)) == [3]
    assert list(await outbox.stored()) == [3]


async def test_what_has_failed_is_due_later_and_holds_up_its_key_until_then(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1), OrderPlaced(1, 2))
    mine = outbox.host()
    (first,) = await claim(mine)
    await mine.failed(first, Verdict(1, NOW + 5, False, ("Ledger.on_order",), "no"))
    stored = (await outbox.stored())[1]
    assert (stored.attempts, stored.remaining, stored.error, stored.is_claimed) == (
        1,
        ("Ledger.on_order",),
        "no",
        False,
    )
    assert await claim(mine) == []
    outbox.now += 5
    (again,) = await claim(mine)
    assert (again.attempts, again.remaining) == (1, ("Ledger.on_order",))
    await mine.failed(again, Verdict(2, outbox.now, True, None, "no"))
    assert (await outbox.stored())[1].state is EventState.DEAD
    assert numbers(await claim(mine)) == [2]


async def test_a_look_tells_when_the_next_event_is_due_if_that_is_soon(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1), delay_s=0.25)
    await outbox.emit(OrderPlaced(2, 2), delay_s=100)
    seen = await outbox.host().claim(10, owned=None, horizon_s=1.0, judge=unjudged)
    assert (seen.events, seen.next_due_at, seen.is_more) == ([], NOW + 0.25, False)
    outbox.now += 0.25
    seen = await outbox.host().claim(1, owned=None, horizon_s=1.0, judge=unjudged)
    assert (numbers(seen.events), seen.is_more) == ([1], True)


async def test_a_delayed_event_goes_first_when_it_is_due_but_not_beside_a_later_one_that_is_under_way(
    outbox: Outbox,
) -> None:
    await outbox.emit(OrderPlaced(1, 1), delay_s=5)
    await outbox.emit(OrderPlaced(1, 2), OrderPlaced(1, 3))
    mine, other = outbox.host(), outbox.host()
    (second,) = await claim(mine)
    assert numbers([second]) == [2]
    outbox.now += 5
    assert await claim(other) == []
    first = await mine.succeeded(second, wants_next=True)
    assert first is not None
    assert numbers([first]) == [1]


async def test_an_event_that_must_not_go_beside_another_of_its_key_keeps_no_other_key_waiting(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1), delay_s=5)
    await outbox.emit(OrderPlaced(1, 2))
    mine = outbox.host()
    await claim(mine)
    outbox.now += 6
    await outbox.emit(OrderPlaced(2, 3))
    assert numbers(await claim(mine, limit=1)) == [3]


async def test_events_that_wait_for_others_of_their_key_hide_nobody_however_many_they_are(outbox: Outbox) -> None:
    mine = outbox.host()
    await outbox.emit(*(OrderPlaced(key, 1) for key in range(3)))
    for first in await claim(mine):
        await mine.failed(first, Verdict(1, NOW + 100, False, None, "no"))
    await outbox.emit(*(OrderPlaced(number % 3, 2) for number in range(2 * WINDOW)))
    await outbox.emit(OrderPlaced(9, 3))
    (found,) = await claim(mine, limit=2)
    assert numbers([found]) == [3]
    await mine.succeeded(found, wants_next=True)
    outbox.now += 100
    assert numbers(await claim(mine, limit=10)) == [1, 1, 1]


async def test_events_of_classes_that_are_not_handled_here_are_left_alone_and_hold_up_nobody(outbox: Outbox) -> None:
    await outbox.emit(Unheard(1), OrderPlaced(1, 2))
    mine = outbox.host()
    events = await claim(mine)
    assert numbers(events) == [2]
    assert await claim(outbox.host(["Unheard"])) == [], "one of a key at a time, whoever handles it"
    await mine.release(events)
    assert len(await claim(outbox.host(["Unheard"]))) == 1


async def test_only_events_of_slots_that_are_owned_are_claimed(outbox: Outbox) -> None:
    await outbox.emit(*(OrderPlaced(number, number) for number in range(30)))
    left = bytes(slot < SLOT_COUNT // 2 for slot in range(SLOT_COUNT))
    right = bytes(slot >= SLOT_COUNT // 2 for slot in range(SLOT_COUNT))
    ours = numbers(await claim(outbox.host(), limit=100, owned=left))
    theirs = numbers(await claim(outbox.host(), limit=100, owned=right))
    assert ours
    assert theirs
    assert sorted(ours + theirs) == list(range(30))
    assert await claim(outbox.host(), owned=bytes(SLOT_COUNT)) == []


# -- claims that end ---------------------------------------------------------------------------------------------------
async def test_a_claim_that_is_renewed_holds(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1))
    mine, other = outbox.host(), outbox.host()
    events = await claim(mine)
    for _ in range(5):
        outbox.now += 9
        assert await mine.renew(events) == {events[0].position}
        assert await claim(other) == []


async def test_what_is_given_back_is_claimed_by_another_as_if_nothing_had_been(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1))
    mine, other = outbox.host(), outbox.host()
    await mine.release(await claim(mine))
    (event,) = await claim(other)
    assert event.attempts == 0


async def test_what_a_host_has_abandoned_has_failed_once_more(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1), OrderPlaced(1, 2))
    mine, other = outbox.host(), outbox.host()
    await claim(mine)
    outbox.now += 10
    seen = await other.claim(10, owned=None, horizon_s=1.0, judge=put_off)
    assert seen.events == []
    stored = (await outbox.stored())[1]
    assert (stored.attempts, stored.error, stored.is_claimed) == (1, "abandoned", False)
    assert await claim(other) == [], "the second waits for the first"


async def test_a_host_that_has_lost_its_claim_learns_of_it_and_does_not_overrule_the_other(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1))
    mine, other = outbox.host(), outbox.host()
    events = await claim(mine)
    outbox.now += 10
    await other.claim(10, owned=None, horizon_s=1.0, judge=lambda event: Verdict(1, outbox.now, False, None, "lost"))
    (theirs,) = await claim(other)
    assert await mine.renew(events) == set()
    await mine.failed(events[0], Verdict(7, NOW, True, None, "mine"))
    await mine.release(events)
    stored = (await outbox.stored())[1]
    assert (stored.attempts, stored.error, stored.is_claimed) == (1, "lost", True)
    assert await mine.succeeded(events[0], wants_next=True) is None, "what is done is done"
    assert await outbox.stored() == {}
    assert await other.succeeded(theirs, wants_next=True) is None


async def test_an_event_that_was_discarded_meanwhile_is_gone(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1))
    mine = outbox.host()
    (event,) = await claim(mine)
    await outbox.database.events.discard(event.event_id)
    assert await mine.renew([event]) == set()
    await mine.failed(event, Verdict(1, NOW, False, None, "no"))
    assert await outbox.stored() == {}


async def test_dead_letters_are_trimmed_when_they_are_old(outbox: Outbox) -> None:
    await outbox.emit(OrderPlaced(1, 1), OrderPlaced(2, 2), OrderPlaced(3, 3))
    mine = outbox.host()
    first, second, _ = await claim(mine)
    await mine.failed(first, Verdict(1, NOW, True, None, "no"))
    await mine.failed(second, Verdict(1, NOW + 10, True, None, "no"))
    assert await mine.trim(NOW) == 0
    assert await mine.trim(NOW + 10) == 1
    assert list(await outbox.stored()) == [2, 3]
