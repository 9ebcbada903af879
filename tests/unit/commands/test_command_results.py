"""What a command ends with is recorded, and a retry ends the same: with results and errors of all kinds, or lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from fusion_cluster import Database, LogOptions
from fusion_cluster.commands import CommandResult, pipeline
from fusion_cluster.commands.outcomes import Recorded, outcome_of_error
from fusion_cluster.database.operation_log import OperationLog
from fusion_cluster.errors import CommandOutcomeUnknown, CommandResultLost, DatabaseUnavailable, RemoteError
from fusion_cluster.host import LocalHost
from tests.apps.counters import Counters, NoRoom, Unknown, counters_hosts, counts, run
from tests.apps.shelves import Gate
from tests.log_entries import logged, writing

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database

ID = "made by the client"


@pytest.fixture
async def hosts(database_url: str) -> AsyncIterator[list[LocalHost]]:
    async with counters_hosts(database_url, log=LogOptions(period_s=0.2)) as hosts:
        yield hosts


@pytest.fixture
def database(hosts: list[LocalHost]) -> Database:
    return hosts[0].service(Counters).database


async def outcome(database: Database) -> bytes | None:
    (found,) = await logged(database, "outcome")
    assert found is None or isinstance(found, bytes)
    return found


def runs(*hosts: LocalHost) -> list[str]:
    return [name for host in hosts for name in host.service(Counters).runs]


# -- when it is recorded -----------------------------------------------------------------------------------------------
@pytest.mark.both_databases
@pytest.mark.parametrize(("method", "recorded"), [("add", b"v\xc0"), ("bump_and_record", b"v\x01"), ("bump", None)])
async def test_none_and_what_the_operation_is_told_are_recorded_with_the_commit(
    hosts: list[LocalHost], database: Database, method: str, recorded: bytes | None
) -> None:
    gate = hosts[0].service(Counters).gates["committed"] = Gate()
    running = asyncio.create_task(run(hosts[0], method, "a", command_id=ID))
    await gate.reached.wait()
    assert await outcome(database) == recorded
    gate.opened.set()
    await running
    assert await outcome(database) == (recorded or b"v\x01")


@pytest.mark.both_databases
async def test_a_process_that_ends_after_the_commit_leaves_the_result_of_its_operation(
    hosts: list[LocalHost],
) -> None:
    await cancelled_after_the_commit(hosts[0], "bump_and_record")
    for host in hosts:
        assert await run(host, "bump_and_record", "a", command_id=ID) == CommandResult(1, is_replayed=True)


async def cancelled_after_the_commit(host: LocalHost, method: str) -> None:
    gate = host.service(Counters).gates["committed"] = Gate()
    running = asyncio.create_task(run(host, method, "a", command_id=ID))
    await gate.reached.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


# -- lost --------------------------------------------------------------------------------------------------------------
async def test_a_result_that_was_not_recorded_is_lost_and_the_command_not_run_again(
    hosts: list[LocalHost], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "RESULT_PATIENCE_S", 0.1)
    await cancelled_after_the_commit(hosts[0], "bump")
    for host in hosts:
        with pytest.raises(CommandResultLost, match=r"operation\.result"):
            await run(host, "bump", "a", command_id=ID)
    assert await counts(database) == {"a": 1}
    assert runs(*hosts) == ["bump"]


async def test_a_result_lost_by_the_same_process_or_long_ago_is_not_waited_for(
    hosts: list[LocalHost], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "RESULT_PATIENCE_S", 1000.0)
    await cancelled_after_the_commit(hosts[0], "bump")
    with pytest.raises(CommandResultLost):
        await asyncio.wait_for(run(hosts[0], "bump", "a", command_id=ID), 10)
    async with writing(database) as writer:
        await writer.session.execute(
            text("UPDATE fusion_operations SET committed_at = :then"), {"then": time.time() - 1001}
        )
    with pytest.raises(CommandResultLost):
        await asyncio.wait_for(run(hosts[1], "bump", "a", command_id=ID), 10)


async def test_a_result_that_cannot_be_recorded_is_given_all_the_same(
    hosts: list[LocalHost], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(OperationLog, "record_outcome", fail)
        patch.setattr(OperationLog, "write_command", fail)
        assert await run(hosts[0], "bump", "a", command_id=ID) == CommandResult(1)
        assert await run(hosts[0], "think", "a", command_id="another") == CommandResult("a, 2")
    assert caplog.text.count("could not be recorded") == 2
    with pytest.raises(CommandResultLost):
        await run(hosts[0], "bump", "a", command_id=ID)


@pytest.mark.both_databases
async def test_a_result_that_cannot_be_looked_up_now_is_not_taken_for_lost(
    hosts: list[LocalHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    await cancelled_after_the_commit(hosts[0], "bump")
    find, looks = OperationLog.find, 0

    async def find_once(log: OperationLog, operation_id: str) -> Recorded | None:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise DatabaseUnavailable("away")
        return await find(log, operation_id)

    monkeypatch.setattr(OperationLog, "find", find_once)
    with pytest.raises(CommandOutcomeUnknown):
        await run(hosts[1], "bump", "a", command_id=ID)


async def test_a_call_that_nobody_can_repeat_has_its_result_looked_at_by_nobody(
    hosts: list[LocalHost], caplog: pytest.LogCaptureFixture
) -> None:
    counters = hosts[0].service(Counters)
    assert isinstance(await counters.think_of_something("a"), Unknown)
    assert isinstance(await counters.bump_to_something("a"), Unknown)
    assert not caplog.records


@pytest.mark.parametrize("method", ["bump_to_something", "think_of_something"])
async def test_a_result_that_cannot_be_encoded_is_lost_and_the_command_not_run_again(
    hosts: list[LocalHost], database: Database, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        first = await run(hosts[0], method, "a", command_id=ID)
    assert isinstance(first.value, Unknown), "where it runs it can be had"
    assert "cannot be recorded" in caplog.text
    for host in hosts:
        with pytest.raises(CommandResultLost, match="Unknown"):
            await run(host, method, "a", command_id=ID)
    assert runs(*hosts) == [method]


# -- errors ------------------------------------------------------------------------------------------------------------
async def test_an_error_after_the_commit_is_what_a_retry_ends_with_too(
    hosts: list[LocalHost], database: Database
) -> None:
    with pytest.raises(NoRoom, match="for 1"):
        await run(hosts[0], "bump_and_fail", "a", command_id=ID)
    for host in hosts:
        with pytest.raises(RemoteError, match="for 1") as caught:
            await run(host, "bump_and_fail", "a", command_id=ID)
        assert caught.value.error_type == "NoRoom"
    assert await counts(database) == {"a": 1}
    assert runs(*hosts) == ["bump_and_fail"]


async def test_an_error_takes_the_place_of_a_result_that_was_recorded_before_it(
    hosts: list[LocalHost], database: Database
) -> None:
    for host in (hosts[0], *hosts):
        with pytest.raises(LookupError, match="after 1"):
            await run(host, "bump_and_refuse", "a", command_id=ID)
    assert runs(*hosts) == ["bump_and_refuse"]


@pytest.mark.both_databases
async def test_an_error_of_the_database_that_was_recorded_is_not_taken_for_one_of_now(
    hosts: list[LocalHost], database: Database
) -> None:
    """It would be looked up, and raised, again and again."""
    await run(hosts[0], "bump", "a", command_id=ID)
    await database.log.record_outcome(ID, outcome_of_error(DatabaseUnavailable("it was away then")))
    with pytest.raises(DatabaseUnavailable, match="it was away then"):
        await asyncio.wait_for(run(hosts[1], "bump", "a", command_id=ID), 5)


async def test_an_error_before_the_commit_is_not_recorded(hosts: list[LocalHost], database: Database) -> None:
    await run(hosts[0], "reserve", "a", command_id="another")
    with pytest.raises(NoRoom):
        await run(hosts[0], "reserve", "a", command_id=ID)
    assert await logged(database) == ["another"]
    async with writing(database) as writer:
        await writer.session.execute(text("DELETE FROM counters"))
    assert (await run(hosts[1], "reserve", "a", command_id=ID)).value == "reserved a"
