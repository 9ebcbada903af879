"""Whom a barrier waits for although nobody can be asked: those whose read lease has not run out yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fusion_cluster.protocol.lease import ReadLease
from fusion_router.barrier import PATIENCE, Barriers, Confirmations

READ_LEASE_S = 0.1


class SilentSession:
    """A session whose subscriber was heard at the beginning and answers nothing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self.is_dropped = False

    @property
    def heard_s_ago(self) -> float:
        return self._loop.time() - self._heard_s

    def send_barrier(self, barrier: int) -> None:
        pass

    def drop(self) -> None:
        self.is_dropped = True


async def seconds_until_settled(barriers: Barriers, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Begin a barrier that invalidates nothing of its own, do something, and wait until it is settled."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with barriers.begin() as barrier:
        pass
    meanwhile()
    await barrier
    return loop.time() - began_s


async def test_a_restarted_process_waits_for_the_leases_of_its_predecessors_subscribers() -> None:
    barriers = Barriers(read_lease_s=READ_LEASE_S, succeeds=True)
    assert await seconds_until_settled(barriers) >= READ_LEASE_S
    assert await seconds_until_settled(barriers) < READ_LEASE_S


async def test_a_first_process_waits_for_nobody() -> None:
    assert await seconds_until_settled(Barriers(read_lease_s=READ_LEASE_S)) < READ_LEASE_S


async def test_a_session_that_ended_without_a_goodbye_is_waited_for_until_its_lease_is_over() -> None:
    barriers = Barriers(read_lease_s=READ_LEASE_S)
    subscriber = Confirmations(SilentSession())
    barriers.add(subscriber)
    subscriber.owe()
    assert await seconds_until_settled(barriers, lambda: barriers.remove(subscriber)) >= READ_LEASE_S


async def test_a_barrier_that_begins_after_such_an_end_waits_for_it_too() -> None:
    barriers = Barriers(read_lease_s=READ_LEASE_S)
    subscriber = Confirmations(SilentSession())
    barriers.add(subscriber)
    barriers.remove(subscriber)
    assert await seconds_until_settled(barriers) >= READ_LEASE_S


async def test_one_who_left_in_good_order_is_not_waited_for() -> None:
    barriers = Barriers(read_lease_s=READ_LEASE_S)
    subscriber = Confirmations(SilentSession())
    barriers.add(subscriber)
    subscriber.owe()
    took_s = await seconds_until_settled(barriers, lambda: barriers.remove(subscriber, has_left=True))
    assert took_s < READ_LEASE_S


async def test_a_subscriber_that_stays_silent_is_dropped_after_its_lease() -> None:
    barriers = Barriers(read_lease_s=READ_LEASE_S)
    session = SilentSession()
    subscriber = Confirmations(session)
    barriers.add(subscriber)
    subscriber.owe()
    assert await seconds_until_settled(barriers) >= READ_LEASE_S * PATIENCE
    assert session.is_dropped


def test_those_whom_a_silent_subscriber_told_of_itself_have_ceased_to_serve_when_it_is_given_up() -> None:
    """It fell silent just before its next ping, and had just answered theirs."""
    lease = ReadLease()
    lease.hello_sent(0.0)
    lease.begin(READ_LEASE_S)
    silent_at_s = lease.ping_due_s
    length_s = lease.until_s
    assert silent_at_s + length_s < READ_LEASE_S * PATIENCE
