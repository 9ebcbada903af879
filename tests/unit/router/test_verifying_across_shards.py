"""Verification across shards: replicas are compared with their owners, and what commands have changed is followed."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fusion_cluster import VerifyOptions
from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.testing import LocalCluster, VirtualRuntime, run_in_virtual_time
from fusion_cluster.verification.looks import CachedKey, Look, Verdict
from fusion_router.subscriptions import Subscription
from fusion_router.verifying import LocalPeers
from tests.apps.warehouse import SHELVES, Halls, Shelves, Store, app, fresh_store, watched_app

Test = Callable[[LocalCluster, Store], Coroutine[Any, Any, None]]


def in_a_virtual_cluster(test: Test, *, strict: bool = True, watched: bool = False) -> Callable[[], None]:
    """Run a test with a cluster of three shards and a store, in virtual time."""

    @functools.wraps(test)
    def run() -> None:
        async def main() -> None:
            store = fresh_store()
            of = watched_app if watched else app
            async with LocalCluster(of, shards=3, runtime=VirtualRuntime(), strict=strict) as cluster:
                await test(cluster, store)

        run_in_virtual_time(main())

    del run.__wrapped__  # pytest would look for fixtures
    return run


async def read_all(cluster: LocalCluster) -> None:
    for shelf in range(SHELVES):
        await cluster.service(Shelves).count(shelf)
        await cluster.service(Halls).total(shelf)


@in_a_virtual_cluster
async def test_an_honest_cluster_has_no_violation(cluster: LocalCluster, store: Store) -> None:
    await read_all(cluster)
    report = await cluster.verify()
    assert report.violation_count == 0
    assert report.compared > 3 * SHELVES, "replicas are compared, too"
    assert report.members == tuple(sorted(host.peer_id for host in cluster.hosts))


@in_a_virtual_cluster
async def test_a_forgotten_invalidation_is_found_at_each_member_that_serves_the_value(
    cluster: LocalCluster, store: Store
) -> None:
    await read_all(cluster)
    await cluster.service(Shelves).forget(3, 7)
    report = await cluster.verify()
    assert {violation.key for violation in report.violations} == {"Shelves.count(3)"}
    assert {violation.kind for violation in report.violations} == {Verdict.STALE}
    assert {violation.fresh for violation in report.violations} == {"7"}
    serving = {host.peer_id for host in cluster.hosts if host.service(Shelves).count.peek(3) is not None}
    assert {violation.member for violation in report.violations} == serving
    assert len(serving) > 1


@in_a_virtual_cluster
async def test_random_reads_and_commands_while_it_is_verified_give_no_violation(
    cluster: LocalCluster, store: Store
) -> None:
    verifying = asyncio.create_task(cluster.verify(20.0, VerifyOptions(rate=20, bound_s=2)))
    numbers = random.Random(1)
    services = [host.service(Shelves) for host in cluster.hosts]
    totals = [host.service(Halls) for host in cluster.hosts]
    while not verifying.done():
        await numbers.choice(services).put(numbers.randrange(SHELVES), numbers.randrange(5))
        for _ in range(5):
            await numbers.choice(services).count(numbers.randrange(SHELVES))
            await numbers.choice(totals).total(numbers.randrange(SHELVES))
        await asyncio.sleep(numbers.random())
    report = await verifying
    assert report.violations == ()
    assert report.compared > 300
    assert report.commands > 10


def test_a_replica_that_the_invalidation_has_not_reached_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: LocalCluster, store: Store) -> None:
        shelves = cluster.service(Shelves)
        monkeypatch.setattr(Subscription, "_on_invalidated", lambda _subscription, _node: None)  # the planted fault
        await shelves.count(3)
        owner = cluster.owner("Shelves.count", 3).host
        await owner.service(Shelves).put(3, 7)
        assert shelves.count.peek(3) is not None
        (violation,) = (await cluster.verify()).violations
        assert violation.kind == Verdict.OUTLIVED
        assert violation.member == "driver"
        assert "fault of fusion-cluster" in violation.advice

    in_a_virtual_cluster(test)()


def test_a_replica_that_the_invalidation_has_not_reached_is_found_by_following_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(cluster: LocalCluster, store: Store) -> None:
        monkeypatch.setattr(Subscription, "_on_invalidated", lambda _subscription, _node: None)
        await cluster.service(Shelves).count(3)
        owner = cluster.owner("Shelves.count", 3).host
        owner.verification.join(LocalPeers(owner, lambda: [owner, cluster.host]))
        violations: list[Any] = []
        for _ in range(20):  # the member is chosen at random
            await owner.service(Shelves).count(3)
            await owner.service(Shelves).put(3, 7)
            violations += (await owner.verification.run(0.0, VerifyOptions(rate=100))).violations
            if violations:
                break
        violation = violations[0]
        assert (violation.member, violation.kind) == ("driver", Verdict.OUTLIVED)
        assert violation.command.startswith("command Shelves.put(3, 7)")

    in_a_virtual_cluster(test)()


def test_a_replica_that_code_has_changed_is_a_violation() -> None:
    async def test(cluster: LocalCluster, store: Store) -> None:
        (await cluster.service(Shelves).items(3)).append(4)
        (violation,) = (await cluster.verify()).violations
        assert violation.kind == Verdict.REPLICA_DIFFERS
        assert (violation.cached, violation.fresh) == ("[0, 4]", "[0]")
        assert "changes a result" in violation.advice

    in_a_virtual_cluster(test, strict=False)()


@in_a_virtual_cluster
async def test_a_shard_that_is_gone_makes_no_violation(cluster: LocalCluster, store: Store) -> None:
    await read_all(cluster)
    hosts = [host for host in cluster.hosts if host.shard_id != 1]
    options = VerifyOptions(rate=100, bound_s=1)
    verifying = [asyncio.create_task(host.verification.run(10.0, options)) for host in hosts]
    await asyncio.sleep(3)
    await cluster.kill_shard(1)
    await asyncio.sleep(3)
    await cluster.start_shard(1)
    await read_all(cluster)
    reports = await asyncio.gather(*verifying)
    assert [report.violations for report in reports] == [()] * len(hosts)


def test_monitors_of_all_members_run_if_the_app_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def test(cluster: LocalCluster, store: Store) -> None:
        await read_all(cluster)
        await asyncio.sleep(20)
        assert not caplog.records
        store.rows[3] = 7
        await asyncio.sleep(60)

    in_a_virtual_cluster(test, watched=True)()
    members = {record.getMessage().partition(" at ")[2].partition(" is ")[0] for record in caplog.records}
    assert "driver" in members
    assert any(member.startswith("shard-") for member in members)
    assert all("Shelves.count(3)" in record.getMessage() for record in caplog.records)


@in_a_virtual_cluster
async def test_a_member_that_is_not_the_owner_compares_nothing(cluster: LocalCluster, store: Store) -> None:
    await cluster.service(Shelves).count(3)
    key = CachedKey("Shelves.count", app.methods["Shelves.count"].arguments.encode((3,)))
    (look,) = cluster.host.verification.verifier.look([key])
    owner = cluster.owner("Shelves.count", 3)
    for shard in cluster.shards.values():
        (answer,) = await shard.host.verification.verifier.answer([look])
        assert answer.verdict == (Verdict.SAME if shard is owner else Verdict.UNREACHABLE)
    (answer,) = await owner.host.verification.verifier.answer([Look(CachedKey("Shelves.gone", b""), "x", 0, 1, b"")])
    assert answer.verdict == Verdict.UNREACHABLE


@in_a_virtual_cluster
async def test_peers_that_do_not_run_are_reported(cluster: LocalCluster, store: Store) -> None:
    peers = LocalPeers(cluster.host, lambda: cluster.hosts)
    assert "driver" not in peers.members()
    with pytest.raises(ShardUnavailable, match="shard 9 does not run"):
        await peers.answer(9, [])
    with pytest.raises(ShardUnavailable, match="nobody does not run"):
        await peers.look("nobody", [])
