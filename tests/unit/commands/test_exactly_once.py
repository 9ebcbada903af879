"""B.6, B.13: a command id that is used twice, at once or later, wherever, is carried out once; both get its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from fusion_cluster import App, Database, LogOptions
from fusion_cluster.commands import CommandResult
from fusion_cluster.commands.outcomes import Recorded
from fusion_cluster.database.log_trimmer import LogTrimmer
from fusion_cluster.errors import CommandNotRecorded, InvalidArgument
from fusion_cluster.host import LocalHost
from tests.apps.counters import Counters, NoRoom, counters_hosts, counts, run
from tests.apps.shelves import Gate
from tests.log_entries import logged
from tests.waiting import until

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


def runs(*hosts: LocalHost) -> list[str]:
    return [name for host in hosts for name in host.service(Counters).runs]


# -- later -------------------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("method", "value"),
    [("add", None), ("bump", 1), ("bump_and_record", 1), ("think", "a, 1"), ("insert", "inserted a")],
)
async def test_a_second_use_on_any_host_gives_the_first_result(
    hosts: list[LocalHost], database: Database, method: str, value: object
) -> None:
    assert await run(hosts[0], method, "a", command_id=ID) == CommandResult(value)
    before = await counts(database)
    for host in (hosts[0], hosts[1], hosts[0]):
        assert await run(host, method, "a", command_id=ID) == CommandResult(value, is_replayed=True)
    assert runs(*hosts) == [method]
    assert await counts(database) == before
    assert await logged(database) == [ID]


async def test_each_id_is_a_command_of_its_own(hosts: list[LocalHost], database: Database) -> None:
    results = [await run(host, "bump", "a", command_id=f"{number}") for number in range(3) for host in hosts]
    assert [result.is_replayed for result in results] == [False, True] * 3
    assert await counts(database) == {"a": 3}


async def test_calls_within_the_process_are_each_meant(hosts: list[LocalHost], database: Database) -> None:
    counters = hosts[0].service(Counters)
    assert [await counters.bump("a"), await counters.bump("a")] == [1, 2]


@pytest.mark.both_databases
async def test_an_id_stays_known_when_its_entry_is_trimmed(database_url: str) -> None:
    async with counters_hosts(database_url, log=LogOptions(retention_s=1e-6)) as hosts:
        database = hosts[0].service(Counters).database
        for method in ("bump", "think"):
            first = await run(hosts[0], method, "a", command_id=method)
            assert await LogTrimmer(database).trim() == 1
            assert await logged(database) == []
            again = await run(hosts[1], method, "a", command_id=method)
            assert again == CommandResult(first.value, is_replayed=True)
            with pytest.raises(InvalidArgument):
                await run(hosts[1], method, "b", command_id=method)
        assert runs(*hosts) == ["bump", "think"]


async def test_an_id_is_forgotten_in_the_end(database_url: str) -> None:
    async with counters_hosts(database_url, log=LogOptions(retention_s=1e-6, command_retention_s=1e-6)) as hosts:
        database = hosts[0].service(Counters).database
        await run(hosts[0], "bump", "a", command_id=ID)
        await LogTrimmer(database).trim()
        await LogTrimmer(database).trim()
        assert await run(hosts[0], "bump", "a", command_id=ID) == CommandResult(2)


async def test_a_replayed_command_passes_the_barrier_again(hosts: list[LocalHost]) -> None:
    """The first run may have ended before it had told everybody."""
    await run(hosts[0], "bump", "a", command_id=ID)
    published: list[tuple[list[str], bool, str]] = []
    publish = hosts[1].publish

    def note(keys: object, barrier: bool, operation_id: str = "") -> object:
        published.append(([str(key) for key in keys], barrier, operation_id))  # type: ignore[attr-defined]
        return publish(keys, barrier, operation_id)  # type: ignore[arg-type]

    hosts[1].publish = note  # type: ignore[method-assign, assignment]
    await run(hosts[1], "bump", "a", command_id=ID)
    assert published == [(["Counters.count('a')"], True, ID)]


# -- at once -----------------------------------------------------------------------------------------------------------
async def test_a_second_use_waits_on_the_same_host_for_the_first(hosts: list[LocalHost]) -> None:
    gate = hosts[0].service(Counters).gates["written"] = Gate()
    uses = [asyncio.create_task(run(hosts[0], "bump", "a", command_id=ID)) for _ in range(5)]
    await gate.reached.wait()
    gate.opened.set()
    results = await asyncio.gather(*uses)
    assert sorted(result.is_replayed for result in results) == [False, True, True, True, True]
    assert {result.value for result in results} == {1}
    assert runs(*hosts) == ["bump"]


@pytest.mark.both_databases
@pytest.mark.parametrize("method", ["add", "bump", "bump_and_record", "think"])
async def test_uses_at_once_on_several_hosts_take_effect_once(
    hosts: list[LocalHost], database: Database, method: str
) -> None:
    """Bodies may run on both: one of them cannot commit."""
    for turn in range(5):
        results = await asyncio.gather(
            *(run(host, method, f"{turn}", command_id=f"{turn}") for host in hosts for _ in range(2))
        )
        assert [result.is_replayed for result in results].count(False) == 1
        assert len({result.value for result in results}) == 1
    if method != "think":
        assert await counts(database) == {f"{turn}": 1 for turn in range(5)}


async def while_the_first_is_held(hosts: list[LocalHost], method: str, place: str) -> list[CommandResult]:
    """Use an id on one host, hold it at a place, use it on the other until that waits, and let the first go on."""
    gate = hosts[0].service(Counters).gates[place] = Gate()
    first = asyncio.create_task(run(hosts[0], method, "a", command_id=ID))
    await gate.reached.wait()
    counters = hosts[1].service(Counters)
    log, looks = counters.database.log, 0
    find = log.find

    async def count_looks(operation_id: str) -> Recorded | None:
        nonlocal looks
        looks += 1
        return await find(operation_id)

    log.find = count_looks  # type: ignore[method-assign]
    second = asyncio.create_task(run(hosts[1], method, "a", command_id=ID))
    await until(lambda: counters.runs or looks > 1, what="a run, or a second look at what there is no result of yet,")
    gate.opened.set()
    return list(await asyncio.gather(first, second))


@pytest.mark.both_databases
@pytest.mark.parametrize("method", ["insert", "reserve"])
async def test_a_second_run_that_trips_over_what_the_first_has_written_is_given_its_result(
    hosts: list[LocalHost], database: Database, method: str
) -> None:
    """A unique row, an error of the app's own: the second one's failure is none."""
    place = "written" if method == "insert" else "looked"
    first, second = await while_the_first_is_held(hosts, method, place)
    assert {first.is_replayed, second.is_replayed} == {False, True}
    assert first.value == second.value
    assert await counts(database) == {"a": 1}


@pytest.mark.both_databases
async def test_a_second_run_that_meets_one_which_has_not_returned_yet_waits_for_its_result(
    hosts: list[LocalHost], database: Database
) -> None:
    first, second = await while_the_first_is_held(hosts, "bump", "committed")
    assert (first, second) == (CommandResult(1), CommandResult(1, is_replayed=True))
    assert await counts(database) == {"a": 1}


async def test_what_fails_by_itself_fails_each_time(hosts: list[LocalHost]) -> None:
    await run(hosts[0], "reserve", "a", command_id="another")
    for host in (*hosts, *hosts):
        with pytest.raises(NoRoom):
            await run(host, "reserve", "a", command_id=ID)


# -- other arguments ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("method", "argument"), [("bump", "b"), ("add", "a"), ("think", "a")])
async def test_an_id_used_for_something_else_is_refused(
    hosts: list[LocalHost], database: Database, method: str, argument: str
) -> None:
    await run(hosts[0], "bump", "a", command_id=ID)
    for host in hosts:
        with pytest.raises(InvalidArgument, match="used before") as caught:
            await run(host, method, argument, command_id=ID)
        assert caught.value.field == "command_id"
    assert await counts(database) == {"a": 1}


@pytest.mark.both_databases
async def test_an_id_used_for_something_else_at_once_is_refused(hosts: list[LocalHost], database: Database) -> None:
    results = await asyncio.gather(
        *(run(host, "bump", name, command_id=ID) for host, name in zip(hosts, "ab", strict=True)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["CommandResult", "InvalidArgument"]
    assert len(await counts(database)) == 1


async def test_arguments_that_are_equal_are_the_same_however_they_are_spelled(hosts: list[LocalHost]) -> None:
    spellings: list[tuple[object, ...]] = [
        ("a", {"x": Decimal("1.20"), "y": Decimal(2)}, {"p", "q", "r", "s"}, [1.0, 2.5]),
        ("a", {"y": Decimal("2.0"), "x": Decimal("1.2")}, {"s", "r", "q", "p"}, [1, 2.5]),
        ("a", {"x": Decimal("12e-1"), "y": Decimal("2.00")}, set("srqp"), [1, 2.5]),
    ]
    await run(hosts[0], "take", *spellings[0], command_id=ID)
    for spelling in spellings:
        for host in hosts:
            assert (await run(host, "take", *spelling, command_id=ID)).is_replayed
    different: list[tuple[object, ...]] = [
        ("a", {"x": Decimal("1.20"), "y": Decimal(3)}, {"p", "q", "r", "s"}, [1.0, 2.5]),
        ("a", {"x": Decimal("1.20")}, {"p", "q", "r", "s"}, [1.0, 2.5]),
        ("a", {"x": Decimal("1.20"), "y": Decimal(2)}, {"p", "q", "r"}, [1.0, 2.5]),
        ("a", {"x": Decimal("1.20"), "y": Decimal(2)}, {"p", "q", "r", "s"}, [2.5, 1.0]),
        ("a", {"x": Decimal("1.20"), "y": Decimal(2)}, {"p", "q", "r", "s"}),
    ]
    for other in different:
        with pytest.raises(InvalidArgument):
            await run(hosts[0], "take", *other, command_id=ID)


@pytest.mark.parametrize("command_id", ["x" * 301, "a\0b", "\ud800"])
async def test_an_id_that_no_database_can_store_is_refused_before_anything_runs(
    hosts: list[LocalHost], command_id: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await run(hosts[0], "bump", "a", command_id=command_id)
    assert caught.value.field == "command_id"
    assert runs(*hosts) == []


@pytest.mark.both_databases
@pytest.mark.parametrize("command_id", ["x" * 300, "ü" * 300, "🎈" * 300, "' OR 1=1 --", " "])
async def test_any_other_id_will_do(hosts: list[LocalHost], command_id: str) -> None:
    for host in hosts:
        assert (await run(host, "bump", "a", command_id=command_id)).value == 1


# -- without a database ------------------------------------------------------------------------------------------------
async def test_without_a_database_a_retry_is_refused() -> None:
    async with App("counters", [Counters]).local() as host:
        think = host.command("Counters.think")
        assert (await host.carry_out(think.invocation(("a",), ID))).value == "a, 1"
        with pytest.raises(CommandNotRecorded):
            await host.carry_out(think.invocation(("a",), ID, is_retry=True))
        assert runs(host) == ["think"]
