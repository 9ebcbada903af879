"""A caller that has made an id for this call says so: then the log is not asked, and still decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fusion_cluster import App, LogOptions
from fusion_cluster.commands import CommandResult, turns
from fusion_cluster.commands.records import Recorded
from fusion_cluster.commands.turns import Turns
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.host import LocalHost
from fusion_cluster.protocol.call import Attempt
from tests.counters import Counters, counters_hosts, counts, run
from tests.shelves import Gate

pytest_plugins = ["tests.databases"]

ID = "made by the client"
METHODS = ["add", "bump", "bump_and_record", "think", "insert", "reserve"]
FIRST, UNSPECIFIED, RETRY = Attempt.FIRST, Attempt.UNSPECIFIED, Attempt.RETRY


@pytest.fixture
async def hosts(database_url: str) -> AsyncIterator[list[LocalHost]]:
    async with counters_hosts(database_url, log=LogOptions(period_s=0.2)) as hosts:
        yield hosts


def look_ups_of(host: LocalHost) -> list[str]:
    """The ids that a host looks up from now on."""
    looked_up: list[str] = []
    log = host.service(Counters).database.log
    find = log.find

    async def note(operation_id: str) -> Recorded | None:
        looked_up.append(operation_id)
        return await find(operation_id)

    log.find = note  # type: ignore[method-assign]
    return looked_up


def runs(*hosts: LocalHost) -> list[str]:
    return [name for host in hosts for name in host.service(Counters).runs]


@pytest.mark.parametrize("method", METHODS)
async def test_a_first_attempt_is_recorded_but_not_looked_up(hosts: list[LocalHost], method: str) -> None:
    looked_up = look_ups_of(hosts[0])
    first = await run(hosts[0], method, "a", command_id=ID, attempt=FIRST)
    assert looked_up == []
    for host in hosts:
        assert await run(host, method, "a", command_id=ID, attempt=RETRY) == CommandResult(first.value, True)
    assert looked_up == [ID]
    assert runs(*hosts) == [method]


@pytest.mark.parametrize("said", [UNSPECIFIED, RETRY])
async def test_whoever_does_not_say_so_has_its_id_looked_up(hosts: list[LocalHost], said: Attempt) -> None:
    looked_up = look_ups_of(hosts[0])
    await run(hosts[0], "bump", "a", command_id=ID, attempt=said)
    assert looked_up == [ID]


@pytest.mark.parametrize("method", METHODS)
async def test_a_first_attempt_that_comes_after_its_retry_is_not_run_again(hosts: list[LocalHost], method: str) -> None:
    """As from a gateway that was taken for dead while its call was under way."""
    retry = await run(hosts[0], method, "a", command_id=ID, attempt=RETRY)
    first = await run(hosts[0], method, "a", command_id=ID, attempt=FIRST)
    assert (first, runs(*hosts)) == (CommandResult(retry.value, True), [method])


@pytest.mark.parametrize("method", [method for method in METHODS if method != "think"])
async def test_a_first_attempt_elsewhere_that_comes_after_its_retry_takes_no_effect(
    hosts: list[LocalHost], method: str
) -> None:
    """As at a shard that was taken for dead: its body may run, its operation is not committed."""
    database = hosts[0].service(Counters).database
    retry = await run(hosts[0], method, "a", command_id=ID, attempt=RETRY)
    first = await run(hosts[1], method, "a", command_id=ID, attempt=FIRST)
    assert first == CommandResult(retry.value, True)
    assert await counts(database) == {"a": 1}


@pytest.mark.parametrize("method", [method for method in METHODS if method != "think"])
async def test_a_first_attempt_and_its_retry_at_once_take_effect_once(hosts: list[LocalHost], method: str) -> None:
    database = hosts[0].service(Counters).database
    for turn in range(5):
        results = await asyncio.gather(
            *(
                run(hosts[(turn + at) % 2], method, f"{turn}", command_id=f"{turn}", attempt=attempt)
                for at, attempt in enumerate((FIRST, RETRY, RETRY))
            )
        )
        assert sorted(result.is_replayed for result in results) == [False, True, True]
        assert len({result.value for result in results}) == 1
    assert await counts(database) == {f"{turn}": 1 for turn in range(5)}


async def test_an_id_that_was_used_for_something_else_is_refused_when_it_is_said_to_be_new(
    hosts: list[LocalHost],
) -> None:
    await run(hosts[0], "bump", "a", command_id=ID, attempt=FIRST)
    for host in hosts:
        with pytest.raises(InvalidArgument):
            await run(host, "bump", "b", command_id=ID, attempt=FIRST)
    assert await counts(hosts[0].service(Counters).database) == {"a": 1}


async def test_a_first_attempt_that_was_cancelled_may_be_retried(hosts: list[LocalHost]) -> None:
    gate = hosts[0].service(Counters).gates["written"] = Gate()
    first = asyncio.create_task(run(hosts[0], "bump", "a", command_id=ID, attempt=FIRST))
    await gate.reached.wait()
    first.cancel()
    gate.opened.set()
    await asyncio.wait((first,))
    assert await run(hosts[1], "bump", "a", command_id=ID, attempt=RETRY) == CommandResult(1)


async def test_a_first_attempt_needs_no_database() -> None:
    async with App("counters", [Counters]).local() as host:
        assert (await run(host, "think", "a", command_id=ID, attempt=FIRST)).value == "a, 1"


def test_what_a_newer_caller_says_is_looked_up() -> None:
    assert Attempt(7) is UNSPECIFIED


def test_the_latest_ids_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "REMEMBERED", 2)
    latest = Turns()
    assert [latest.is_first(command_id) for command_id in "aabcba"] == [True, False, True, True, False, True]
