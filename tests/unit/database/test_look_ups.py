"""Commands are looked up in the operation log by one connection, in as few queries as those who ask leave time for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fusion_cluster import Database
from fusion_cluster.database.log_trimmer import LogTrimmer
from fusion_cluster.database.look_ups import _ASYNCPG, LookUps
from fusion_cluster.errors import DatabaseUnavailable
from tests.log_entries import committed, write_entry, writing
from tests.statements import statements
from tests.waiting import until

pytest_plugins = ["tests.databases"]


@pytest.fixture
async def look_ups(database: Database) -> LookUps:
    await database.prepare()
    return database.engines().look_ups


def queries(look_ups: LookUps) -> list[list[str]]:
    """The ids of each query from now on."""
    ask: Any = look_ups._ask
    asked: list[list[str]] = []

    async def noting(driver: Any, ids: list[str]) -> Any:
        asked.append(ids)
        return await ask(driver, ids)

    look_ups._ask = noting
    return asked


async def test_what_is_committed_is_found_and_nothing_else(database: Database, look_ups: LookUps) -> None:
    async with writing(database) as writer:
        await write_entry(writer.session, "it's", keys=[("a.b", b"\x90", "")], fingerprint=b"f", outcome=b"v\xc0")
        assert await look_ups.find("it's") is None
    found = await look_ups.find("it's")
    assert found is not None
    assert list(found)[:5] == ["it's", b"f", b"v\xc0", b"\x91\x93\xa3a.b\xc4\x01\x90\xa0", "test"]
    assert await look_ups.find("its") is None


async def test_a_command_whose_entry_was_trimmed_is_found_without_its_keys(
    database: Database, look_ups: LookUps
) -> None:
    async with writing(database) as writer:
        await write_entry(writer.session, "a", age_s=7_200, keys=[("a.b", b"\x90", "")], fingerprint=b"f")
    assert await LogTrimmer(database).trim() == 1
    found = await look_ups.find("a")
    assert found is not None
    assert list(found)[:5] == ["a", b"f", None, b"\x90", ""]


async def test_sqlalchemy_finds_the_same(database: Database, look_ups: LookUps) -> None:
    async with writing(database) as writer:
        await write_entry(writer.session, "a", age_s=7_200, fingerprint=b"f", outcome=b"v\xc0")
        await write_entry(writer.session, "b", keys=[("a.b", b"\x90", "")], fingerprint=b"g")
    await LogTrimmer(database).trim()
    directly = [await look_ups.find(one) for one in ("a", "b", "c")]
    look_ups._ask = None
    with statements() as sent:
        assert [await look_ups.find(one) for one in ("a", "b", "c")] == directly
    assert len(sent) == 3


async def test_ids_that_are_asked_for_meanwhile_are_one_query(database: Database, look_ups: LookUps) -> None:
    await committed(database, "1", "3", "5")
    asked = queries(look_ups)
    found = await asyncio.gather(*(look_ups.find(str(number % 6)) for number in range(12)))
    assert [one is not None for one in found] == [False, True] * 6
    assert asked == [["0", "1", "2", "3", "4", "5"]]
    first = asyncio.create_task(look_ups.find("0"))
    await until(lambda: len(asked) == 2)
    await asyncio.gather(first, *(look_ups.find(str(number)) for number in range(1, 6)))
    assert asked[1:] == [["0"], ["1", "2", "3", "4", "5"]]


async def test_a_query_that_has_begun_answers_nobody_who_asks_later(database: Database, look_ups: LookUps) -> None:
    asked = queries(look_ups)
    ask: Any = look_ups._ask
    may_end = asyncio.Event()

    async def slow(driver: Any, ids: list[str]) -> Any:
        rows = await ask(driver, ids)
        await may_end.wait()
        return rows

    look_ups._ask = slow
    early = asyncio.create_task(look_ups.find("a"))
    await until(lambda: asked)
    await committed(database, "a")
    late = asyncio.create_task(look_ups.find("a"))
    await asyncio.sleep(0)
    may_end.set()
    assert await early is None
    assert await late is not None


async def test_one_who_leaves_takes_nothing_from_the_others(database: Database, look_ups: LookUps) -> None:
    await committed(database, "a")
    asking = [asyncio.create_task(look_ups.find("a")) for _ in range(3)]
    await asyncio.sleep(0)
    asking[1].cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer).__name__ == "CancelledError" for answer in answers] == [False, True, False]
    assert answers[0] == answers[2] is not None


async def test_a_connection_that_fails_is_replaced_and_nobody_notices(database: Database, look_ups: LookUps) -> None:
    await committed(database, "a")
    assert await look_ups.find("a") is not None
    closed = look_ups._driver
    await closed.close()
    assert await look_ups.find("a") is not None
    assert await look_ups.find("a") is not None
    assert look_ups._driver is not closed


async def test_a_look_up_that_was_planned_while_the_log_was_empty_does_not_read_all_of_it_later(
    database: Database, look_ups: LookUps
) -> None:
    if not database.url.startswith("postgresql"):
        pytest.skip("SQLite plans by the indices that there are")
    for _ in range(7):  # from the sixth on the plan is one for all ids
        assert await look_ups.find("a") is None
    plan = await look_ups._driver.fetch(f"EXPLAIN {_ASYNCPG.replace('$1', 'ARRAY[now()::text]')}")
    assert [row for row in plan if "Seq Scan" in row[0]] == []
    assert len([row for row in plan if "Index" in row[0]]) >= 2


async def test_a_database_that_cannot_be_reached_is_said_to_be_unavailable() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    look_ups = database.engines().look_ups
    answers = await asyncio.gather(*(look_ups.find(one) for one in "ab"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 2
    await database.dispose()
