"""The operation log in a cluster: what a push does not tell, the log does; what both tell is computed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, Database, LogOptions, command
from fusion_cluster.commands import CommandResult
from fusion_cluster.database.log_readers import LogEntry
from fusion_cluster.graph import DONE, Computed
from fusion_cluster.graph.why.cause import UNKNOWN
from fusion_cluster.host import Host
from fusion_cluster.testing import LocalCluster
from fusion_cluster.v1 import session_pb2
from fusion_router.host import ClusterHost
from fusion_router.invalidation import Keys, plan_invalidation
from tests.apps.shelves import Base, Gate, ShelfRow, Shelves, Stock
from tests.following import follower_of
from tests.log_entries import logged
from tests.waiting import until

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database

OFTEN = LogOptions(period_s=0.05)
SELDOM = LogOptions(period_s=60.0)


class Drops(ComputeService):
    """A command that does not wait for replicas."""

    database: Database
    shelves: Shelves

    @command(barrier=False)
    async def drop(self, shelf_id: int) -> None:
        async with self.database.operation() as operation:
            await operation.session.delete(await operation.session.get_one(ShelfRow, shelf_id))
            self.shelves.amount.invalidate(shelf_id)


@asynccontextmanager
async def cluster_on(database_url: str, log: LogOptions) -> AsyncIterator[LocalCluster]:
    database = Database(database_url, log=log)
    await database.create_tables(Base.metadata)
    async with LocalCluster(
        App("shelves", [Shelves, Stock, Drops], database=database), shards=3, read_lease_s=0.3
    ) as cluster:
        yield cluster


def shelf_owned_elsewhere(cluster: LocalCluster, name: str = "Stock.clear") -> int:
    """A shelf whose amount is owned by another shard than that on which a command for it runs."""
    return next(
        shelf_id
        for shelf_id in range(1, 100)
        if cluster.owner(name, shelf_id) is not cluster.owner("Shelves.amount", shelf_id)
    )


def members(cluster: LocalCluster) -> list[Host]:
    return [cluster.host, *(shard.host for shard in cluster.shards.values())]


async def read_everywhere(cluster: LocalCluster, shelf_id: int, amount: int) -> list[Computed[int]]:
    """Read a shelf, and what depends on it, in each member; each gives that amount."""
    nodes = []
    for member in members(cluster):
        shelves = member.service(Shelves)
        for node in (shelves.amount(shelf_id), shelves.total(shelf_id, 1000), shelves.total(1000, shelf_id)):
            assert await node == amount
            nodes.append(node)
    return nodes


async def all_have_read(cluster: LocalCluster, entries: int) -> None:
    """Wait until every shard has read so many entries of the log."""
    followers = [follower_of(shard.host) for shard in cluster.shards.values()]
    await until(lambda: all(follower.entry_count >= entries for follower in followers))


def suppress_push(host: ClusterHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shard tell no other of what it commits."""

    def publish(keys: Keys, barrier: bool, operation_id: str) -> Awaitable[None]:
        host.invalidations.apply(keys, operation_id)
        assert plan_invalidation(keys, host.ownership).remote, "there was somebody to tell"
        return DONE

    monkeypatch.setattr(host.publications, "publish", publish)


# -- without a push ----------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_what_a_shard_commits_and_does_not_push_is_invalidated_by_the_log(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_on(database_url, SELDOM) as cluster:
        shelf_id = shelf_owned_elsewhere(cluster)
        await cluster.service(Shelves).put(shelf_id, 5)
        nodes = await read_everywhere(cluster, shelf_id, 5)
        suppress_push(cluster.owner("Stock.clear", shelf_id).host, monkeypatch)
        await cluster.service(Stock).clear(shelf_id)
        await asyncio.wait_for(asyncio.gather(*(node.when_invalidated() for node in nodes)), 5)
        await read_everywhere(cluster, shelf_id, 0)


async def test_a_shard_that_dies_between_commit_and_push_has_its_command_published_by_the_retry(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_on(database_url, SELDOM) as cluster:
        shelf_id = shelf_owned_elsewhere(cluster)
        await cluster.service(Shelves).put(shelf_id, 5)
        await read_everywhere(cluster, shelf_id, 5)
        runner, committed = cluster.owner("Stock.clear", shelf_id), asyncio.Event()

        def die(keys: Keys, barrier: bool, operation_id: str) -> Awaitable[None]:
            committed.set()
            return asyncio.get_running_loop().create_future()

        monkeypatch.setattr(runner.host.publications, "publish", die)
        running = asyncio.create_task(
            cluster.host.carry_out(cluster.host.command("Stock.clear").invocation((shelf_id,), "made by the client"))
        )
        await committed.wait()
        await cluster.kill_shard(runner.address.shard_id)
        await cluster.start_shard(runner.address.shard_id)
        assert await running == CommandResult(None, is_replayed=True)
        await read_everywhere(cluster, shelf_id, 0)


# -- with both ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["Stock.clear", "Drops.drop"])
async def test_what_was_pushed_is_not_applied_again_from_the_log(database_url: str, name: str) -> None:
    async with cluster_on(database_url, OFTEN) as cluster:
        shelf_id = shelf_owned_elsewhere(cluster, name)
        await cluster.service(Shelves).put(shelf_id, 5)
        before = await read_everywhere(cluster, shelf_id, 5)
        await all_have_read(cluster, 1)
        await cluster.host.execute(cluster.host.command(name).invocation((shelf_id,)))
        if name == "Drops.drop":  # which waits for owners alone
            await until(lambda: not any(node.is_consistent for node in before))
        nodes = await read_everywhere(cluster, shelf_id, 0)
        await all_have_read(cluster, 2)
        assert all(node.is_consistent for node in nodes), "owners and replicas alike"
        owner = cluster.owner("Shelves.amount", shelf_id).host.service(Shelves)
        assert owner.log.count(f"amount({shelf_id})") == 2


async def test_what_the_log_has_told_is_not_applied_again_by_the_push(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The push is late: all have read the log, and have computed anew, when it comes."""
    async with cluster_on(database_url, OFTEN) as cluster:
        shelf_id = shelf_owned_elsewhere(cluster)
        await cluster.service(Shelves).put(shelf_id, 5)
        before = await read_everywhere(cluster, shelf_id, 5)
        host, gate = cluster.owner("Stock.clear", shelf_id).host, Gate()
        tell = host.publications._tell

        async def late(*arguments: Any) -> Exception | None:
            await gate.pass_through()
            return await tell(*arguments)

        monkeypatch.setattr(host.publications, "_tell", late)
        running = asyncio.create_task(cluster.service(Stock).clear(shelf_id))
        await gate.reached.wait()
        await all_have_read(cluster, 2)
        await until(lambda: not any(node.is_consistent for node in before))
        nodes = await read_everywhere(cluster, shelf_id, 0)
        gate.opened.set()
        await running
        assert all(node.is_consistent for node in nodes)


async def test_a_push_that_told_of_some_of_the_keys_keeps_nothing_from_the_others(database_url: str) -> None:
    """The sender had an old slot map: it did not know that this shard owns the second key too."""
    async with cluster_on(database_url, SELDOM) as cluster:
        host = cluster.shards[0].host
        owned = [shelf_id for shelf_id in range(100) if cluster.owner("Shelves.amount", shelf_id).host is host][:2]
        told, untold = nodes = [host.service(Shelves).amount(shelf_id) for shelf_id in owned]
        for node in nodes:
            await node
        references = host.logged_keys({node.key: UNKNOWN for node in nodes})
        request = session_pb2.Invalidate(operation_id="of both")
        request.keys.append(session_pb2.KeyReference(method=references[0][0], arguments=references[0][1]))
        host.invalidations.apply_request(request, "shard-1.1")
        assert (told.is_consistent, untold.is_consistent) == (False, True)
        again = host.service(Shelves).amount(owned[0])
        await again
        assert host.log is not None
        host.log.apply([LogEntry("of both", "shard-1.1", tuple(references))])
        assert (again.is_consistent, untold.is_consistent) == (True, False)
        await untold.update()
        host.invalidations.apply_request(request, "shard-1.1")
        assert again.is_consistent, "the same message once more"


# -- ids across shards -------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_an_id_used_at_once_from_several_members_is_carried_out_once(database_url: str) -> None:
    async with cluster_on(database_url, SELDOM) as cluster:
        others = [cluster.new_host(f"gateway-{number}") for number in range(3)]
        results = await asyncio.gather(
            *(
                other.carry_out(other.command("Shelves.put").invocation((1, 5), "made by the client"))
                for other in others
            )
        )
        assert sorted(result.is_replayed for result in results) == [False, True, True]
        assert {result.value for result in results} == {"1 holds 5"}
        database = cluster.app.database
        assert database is not None
        assert await logged(database) == ["made by the client"]


async def test_an_id_is_known_to_the_successor_of_the_shard_that_ran_it(database_url: str) -> None:
    async with cluster_on(database_url, SELDOM) as cluster:
        put = cluster.host.command("Shelves.put")
        first = await cluster.host.carry_out(put.invocation((1, 5), "made by the client"))
        await cluster.service(Shelves).put(1, 6)
        runner = cluster.owner("Shelves.put", 1).address.shard_id
        await cluster.kill_shard(runner)
        await cluster.start_shard(runner)
        again = await cluster.host.carry_out(put.invocation((1, 5), "made by the client", is_retry=True))
        assert (first.value, again.value, again.is_replayed) == ("1 holds 5", "1 holds 5", True)
        assert await cluster.service(Shelves).amount(1) == 6
