"""The typed client over a real gRPC `Session` stream: replicas, commands, outages."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial

import pytest

from fusion_cluster.client import Client, connect
from fusion_cluster.errors import CommandOutcomeUnknown, InvalidArgument, ShardUnavailable, UsageError
from tests.apps.shelf import Item, Query, Scales, Shelf, Stock, app, fresh_stock
from tests.clients import Front, fronted
from tests.waiting import until


@pytest.fixture
def stock() -> Stock:
    return fresh_stock()


@pytest.fixture
async def front(stock: Stock) -> AsyncIterator[Front]:
    async with fronted(app) as front:
        yield front


@pytest.fixture
async def client(front: Front) -> AsyncIterator[Client]:
    async with connect(front.address, timeout_s=5.0) as client:
        yield client


async def test_values_come_with_their_types(client: Client, stock: Stock) -> None:
    shelf = client.service(Shelf)
    stock.counts["nut"] = 3
    assert await shelf.count("nut") == 3
    assert await shelf.item("nut") == Item("nut", 3, Decimal("1.50"))
    assert await shelf.item("bolt") is None
    assert await shelf.search(Query(("b", "a")), limit=1) == ["a"]
    await shelf.nothing()


async def test_services_have_the_services_they_name_and_plain_methods_run_here(client: Client, stock: Stock) -> None:
    scales = client.service(Scales)
    assert scales.shelf is client.service(Shelf)
    assert await scales.both("nut") == (0, 0.0)
    await client.service(Shelf).put("nut", 3)
    assert await scales.both("nut") == (3, 1.5)


async def test_a_repeated_read_costs_no_network(client: Client, front: Front, stock: Stock) -> None:
    shelf = client.service(Shelf)
    first = shelf.count("nut")
    await first
    hits = front.host.graph.stats.hits
    for _ in range(10):
        again = shelf.count("nut")
        assert again is first
        assert await again == 0
    assert front.host.graph.stats.hits == hits, "the gateway was not asked"
    assert stock.computed == ["nut"]


async def test_a_change_made_elsewhere_arrives(client: Client, front: Front, stock: Stock) -> None:
    shelf = client.service(Shelf)
    replica = shelf.item("nut")
    assert await replica is None
    async with connect(front.address) as other:
        await other.service(Shelf).put("nut", 7)
    await asyncio.wait_for(replica.when_invalidated(), 5)
    assert await shelf.item("nut") == Item("nut", 7, Decimal("1.50"))


async def test_after_a_command_returned_its_client_never_reads_the_old_value(client: Client) -> None:
    shelf = client.service(Shelf)
    for count in range(1, 50):
        assert await shelf.count("nut") == count - 1
        assert await shelf.put("nut", count) == count - 1
        assert await shelf.count("nut") == count


async def test_after_a_command_returned_no_other_client_reads_the_old_value(client: Client, front: Front) -> None:
    async with connect(front.address) as other:
        theirs, ours = other.service(Shelf), client.service(Shelf)
        for count in range(1, 50):
            await theirs.count("nut")
            await ours.put("nut", count)
            assert await theirs.count("nut") == count


async def test_changes_can_be_followed(client: Client, front: Front) -> None:
    shelf = client.service(Shelf)
    seen: list[int] = []

    def is_last(count: int) -> bool:
        return seen[-1:] == [count]

    async def follow() -> None:
        async for computed in shelf.count.changes("nut"):
            seen.append(computed.value)  # noqa: PERF401 - as they come

    following = asyncio.create_task(follow())
    for count in range(1, 4):
        await until(partial(is_last, count - 1))
        await shelf.put("nut", count)
    await until(lambda: seen == [0, 1, 2, 3])
    following.cancel()


async def test_an_error_of_user_code_is_raised_with_its_class(client: Client) -> None:
    shelf = client.service(Shelf)
    with pytest.raises(ValueError, match="no luck here"):
        await shelf.fail("luck")
    with pytest.raises(ValueError, match="not to be touched"):
        await shelf.refuse("nut")


async def test_wrong_arguments_are_refused_before_they_are_sent(client: Client) -> None:
    with pytest.raises(InvalidArgument):
        client.service(Shelf).count()  # type: ignore[call-arg]


async def test_a_client_cannot_invalidate(client: Client) -> None:
    with pytest.raises(UsageError, match="cannot invalidate"):
        await client.service(Shelf).count.invalidate("nut")


async def test_readers_that_leave_cancel_the_computation_in_the_cluster(client: Client, stock: Stock) -> None:
    shelf = client.service(Shelf)

    async def read() -> int:
        return await shelf.forever("nut")

    reading = asyncio.create_task(read())
    await until(lambda: stock.waiting == 1)
    reading.cancel()
    await until(lambda: stock.waiting == 0)


async def test_replicas_that_are_evicted_are_unsubscribed(front: Front, stock: Stock) -> None:
    async with connect(front.address, max_nodes=10) as client:
        shelf = client.service(Shelf)
        for index in range(50):
            await shelf.count(str(index))
        await until(lambda: front.serving.subscription_count <= 10)


async def test_a_client_that_closes_leaves_no_subscription_behind(front: Front) -> None:
    async with connect(front.address) as client:
        await client.service(Shelf).count("nut")
        assert front.serving.subscription_count == 1
    await until(lambda: front.serving.subscription_count == 0, timeout_s=2)


# -- outages
async def test_a_restarted_gateway_is_found_again_and_replicas_were_invalidated(
    client: Client, front: Front, stock: Stock
) -> None:
    shelf = client.service(Shelf)
    replica = shelf.count("nut")
    await replica
    await front.stop()
    await until(lambda: not replica.is_consistent)
    stock.counts["nut"] = 5  # nobody will tell
    await front.cluster.service(Shelf).count.invalidate("nut")
    waiting = asyncio.ensure_future(_read(shelf))
    await asyncio.sleep(0)
    await front.start()
    assert await waiting == 5
    assert await shelf.put("nut", 6) == 5
    assert await shelf.count("nut") == 6


async def _read(shelf: Shelf) -> int:
    return await shelf.count("nut")


async def test_reads_during_an_outage_fail_at_their_deadline(front: Front) -> None:
    async with connect(front.address, timeout_s=0.5) as client:
        shelf = client.service(Shelf)
        await shelf.count("nut")
        await front.stop()
        await until(lambda: shelf.count.peek("nut") is None)
        began = asyncio.get_running_loop().time()
        with pytest.raises(ShardUnavailable):
            await shelf.count("nut")
        assert 0.3 < asyncio.get_running_loop().time() - began < 3
        with pytest.raises(ShardUnavailable):
            await shelf.put("nut", 1)


async def test_a_client_may_start_before_its_gateway(front: Front) -> None:
    await front.stop()
    async with connect(front.address) as client:
        reading = asyncio.ensure_future(_read(client.service(Shelf)))
        await asyncio.sleep(0)
        await front.start()
        assert await reading == 0


async def test_through_restarts_of_the_gateway_no_reader_sees_less_than_what_was_committed(front: Front) -> None:
    committed = reads = 0
    is_over = asyncio.Event()

    async def write(shelf: Shelf) -> None:
        nonlocal committed
        for count in itertools.count(1):
            if is_over.is_set():
                return
            with contextlib.suppress(CommandOutcomeUnknown):
                await shelf.raise_to("nut", count)
                committed = count

    async def read(shelf: Shelf) -> None:
        nonlocal reads
        while not is_over.is_set():
            floor = committed
            assert await shelf.count("nut") >= floor
            reads += 1
            await asyncio.sleep(0)

    async with connect(front.address) as writer, connect(front.address) as reader:
        tasks = [asyncio.create_task(write(writer.service(Shelf))), asyncio.create_task(read(reader.service(Shelf)))]
        for _ in range(5):
            enough = committed + 20, reads + 20
            await until(partial(lambda enough: committed > enough[0] and reads > enough[1], enough))
            await front.stop()
            await front.start()
        is_over.set()
        await asyncio.gather(*tasks)


async def test_a_client_is_used_in_its_context_only(front: Front) -> None:
    client = connect(front.address)
    with pytest.raises(UsageError, match="async with"):
        client.service(Shelf)
    with pytest.raises(UsageError, match="async with"):
        await client.call("Shelf.count", "nut")
