"""The real thing: shards, gateways and coordinator as Ray actors, each in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from fusion_cluster.client import connect
from fusion_cluster.errors import FusionError, ShardUnavailable, UsageError
from fusion_shards.configuration import MemberStatus
from fusion_shards.launch import LaunchedApp, attach, launch
from tests.apps.ledger import DATABASE_VARIABLE, Accounts, Base, Totals, app, new_app
from tests.processes.started import running

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

ACCOUNTS = 12


@pytest.fixture(scope="module")
def ledger(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchedApp]:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"

    async def start() -> LaunchedApp:
        database = new_app(url).database
        assert database is not None
        await database.create_tables(Base.metadata)
        await database.dispose()
        return await launch(
            "tests.apps.ledger:app", shards=2, gateways=2, grpc_port=0, environment={DATABASE_VARIABLE: url}
        )

    launched = asyncio.run(start())
    yield launched
    asyncio.run(launched.stop())


async def members(ledger: LaunchedApp, role: str) -> list[MemberStatus]:
    return [member for member in (await ledger.status()).members if member.role == role]


async def test_the_status_shows_each_member(ledger: LaunchedApp) -> None:
    shards, gateways = await members(ledger, "shard"), await members(ledger, "gateway")
    assert [shard.slots for shard in shards] == [8192, 8192]
    assert all(member.is_up and member.memory_bytes > 2**20 for member in [*shards, *gateways])
    assert len({member.pid for member in [*shards, *gateways]}) == 4


async def test_a_change_on_one_shard_reaches_a_dependent_on_another_a_driver_and_a_client(ledger: LaunchedApp) -> None:
    async with app.cluster() as cluster, connect(ledger.gateway_addresses[0]) as client:
        driver, outside = cluster.service(Totals), client.service(Totals)
        accounts = client.service(Accounts)
        for account in range(ACCOUNTS):
            await accounts.set_balance(account, 10)
        assert await driver.of_first(ACCOUNTS) == await outside.of_first(ACCOUNTS) == 10 * ACCOUNTS
        for account in range(ACCOUNTS):  # accounts of both shards, while the total lives on one
            await accounts.set_balance(account, 11)
            assert await outside.of_first(ACCOUNTS) == await driver.of_first(ACCOUNTS) == 10 * ACCOUNTS + account + 1


async def test_what_a_client_of_one_gateway_changes_a_client_of_another_sees(ledger: LaunchedApp) -> None:
    first, second = ledger.gateway_addresses
    async with connect(first) as writer, connect(second) as reader:
        for balance in range(20):
            await writer.service(Accounts).set_balance(1, balance)
            assert await reader.service(Accounts).balance(1) == balance


async def test_keys_of_other_shards_are_acknowledged_before_the_command_returns(ledger: LaunchedApp) -> None:
    async with app.cluster() as cluster, connect(ledger.gateway_addresses[0]) as client:
        driver, outside = cluster.service(Totals), client.service(Totals)
        for balance in range(20):
            await client.service(Accounts).set_all(0, ACCOUNTS, balance)
            assert await outside.of_first(ACCOUNTS) == await driver.of_first(ACCOUNTS) == balance * ACCOUNTS


async def test_a_repeated_read_of_a_client_costs_no_network(ledger: LaunchedApp) -> None:
    async with connect(ledger.gateway_addresses[0]) as client:
        totals = client.service(Totals)
        node = totals.of_first(ACCOUNTS)
        await node
        assert totals.of_first(ACCOUNTS) is node
        assert node.is_consistent


async def test_a_killed_shard_is_back_with_a_new_epoch_and_no_read_is_stale(ledger: LaunchedApp) -> None:
    async with app.cluster() as cluster, connect(ledger.gateway_addresses[0]) as client:
        totals, accounts = cluster.service(Totals), client.service(Accounts)
        await accounts.set_all(0, ACCOUNTS, 1)
        assert await totals.of_first(ACCOUNTS) == await client.service(Totals).of_first(ACCOUNTS) == ACCOUNTS
        for victim in await members(ledger, "shard"):
            os.kill(victim.pid, signal.SIGKILL)
            for balance in (2, 3, 4):
                await retried(accounts, balance)
                assert await totals.of_first(ACCOUNTS) == ACCOUNTS * balance
                assert await client.service(Totals).of_first(ACCOUNTS) == ACCOUNTS * balance
            successor = next(m for m in await members(ledger, "shard") if m.member_id == victim.member_id)
            assert successor.epoch == victim.epoch + 1
            assert successor.pid != victim.pid


async def test_traffic_goes_on_while_the_coordinator_is_down_and_it_comes_back_with_the_same_map(
    ledger: LaunchedApp,
) -> None:
    async with app.cluster() as cluster, connect(ledger.gateway_addresses[0]) as client:
        totals, accounts = cluster.service(Totals), client.service(Accounts)
        before = await members(ledger, "shard")
        ray.kill(ledger.coordinator, no_restart=False)
        for balance in range(5):
            await accounts.set_all(0, ACCOUNTS, balance)
            assert await totals.of_first(ACCOUNTS) == ACCOUNTS * balance
        after = await members(ledger, "shard")
        assert [(m.member_id, m.epoch, m.pid, m.slots) for m in after] == [
            (m.member_id, m.epoch, m.pid, m.slots) for m in before
        ]


async def test_an_app_that_runs_cannot_be_launched_again(ledger: LaunchedApp) -> None:
    with pytest.raises(UsageError, match="runs already"):
        await launch("tests.apps.ledger:app", grpc_port=0)


async def test_an_app_that_cannot_be_imported_by_its_members_fails_the_launch(ray_cluster: str) -> None:
    with pytest.raises(UsageError, match=r"shard 0 .*'tests.apps.fragile' has ended the program: this host lacks"):
        await launch("tests.apps.fragile:app", shards=1, gateways=0, environment={"FUSION_TEST_FRAGILE": "1"})


async def test_joining_an_app_that_does_not_run_says_what_runs(ledger: LaunchedApp) -> None:
    with pytest.raises(ShardUnavailable, match="running: ledger"):
        await attach("absent")


async def test_the_command_line_shows_the_status_and_reads(ledger: LaunchedApp, ray_cluster: str) -> None:
    async def run(*words: str) -> str:
        program = str(Path(sys.executable).with_name("fusion-cluster"))
        async with running(program, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        return out.decode()

    address = ledger.gateway_addresses[0]
    await run("execute", "Accounts.set_balance", "3", "77", "--address", address)
    assert "77" in await run("call", "Accounts.balance", "3", "--address", address)
    table = await run("status", "--ray-address", ray_cluster)
    assert "shard 0" in table
    assert "gateway 0" in table


async def retried(accounts: Accounts, balance: int) -> None:
    """What a caller of an idempotent command does: try again while the error says that it may help."""
    for _ in range(100):
        try:
            await accounts.set_all(0, ACCOUNTS, balance)
        except FusionError as error:
            if not error.is_transient:
                raise
            await asyncio.sleep(error.retry_after_s or 0.05)
        else:
            return
    raise AssertionError("the shard did not come back")
