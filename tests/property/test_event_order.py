"""Events of random keys, handlers that fail at random, lost claims, several hosts: the order and the effects."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_cluster import Database
from fusion_cluster.database.event_claims import EventClaims
from fusion_cluster.database.event_store import EventState
from fusion_cluster.events.claims import ClaimedEvent
from tests.thorough import times
from tests.unit.events.orders import Event, Ledger, OrderPlaced, entries, orders_host, quick, until_delivered

pytest_plugins = ["tests.databases"]

MAX_ATTEMPTS = 3

numbers = itertools.count(1)
"""Each event of a run of the tests has another: examples share a database."""


@dataclass(frozen=True)
class Plan:
    """What is to happen to one event.

    Attributes:
        order_id: its key.
        failures: so many attempts fail.
        is_forgotten: after it has succeeded, that is not written: its host might as well have died.
        begins_operation: it is emitted by another operation than the one before.
    """

    order_id: int
    failures: int
    is_forgotten: bool
    begins_operation: bool

    @property
    def is_poison(self) -> bool:
        return self.failures >= MAX_ATTEMPTS


plans = st.builds(
    Plan,
    order_id=st.integers(0, 2),
    failures=st.sampled_from([0, 0, 0, 1, 2, MAX_ATTEMPTS]),
    is_forgotten=st.just(False),
    begins_operation=st.booleans(),
) | st.builds(
    Plan, order_id=st.integers(0, 2), failures=st.just(0), is_forgotten=st.just(True), begins_operation=st.booleans()
)


class Run:
    """One example: plans by the numbers of their events, and what has happened."""

    def __init__(self, chosen: Sequence[Plan]) -> None:
        self.plans: Mapping[int, Plan] = {next(numbers): plan for plan in chosen}
        self.attempts: defaultdict[int, list[int]] = defaultdict(list)
        self.running: set[int] = set()
        self.forgotten: set[int] = set()

    async def handle(self, event: Event) -> None:
        assert isinstance(event, OrderPlaced)
        assert event.order_id not in self.running, "two events of one key at the same time"
        self.running.add(event.order_id)
        try:
            attempts = self.attempts[event.order_id]
            attempts.append(event.number)
            await asyncio.sleep(0)
            if attempts.count(event.number) <= self.plans[event.number].failures:
                raise LookupError("as planned")
        finally:
            self.running.discard(event.order_id)

    def forgets(self, event: ClaimedEvent) -> bool:
        number = _number(event)
        if not self.plans[number].is_forgotten or number in self.forgotten:
            return False
        self.forgotten.add(number)
        return True

    def of_key(self, order_id: int) -> dict[int, Plan]:
        return {number: plan for number, plan in self.plans.items() if plan.order_id == order_id}


def _number(event: ClaimedEvent) -> int:
    return int(msgspec.msgpack.decode(event.payload)["number"])


async def deliver(url: str, run: Run, hosts: int, concurrency: int) -> None:
    databases = [Database(url) for _ in range(hosts)]
    options = quick(concurrency=concurrency, max_attempts=MAX_ATTEMPTS, claim_s=0.5, poll_period_s=0.03)
    async with AsyncExitStack() as stack:
        for database in databases:
            host = await stack.enter_async_context(orders_host(database, options))
            host.service(Ledger).before = run.handle
        await emit(databases[0], run)
        await until_delivered(databases[0], timeout_s=30)
        dead = {one.event["number"] for one in await databases[0].events.list(state=EventState.DEAD, limit=1_000)}
        assert dead == {number for number, plan in run.plans.items() if plan.is_poison}
        await databases[0].events.discard_dead()
        noted = [number for number in await entries(databases[0]) if number in run.plans]
        for order_id in range(3):
            expected = [number for number, plan in run.of_key(order_id).items() if not plan.is_poison]
            assert [number for number in noted if run.plans[number].order_id == order_id] == expected
            assert run.attempts[order_id] == [
                number
                for number, plan in run.of_key(order_id).items()
                for _ in range(min(plan.failures + 1, MAX_ATTEMPTS))
            ]


async def emit(database: Database, run: Run) -> None:
    waiting: list[OrderPlaced] = []
    for number, plan in [*run.plans.items(), (0, None)]:
        if plan is None or plan.begins_operation:
            async with database.operation() as operation:
                for event in waiting:
                    operation.emit(event)
            waiting = []
        if plan is not None:
            waiting.append(OrderPlaced(plan.order_id, number))


@given(chosen=st.lists(plans, max_size=12), hosts=st.integers(1, 3), concurrency=st.integers(1, 4))
@settings(max_examples=times(10, 20), deadline=None, suppress_health_check=list(HealthCheck))
def test_each_key_keeps_its_order_and_each_effect_is_made_once(
    database_url: str, chosen: list[Plan], hosts: int, concurrency: int
) -> None:
    run = Run(chosen)
    succeeded = EventClaims.succeeded

    async def forgetful(self: EventClaims, event: ClaimedEvent, *, wants_next: bool) -> Any:
        if run.forgets(event):
            raise ConnectionError("the database is gone")
        return await succeeded(self, event, wants_next=wants_next)

    with mock.patch.object(EventClaims, "succeeded", forgetful):
        asyncio.run(deliver(database_url, run, hosts, concurrency))
