"""Deadlines travel: what a call calls has no more time than the call, on whichever shard; nothing runs for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from fusion_cluster import App, ComputedState, ComputeService, compute_method
from fusion_cluster.errors import CommandOutcomeUnknown, DeadlineExceeded
from fusion_cluster.runtime.deadline import current_deadline_s, deadline_at
from fusion_cluster.testing import LocalCluster, run_in_virtual_time
from tests.apps.relays import Relays, on_shard, relays

TICK_S = 0.4
"""How much later than its deadline a call may end."""


async def within(timeout_s: float, call: Awaitable[int]) -> int:
    """Await a call as a gateway does: with a deadline that travels, and is kept here by cancelling."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_s
    with deadline_at(until_s):
        async with asyncio.timeout_at(until_s):
            return await call


def chain(cluster: LocalCluster) -> list[int]:
    """Numbers on three shards, each of which uses the next."""
    first = on_shard(cluster, 0)
    second = on_shard(cluster, 1, beyond=first)
    return [first, second, on_shard(cluster, 2, beyond=second)]


def test_a_chain_over_three_shards_ends_when_its_callers_time_is_up() -> None:
    async def main() -> None:
        async with relays() as (cluster, plan):
            first, second, third = chain(cluster)
            plan.uses.update({first: [second], second: [third]})
            plan.works_s[third] = 60.0
            with pytest.raises(TimeoutError):
                await within(1.0, cluster.service(Relays).get(first))
            await asyncio.sleep(TICK_S)
            assert plan.begun == {first: 1, second: 1, third: 1}
            assert not +plan.running

    run_in_virtual_time(main())


def test_work_ends_by_itself_when_its_caller_cannot_say_any_more_that_it_has_left() -> None:
    async def main() -> None:
        async with relays() as (cluster, plan):
            first, second, third = chain(cluster)
            plan.uses.update({first: [second], second: [third]})
            plan.works_s[third] = 60.0
            reading = asyncio.ensure_future(within(1.0, cluster.service(Relays).get(first)))
            await asyncio.sleep(0.5)
            for shard in cluster.shards.values():
                shard.serving.on_cancelled = lambda *_: None  # type: ignore[method-assign]
            with pytest.raises(TimeoutError):
                await reading
            await asyncio.sleep(TICK_S)
            assert not +plan.running

    run_in_virtual_time(main())


def test_a_read_without_a_deadline_has_that_of_its_host() -> None:
    async def main() -> None:
        async with relays(call_timeout_s=2.0) as (cluster, plan):
            first, second, third = chain(cluster)
            plan.uses.update({first: [second], second: [third]})
            plan.works_s[third] = 60.0
            began_s = asyncio.get_running_loop().time()
            with pytest.raises(DeadlineExceeded):
                await cluster.service(Relays).get(first)
            assert asyncio.get_running_loop().time() - began_s <= 2.0 + TICK_S
            await asyncio.sleep(TICK_S)
            assert not +plan.running

    run_in_virtual_time(main())


def test_a_shared_computation_lives_as_long_as_the_latest_deadline_of_those_who_wait() -> None:
    async def main() -> None:
        async with relays() as (cluster, plan):
            first, second, third = chain(cluster)
            plan.uses.update({first: [second], second: [third]})
            plan.works_s[third] = 3.0
            driver, other = cluster.service(Relays), cluster.new_host("another driver")
            impatient = asyncio.ensure_future(within(1.0, driver.get(first)))
            await asyncio.sleep(0.5)
            patient = asyncio.ensure_future(within(5.0, driver.get(first)))
            elsewhere = asyncio.ensure_future(within(5.0, other.service(Relays).get(second)))
            with pytest.raises(TimeoutError):
                await impatient
            assert await patient == 3
            assert await elsewhere == 2
            assert plan.begun == {first: 1, second: 1, third: 1}

    run_in_virtual_time(main())


def test_a_late_joiner_in_the_same_process_renews_what_was_asked_of_other_shards() -> None:
    async def main() -> None:
        async with relays() as (cluster, plan):
            first, second, third = chain(cluster)
            plan.uses.update({first: [second], second: [third]})
            plan.works_s[third] = 12.0
            driver = cluster.service(Relays)
            calls = []
            for _ in range(10):
                calls.append(asyncio.ensure_future(within(3.0, driver.get(first))))
                await asyncio.sleep(1.0)
            patient = asyncio.ensure_future(within(6.0, driver.get(first)))
            assert plan.begun == {first: 1, second: 1, third: 1}
            assert await patient == 3
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [TimeoutError] * 10
            assert plan.begun == {first: 1, second: 1, third: 1}

    run_in_virtual_time(main())


def test_a_command_is_cancelled_when_its_callers_time_is_up() -> None:
    async def main() -> None:
        async with relays() as (cluster, plan):
            first, second, third = chain(cluster)
            plan.uses.update({first: [second], second: [third]})
            plan.works_s[third] = 60.0
            until_s = asyncio.get_running_loop().time() + 1.0
            with deadline_at(until_s), pytest.raises(DeadlineExceeded, match="nothing is committed"):
                await cluster.service(Relays).read_and_run(first)
            assert asyncio.get_running_loop().time() <= until_s + TICK_S
            await asyncio.sleep(TICK_S)
            assert not +plan.running

    run_in_virtual_time(main())


def test_a_command_that_is_not_answered_in_time_is_in_doubt() -> None:
    async def main() -> None:
        async with relays() as (cluster, plan):
            first = on_shard(cluster, 0)
            plan.works_s[first] = 0.5
            service = cluster.service(Relays)
            until_s = asyncio.get_running_loop().time() + 1.0
            with deadline_at(until_s):
                running = asyncio.ensure_future(service.read_and_run(first))
            await asyncio.sleep(0.2)
            cluster.hold_links(0)
            with pytest.raises(CommandOutcomeUnknown):
                await running
            assert asyncio.get_running_loop().time() <= until_s + TICK_S

    run_in_virtual_time(main())


def test_a_state_does_not_have_the_deadline_of_whoever_has_started_it() -> None:
    async def main() -> None:
        async with relays() as (cluster, plan):
            first = on_shard(cluster, 0)
            plan.works_s[first] = 2.0
            state = ComputedState(lambda: cluster.service(Relays).get(first))
            with deadline_at(asyncio.get_running_loop().time() + 1.0):
                state.start()
                await asyncio.sleep(0.5)
            assert (await state.when(lambda value: value == 1)).error is None
            assert state.snapshot.error_count == 0
            await state.close()

    run_in_virtual_time(main())


def test_a_task_that_a_block_has_left_behind_has_no_deadline() -> None:
    async def main() -> None:
        with deadline_at(1.0):
            assert current_deadline_s() == 1.0
            with deadline_at(5.0):
                assert current_deadline_s() == 1.0
            with deadline_at(0.5):
                assert current_deadline_s() == 0.5

            async def later() -> float:
                await asyncio.sleep(0.1)
                return current_deadline_s()

            left_behind = asyncio.ensure_future(later())
        assert current_deadline_s() == float("inf")
        assert await left_behind == float("inf")

    run_in_virtual_time(main())


class Bodies(ComputeService):
    @compute_method
    async def deadline_s(self, number: int) -> float:
        """Until when the body may go on, as far as it knows."""
        return current_deadline_s()


async def test_a_body_does_not_have_the_deadline_of_its_first_caller_for_others_may_have_more_time() -> None:
    async with App("bodies", [Bodies]).local() as host:
        with deadline_at(asyncio.get_running_loop().time() + 60):
            assert await host.service(Bodies).deadline_s(1) == float("inf")
            assert current_deadline_s() < float("inf")
