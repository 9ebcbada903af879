"""The fence time: what a lease has allowed to be served is not served after it, however late its timer comes."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Graph, State, gather
from tests.rented_replicas import Clock, RentedReplicas, rent
from tests.unit.graph.cells import Cells

Host = Callable[[Any], Any]
LEASE_S = 3.0


class Replicas:
    """Cells whose values are read once, and may be served for `LEASE_S` from then on."""

    def __init__(self, graph: Graph, cells: Cells) -> None:
        self.graph = graph
        self.cells = cells
        self.clock: Clock
        self.lease: RentedReplicas

    async def read(self, *names: str) -> None:
        for name in names:
            await self.cells.cell(name)
        self.clock, self.lease = rent(self.graph, *(self.cells.cell(name) for name in names), for_s=LEASE_S)

    def change_far_away(self, name: str, value: int) -> None:
        """The data changes, and nobody tells us; the lease runs out."""
        self.cells.values[name] = value
        self.clock.now_s += LEASE_S + 0.001


@pytest.fixture
def replicas(graph: Graph, host: Host) -> Replicas:
    return Replicas(graph, host(Cells(a=1, b=2)))


async def call(cells: Cells) -> int:
    return await cells.cell("a")


async def call_by_keyword(cells: Cells) -> int:
    return await cells.cell(name="a")


async def look_up(cells: Cells) -> int:
    value: int = await cells.cell.function.lookup(("a",))
    return value


async def gathered(cells: Cells) -> int:
    return sum(await gather(cells.cell("a"), cells.cell("b"))) - 2


async def first_change(cells: Cells) -> int:
    async for computed in cells.cell.changes("a"):
        return computed.value
    raise AssertionError


async def condition(cells: Cells) -> int:
    return (await cells.cell("a").when(lambda _value: True)).value


async def through_another(cells: Cells) -> int:
    return await cells.double("a") // 2


@pytest.mark.parametrize(
    "read",
    [call, call_by_keyword, look_up, gathered, first_change, condition, through_another],
)
async def test_the_first_read_after_a_lease_has_run_out_is_computed_anew(
    replicas: Replicas, read: Callable[[Cells], Awaitable[int]]
) -> None:
    await replicas.read("a", "b")
    assert await replicas.cells.double("a") == 2
    replicas.change_far_away("a", 10)
    assert await read(replicas.cells) == 10


async def test_what_was_computed_from_an_expired_replica_is_not_served_either(replicas: Replicas) -> None:
    await replicas.read("a")
    assert await replicas.cells.total(("a", "b")) == 3
    replicas.change_far_away("a", 10)
    assert await replicas.cells.total(("a", "b")) == 12


async def test_nothing_says_that_an_expired_replica_is_consistent(replicas: Replicas, graph: Graph) -> None:
    for look in (
        lambda held: held.is_consistent,
        lambda held: held.state is State.CONSISTENT,
        lambda held: replicas.cells.cell.peek("a"),
        lambda held: graph.peek(held.key),
    ):
        await replicas.read("a")
        held = replicas.cells.cell("a")
        assert look(held)
        replicas.change_far_away("a", 10)
        assert not look(held)


async def test_a_held_computed_keeps_its_value_and_gives_the_present_one_on_update(replicas: Replicas) -> None:
    await replicas.read("a")
    held = replicas.cells.cell("a")
    replicas.change_far_away("a", 10)
    assert await held == held.value == 1  # what it was, as of any computed that is out of date
    assert (await held.update()).value == 10


async def test_a_renewed_lease_lets_the_replicas_be_served_on(replicas: Replicas, graph: Graph) -> None:
    await replicas.read("a")
    replicas.clock.now_s = replicas.lease.until_s + 0.5
    replicas.lease.until_s += LEASE_S  # renewed: nobody has told the fence
    assert await replicas.cells.cell("a") == 1
    assert replicas.cells.log == ["a"]
    assert graph.fence.fence_s == replicas.lease.until_s


async def test_no_lease_is_asked_before_the_fence_time(graph: Graph, host: Host) -> None:
    cells: Cells = host(Cells(a=1))
    await cells.cell("a")
    lease = RentedReplicas(Clock(), time.monotonic() + 3600)
    graph.fence.add(lease)
    assert graph.registry.fence_s == math.inf
    lease.add(cells.cell("a"), graph)
    for _ in range(100):
        assert await cells.cell("a") == 1
    assert lease.asked_at_s == []
    assert graph.fence.fence_s == lease.until_s


async def test_the_fence_is_the_earliest_end_of_the_leases_that_something_is_served_by(
    graph: Graph, host: Host
) -> None:
    now_s = time.monotonic()
    clock = Clock()
    first, second, unused = (RentedReplicas(clock, now_s + in_s) for in_s in (2000.0, 1000.0, 10.0))
    for lease in (first, second, unused):
        graph.fence.add(lease)
    assert graph.fence.fence_s == math.inf
    replica = host(Cells(a=1)).cell("a")
    first.add(replica, graph)
    assert graph.fence.fence_s == now_s + 2000
    second.add(replica, graph)
    assert graph.fence.fence_s == now_s + 1000
    first.add(replica, graph)
    assert graph.fence.fence_s == now_s + 1000


async def test_once_it_has_passed_the_fence_is_set_to_the_next_end(graph: Graph, host: Host) -> None:
    cells: Cells = host(Cells(a=1, b=2))
    await gather(cells.cell("a"), cells.cell("b"))
    fence = graph.fence
    now_s = time.monotonic()
    over, running = RentedReplicas(Clock(), now_s - 1), RentedReplicas(Clock(), now_s + 1000)
    for lease, name in ((over, "a"), (running, "b")):
        fence.add(lease)
        lease.add(cells.cell.function.table.get(name), graph)
    cells.values.update(a=10, b=20)
    assert await cells.cell("b") == 2
    assert cells.cell.function.table.get("a") is None
    assert fence.fence_s == now_s + 1000
    fence.remove(over)
    fence.remove(running)
    fence.lower(0.0)
    assert await cells.cell("b") == 2
    assert fence.fence_s == math.inf


async def test_observers_are_told_when_all_that_has_expired_is_invalidated(replicas: Replicas) -> None:
    seen: list[int] = []

    def read_the_other(_node: object) -> None:
        other = replicas.cells.cell.peek("b")
        seen.append(-1 if other is None else other.value)

    await replicas.read("a", "b")
    replicas.cells.cell("a").on_invalidated(read_the_other)
    replicas.change_far_away("b", 20)
    assert await replicas.cells.cell("a") == 1
    assert seen == [-1]


async def test_observers_that_read_do_not_go_deeper_with_each_replica(graph: Graph, host: Host) -> None:
    names = [f"c{index}" for index in range(5000)]
    replicas = Replicas(graph, host(Cells(**dict.fromkeys(names, 1))))
    await replicas.read(*names)
    told: list[object] = []
    for name in names:

        def read_and_note(node: object) -> None:
            told.append(node)
            replicas.cells.cell("c0")

        replicas.cells.cell(name).on_invalidated(read_and_note)
    replicas.change_far_away("c0", 10)
    assert await replicas.cells.cell("c0") == 10
    assert len(told) == len(names)


async def test_an_observer_that_fails_does_not_reach_the_reader(
    replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_node: object) -> None:
        raise ValueError("of an observer")

    await replicas.read("a")
    replicas.cells.cell("a").on_invalidated(fail)
    replicas.change_far_away("a", 10)
    assert await replicas.cells.cell("a") == 10
    assert "of an observer" in caplog.text


async def test_a_read_after_the_lease_does_not_join_a_computation_that_has_used_it(replicas: Replicas) -> None:
    await replicas.read("a")
    gate = replicas.cells.gate("2*a")
    early = asyncio.ensure_future(replicas.cells.double("a").update())
    await gate.entered.wait()
    replicas.change_far_away("a", 10)
    late = asyncio.ensure_future(replicas.cells.double("a").update())
    await asyncio.sleep(0)
    gate.open()
    assert (await early).value == 2  # it began before the lease was over
    assert (await late).value == 20


async def test_a_reader_in_a_computation_gets_no_expired_replica_and_depends_on_the_new_one(
    replicas: Replicas,
) -> None:
    await replicas.read("a", "b")
    gate = replicas.cells.gate("a+b")
    total = asyncio.ensure_future(replicas.cells.total(("a", "b")).update())
    await gate.entered.wait()
    gate.open()
    assert (await total).value == 3
    replicas.change_far_away("a", 10)
    assert (await replicas.cells.total(("a", "b")).update()).value == 12
    await replicas.cells.put("a", 5)
    assert await replicas.cells.total(("a", "b")) == 7


async def test_a_lease_that_cannot_be_settled_costs_everything_that_is_cached_but_raises_nothing(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await replicas.read("a")

    def fail(_now_s: float) -> None:
        raise RuntimeError("a bug of the lease")

    monkeypatch.setattr(replicas.lease, "expire", fail)
    replicas.change_far_away("a", 10)
    assert await replicas.cells.cell("a") == 10
    replicas.cells.values["a"] = 11
    assert await replicas.cells.cell("a") == 11  # nor is anything kept as long as that lasts
    assert "a bug of the lease" in caplog.text


class InAThread:
    """Runs something in another thread, and gives what came of it."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self._function = function
        thread = threading.Thread(target=self._run)
        thread.start()
        thread.join()

    def _run(self) -> None:
        try:
            self.result = self._function()
        except Exception as error:
            self.error = error


async def test_a_hit_in_another_thread_is_answered_while_leases_run_and_refused_once_one_is_over(
    replicas: Replicas,
) -> None:
    await replicas.read("a")
    assert InAThread(lambda: replicas.cells.cell("a").value).result == 1
    assert replicas.lease.asked_at_s == []
    replicas.change_far_away("a", 10)
    refused = InAThread(lambda: replicas.cells.cell("a").value)
    assert isinstance(refused.error, UsageError)
    assert replicas.lease.asked_at_s == []
    assert await replicas.cells.cell("a") == 10
