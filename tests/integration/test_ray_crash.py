"""kill -9 of a shard between its commit and its push, where Ray runs it: a client's own retry gets the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fusion_cluster.client import connect
from fusion_shards.launch import LaunchedApp, launch
from tests.apps.bank import ACCOUNTS, OPENING_BALANCE, Accounts, Branches, Receipts, open_bank, read_books
from tests.apps.bank_on_ray import DATABASE_VARIABLE, trapped_bank
from tests.processes.member_process import cached
from tests.thorough import IS_THOROUGH

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

pytest_plugins = ["tests.databases"]


@pytest.fixture
async def bank(ray_cluster: str, database_url: str) -> AsyncIterator[LaunchedApp]:
    await open_bank(database_url)
    launched = await launch(
        "tests.apps.bank_on_ray:app", shards=2, gateways=1, grpc_port=0, environment={DATABASE_VARIABLE: database_url}
    )
    yield launched
    await launched.stop()


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"] if IS_THOROUGH else ["postgresql"], indirect=True)
async def test_a_client_that_asks_again_is_given_the_result_and_nothing_is_stale(
    bank: LaunchedApp, database_url: str
) -> None:
    app = trapped_bank(database_url)
    async with app.cluster() as driver, connect(bank.gateway_addresses[0], timeout_s=30) as client:
        for branches in (driver.service(Branches), client.service(Branches)):
            assert await branches.all() == ACCOUNTS * OPENING_BALANCE
        assert await client.service(Receipts).times("the transfer") == 0
        await client.execute("Traps.lay", 3, "committed")
        left = await client.execute("Accounts.transfer", 3, 4, 30, "the transfer", command_id="the transfer")
        assert left == OPENING_BALANCE - 30

        books = await read_books(database_url)
        books.check()
        assert books.times == {"the transfer": 1}
        assert (books.balances[3], books.balances[4]) == (OPENING_BALANCE - 30, OPENING_BALANCE + 30)
        for method, arguments, value, error in cached(driver):
            assert error is None
            assert value == books.value(method, arguments)
        for service in (driver.service, client.service):
            assert await service(Receipts).times("the transfer") == 1
            assert await asyncio.gather(*(_value(service(Accounts), i) for i in range(ACCOUNTS))) == [
                books.balances[i] for i in range(ACCOUNTS)
            ]
            assert await service(Branches).all() == ACCOUNTS * OPENING_BALANCE
    shards = [member for member in (await bank.status()).members if member.role == "shard"]
    assert sorted(shard.epoch for shard in shards) == [1, 2], "one of them was killed"


async def _value(accounts: Accounts, account: int) -> int:
    return await accounts.balance(account)
