"""B.8: the connection is lost during a COMMIT: what has become of it is found out, and said if that is not possible."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fusion_cluster import App
from fusion_cluster.commands import CommandResult
from fusion_cluster.database import operation_log
from fusion_cluster.errors import CommandOutcomeUnknown
from fusion_cluster.host import LocalHost
from tests.apps.counters import Base, CounterRow, Counters, counts, run
from tests.faults.severed import Severed, SeveredPostgreSQL, SeveredSQLite, severed_postgresql
from tests.log_entries import logged

pytest_plugins = ["tests.databases"]

ID = "made by the client"
OF_THIS_DATABASE = "pg_stat_activity WHERE datname = current_database()"
WAITING = text(f"SELECT 1 FROM {OF_THIS_DATABASE} AND wait_event_type = 'Lock' AND query LIKE '%fusion_operations%'")
TERMINATE = text(f"SELECT pg_terminate_backend(pid) FROM {OF_THIS_DATABASE} AND state = 'idle in transaction'")


@pytest.fixture
async def severed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Severed]:
    monkeypatch.setattr(operation_log, "SETTLE_PAUSE_S", 0.01)
    if database_url.startswith("sqlite"):
        yield SeveredSQLite(database_url, monkeypatch)
    else:
        async with severed_postgresql(database_url) as severed:
            yield severed


@pytest.fixture
async def host(severed: Severed) -> AsyncIterator[LocalHost]:
    await severed.database.create_tables(Base.metadata)
    async with App("counters", [Counters], database=severed.database).local() as host:
        yield host


@pytest.fixture
def counters(host: LocalHost) -> Counters:
    return host.service(Counters)


@pytest.mark.parametrize("method", ["bump", "bump_and_record", "add"])
async def test_a_commit_that_was_made_is_reported_as_made(
    host: LocalHost, counters: Counters, severed: Severed, method: str
) -> None:
    shown = counters.count("a")
    await shown
    severed.cut("after")
    value = None if method == "add" else 1
    assert await run(host, method, "a", command_id=ID) == CommandResult(value)
    assert not shown.is_consistent
    assert await counters.count("a") == 1
    assert counters.runs == [method]
    assert await run(host, method, "a", command_id=ID) == CommandResult(value, is_replayed=True)


async def test_a_commit_that_was_not_made_is_made_by_running_the_command_again(
    host: LocalHost, counters: Counters, severed: Severed
) -> None:
    shown = counters.count("a")
    await shown
    severed.cut("before")
    assert await run(host, "bump", "a", command_id=ID) == CommandResult(1)
    assert not shown.is_consistent
    assert await counters.count("a") == 1
    assert counters.runs == ["bump", "bump"]
    assert await logged(severed.database) == [ID]


async def test_a_call_without_an_id_is_settled_as_well(counters: Counters, severed: Severed) -> None:
    severed.cut("after")
    assert await counters.bump("a") == 1
    severed.cut("before")
    assert await counters.bump("a") == 2
    assert counters.runs == ["bump"] * 3


@pytest.mark.parametrize("moment", ["after", "before"])
@pytest.mark.parametrize("method", ["bump_and_record", "add"])
async def test_what_cannot_be_told_is_said_and_invalidated_and_settled_by_a_retry(
    host: LocalHost,
    counters: Counters,
    severed: Severed,
    moment: str,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = counters.count("a")
    await shown
    monkeypatch.setattr(operation_log, "SETTLE_S", 0.3)
    severed.cut(moment, for_good=True)  # type: ignore[arg-type]
    with pytest.raises(CommandOutcomeUnknown) as caught:
        await run(host, method, "a", command_id=ID)
    assert caught.value.is_transient
    assert not shown.is_consistent, "one invalidation too many harms nobody"
    severed.mend()
    assert await counters.count("a") == (1 if moment == "after" else 0), "which is known again from here on"
    value = None if method == "add" else 1
    assert await run(host, method, "a", command_id=ID) == CommandResult(value, is_replayed=moment == "after")
    assert await counts(severed.database) == {"a": 1}
    assert await counters.count("a") == 1


async def test_a_script_is_told_the_same(counters: Counters, severed: Severed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(name: str) -> None:
        async with severed.database.operation() as operation:
            operation.session.add(CounterRow(name=name, count=1))
            counters.count.invalidate(name)

    for name in "abc":
        await counters.count(name)
    severed.cut("after")
    await script("a")
    severed.cut("before")
    with pytest.raises(DBAPIError):
        await script("b")
    monkeypatch.setattr(operation_log, "SETTLE_S", 0.3)
    severed.cut("after", for_good=True)
    with pytest.raises(CommandOutcomeUnknown):
        await script("c")
    severed.mend()
    assert [counters.count.peek(name) is None for name in "abc"] == [True, False, True]
    assert await counts(severed.database) == {"a": 1, "c": 1}


async def test_a_script_that_leaves_no_entry_in_the_log_is_not_told_what_nobody_knows(
    host: LocalHost, severed: Severed
) -> None:
    async def script(name: str) -> None:
        async with severed.database.operation() as operation:
            operation.session.add(CounterRow(name=name, count=1))

    for name, moment in (("a", "after"), ("b", "before")):
        severed.cut(moment)  # type: ignore[arg-type]
        with pytest.raises(CommandOutcomeUnknown):
            await script(name)
    assert await counts(severed.database) == {"a": 1}


async def test_a_caller_who_leaves_meanwhile_does_not_keep_it_from_being_settled_and_published(
    host: LocalHost, counters: Counters, severed: Severed
) -> None:
    shown = counters.count("a")
    await shown
    severed.cut("after")
    settle, is_settling = severed.database.log.settle, asyncio.Event()

    async def slowly(operation_id: str) -> bool | None:
        is_settling.set()
        return await settle(operation_id)

    severed.database.log.settle = slowly  # type: ignore[method-assign]
    running = asyncio.create_task(run(host, "add", "a", command_id=ID))
    await is_settling.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert not shown.is_consistent
    assert await run(host, "add", "a", command_id=ID) == CommandResult(None, is_replayed=True)


# -- on its way --------------------------------------------------------------------------------------------------------
@pytest.fixture
async def server(postgres_url: str) -> AsyncIterator[SeveredPostgreSQL]:
    async with severed_postgresql(postgres_url) as severed:
        await severed.database.create_tables(Base.metadata)
        yield severed


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_commit_that_is_still_on_its_way_is_waited_for(server: SeveredPostgreSQL, arrives: bool) -> None:
    """The client's end is lost; the server has not yet read the COMMIT, and nobody can tell it that it must not."""
    async with App("counters", [Counters], database=server.database).local() as host:
        counters = host.service(Counters)
        server.cut("late")
        running = asyncio.create_task(run(host, "bump_and_record", "a", command_id=ID))
        async with asyncio.timeout(10):
            while not await is_waited_for(server):
                assert not running.done()
        assert counters.runs == ["bump_and_record"]
        if arrives:
            server.deliver()
        else:
            await terminate_idle_transactions(server)
        assert await running == CommandResult(1)
        assert counters.runs == ["bump_and_record"] * (1 if arrives else 2)
        assert await counts(server.database) == {"a": 1}


async def is_waited_for(server: SeveredPostgreSQL) -> object:
    """Whether somebody waits for the transaction that was cut off."""
    async with server.database.session() as session:
        return await session.scalar(WAITING)


async def terminate_idle_transactions(server: SeveredPostgreSQL) -> None:
    async with server.database.session() as session:
        await session.execute(TERMINATE)
