"""Verification of an app on Ray: by the command, and by the monitors of its members."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fusion_cluster.client import connect
from fusion_shards.launch import LaunchedApp, launch
from fusion_shards.verifying import verify_app
from tests.apps.ledger import DATABASE_VARIABLE, Accounts, Base, Totals, new_app

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

ACCOUNTS = 12


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verified") / "ledger.db"


@pytest.fixture(scope="module")
def ledger(ray_cluster: str, file: Path) -> Iterator[LaunchedApp]:
    async def start() -> LaunchedApp:
        database = new_app(f"sqlite:///{file}").database
        assert database is not None
        await database.create_tables(Base.metadata)
        await database.dispose()
        return await launch(
            "tests.apps.ledger:app",
            shards=2,
            gateways=1,
            grpc_port=0,
            verify_rate=5,
            environment={DATABASE_VARIABLE: f"sqlite:///{file}"},
        )

    launched = asyncio.run(start())
    yield launched
    asyncio.run(launched.stop())


async def test_members_verify_each_others_values_and_find_a_row_that_was_changed_behind_their_backs(
    ledger: LaunchedApp, file: Path, ray_cluster: str
) -> None:
    async with connect(ledger.gateway_addresses[0]) as client:
        accounts, totals = client.service(Accounts), client.service(Totals)
        await accounts.set_all(0, ACCOUNTS, 10)
        assert await totals.of_first(ACCOUNTS) == 10 * ACCOUNTS
        for account in range(ACCOUNTS):
            assert await accounts.balance(account) == 10
        report, silent = await verify_app(
            ledger.configuration, await ledger.status(), seconds=2.0, rate=100.0, bound_s=5.0
        )
        assert silent == []
        assert report.violations == ()
        assert report.compared > ACCOUNTS
        assert set(report.members) == {"shard 0", "shard 1", "gateway 0"}

        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE account SET balance = 77 WHERE id = 3")
        command = [sys.executable, "-m", "fusion_cluster.cli", "verify", "--seconds", "2", "--rate", "100"]
        options = ["--bound", "1", "--json", "--app", "ledger", "--ray-address", ray_cluster]
        ended = await asyncio.to_thread(
            subprocess.run, [*command, *options], capture_output=True, text=True, timeout=150, check=False
        )
        assert ended.returncode == 1, ended.stderr
        plain = json.loads(ended.stdout)
        assert {violation["key"] for violation in plain["violations"]} == {"Accounts.balance(3)"}
        assert {violation["member"] for violation in plain["violations"]} & {"shard 0", "shard 1"}
        assert {(violation["cached"], violation["fresh"]) for violation in plain["violations"]} == {("10", "77")}
        await accounts.set_balance(3, 77)
        report, _ = await verify_app(ledger.configuration, await ledger.status(), seconds=1.0, rate=50.0, bound_s=5.0)
        assert report.violations == ()
