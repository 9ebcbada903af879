"""A whole cluster on a virtual clock: leases, deadlines, expiry and redials pass in milliseconds of real time."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, compute_method, expire_after
from fusion_cluster.errors import DeadlineExceeded, ShardUnavailable
from fusion_cluster.graph import Computed
from fusion_cluster.link.peer import LAST_REDIAL_S
from fusion_cluster.testing import LocalCluster, VirtualRuntime, run_in_virtual_time

READ_LEASE_S = 3.0
ROOT = Path(__file__).resolve().parents[3]


class Board(ComputeService):
    """What is computed from `values`, which everybody shares, as a database would be."""

    @compute_method
    async def value(self, name: str) -> int:
        return VALUES.get(name, 0)

    @compute_method
    async def slow(self, name: str) -> int:
        await asyncio.sleep(3600)
        return 1

    @compute_method(auto_invalidation_delay=60)
    async def minute(self, name: str) -> int:
        return VALUES.get(name, 0)

    @compute_method(error_delay=5)
    async def failing(self, name: str) -> int:
        raise ValueError(name)

    @compute_method
    async def brief(self, name: str) -> int:
        expire_after(90)
        return VALUES.get(name, 0)


VALUES: dict[str, int] = {}

app = App("board", services=[Board])

Test = Callable[[LocalCluster, Board], Coroutine[Any, Any, None]]


def in_a_virtual_cluster(test: Test) -> Callable[[], None]:
    async def main() -> None:
        VALUES.clear()
        async with LocalCluster(app, shards=2, read_lease_s=READ_LEASE_S, runtime=VirtualRuntime(7)) as cluster:
            await test(cluster, cluster.service(Board))

    @functools.wraps(test)
    def run() -> None:
        started_s = time.process_time()
        run_in_virtual_time(main())
        assert time.process_time() - started_s < 5.0

    del run.__wrapped__
    return run


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def seconds_until_invalidated(computed: Computed[Any]) -> float:
    began_s = now_s()
    await computed.when_invalidated()
    return now_s() - began_s


@in_a_virtual_cluster
async def test_a_replica_is_not_served_after_its_lease_when_the_owner_is_silent(
    cluster: LocalCluster, board: Board
) -> None:
    replica = board.value("a")
    assert await replica == 0
    owner = cluster.owner("Board.value", "a")
    await asyncio.sleep(60)  # the lease is renewed meanwhile
    assert replica.is_consistent
    cluster.hold_links(owner.address.shard_id)
    VALUES["a"] = 1
    owner.host.function("Board.value").invalidate(("a",))
    await asyncio.sleep(READ_LEASE_S / 2)
    assert replica.is_consistent  # nobody has told us, and the lease still runs
    await asyncio.sleep(READ_LEASE_S / 2)
    assert not replica.is_consistent
    cluster.release_links(owner.address.shard_id)
    assert await board.value("a") == 1


@in_a_virtual_cluster
async def test_a_hit_compares_the_fence_with_the_virtual_clock(cluster: LocalCluster, board: Board) -> None:
    replica = board.value("a")
    await replica
    graph = cluster.host.graph
    assert now_s() < graph.fence.fence_s <= now_s() + READ_LEASE_S
    assert board.value("a") is replica
    assert graph.registry.clock is cluster.runtime.clock.monotonic


@in_a_virtual_cluster
async def test_a_call_ends_at_its_deadline(cluster: LocalCluster, board: Board) -> None:
    began_s = now_s()
    with pytest.raises((DeadlineExceeded, ShardUnavailable, TimeoutError)):
        await board.slow("a")
    assert now_s() - began_s == pytest.approx(10.0, abs=0.2)


@in_a_virtual_cluster
async def test_the_delays_of_methods_and_bodies_pass_at_the_owner_and_at_the_replica(
    cluster: LocalCluster, board: Board
) -> None:
    minute, brief, failing = board.minute("a"), board.brief("a"), board.failing("a")
    await minute
    await brief
    with pytest.raises(ValueError, match="a"):
        await failing
    assert await seconds_until_invalidated(failing) == pytest.approx(5, abs=0.1)
    assert await seconds_until_invalidated(minute) == pytest.approx(55, abs=0.1)
    assert await seconds_until_invalidated(brief) == pytest.approx(30, abs=0.1)


@in_a_virtual_cluster
async def test_a_cut_link_is_dialled_again_and_its_replicas_come_anew(cluster: LocalCluster, board: Board) -> None:
    await board.value("a")
    owner = cluster.owner("Board.value", "a")
    peer = cluster.host.links.peer(owner.address.shard_id)
    assert peer is not None
    for _ in range(10):
        cluster.cut_links(owner.address.shard_id)
        await asyncio.sleep(0)
        began_s = now_s()
        VALUES["a"] = VALUES.get("a", 0) + 1
        owner.host.function("Board.value").invalidate(("a",))
        await peer.connect()
        assert now_s() - began_s <= LAST_REDIAL_S
        assert await board.value("a") == VALUES["a"]


@in_a_virtual_cluster
async def test_a_quiet_cluster_lives_through_a_day(cluster: LocalCluster, board: Board) -> None:
    replica = board.value("a")
    await replica
    await asyncio.sleep(3600)
    assert replica.is_consistent
    VALUES["a"] = 5
    cluster.owner("Board.value", "a").host.function("Board.value").invalidate(("a",))
    await replica.when_invalidated()
    assert await board.value("a") == 5


def log_of_a_run(seed: int) -> list[object]:
    """Events of a cluster that is disturbed: when what happened, with names and versions that chance decides."""

    async def main() -> list[object]:
        VALUES.clear()
        runtime = VirtualRuntime(seed)
        log: list[object] = []
        async with LocalCluster(app, shards=3, read_lease_s=READ_LEASE_S, runtime=runtime) as cluster:
            board = cluster.service(Board)

            async def watch(name: str) -> None:
                while True:
                    computed = board.value(name)
                    try:
                        value = await computed
                    except ShardUnavailable as error:
                        log.append((now_s(), name, str(error)))
                        continue
                    log.append((now_s(), name, value, computed.version))
                    await computed.when_invalidated()
                    log.append((now_s(), name, str(cluster.host.why("Board.value", name))))

            watchers = [asyncio.create_task(watch(name)) for name in "abcdef"]
            for step in range(30):
                await asyncio.sleep(runtime.entropy.uniform(0.0, 2.0))
                name = "abcdef"[step % 6]
                VALUES[name] = step
                owner = cluster.owner("Board.value", name)
                if step % 5 == 0:
                    cluster.cut_links(owner.address.shard_id)
                if step % 10 == 9:
                    await cluster.kill_shard(owner.address.shard_id)
                    await cluster.start_shard(owner.address.shard_id)
                else:
                    owner.host.function("Board.value").invalidate((name,))
            await asyncio.sleep(5)
            for watcher in watchers:
                watcher.cancel()
            await asyncio.wait(watchers)
        return log

    return run_in_virtual_time(main())


def test_neither_the_order_of_sets_nor_the_hot_path_decides_anything() -> None:
    program = f"from {__name__} import log_of_a_run; print(log_of_a_run(3)[-20:])"
    logs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "FUSION_PURE_PYTHON": pure, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed, pure in [("1", "0"), ("2", "1")]
    ]
    assert logs[0] == logs[1] == f"{log_of_a_run(3)[-20:]}\n"


def test_the_seed_alone_decides_what_happens() -> None:
    first, second, other = log_of_a_run(1), log_of_a_run(1), log_of_a_run(2)
    assert len(first) > 60
    assert first == second
    assert first != other
