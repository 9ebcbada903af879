"""Readers and writers at the same time, in one app and in two on one database: all end on what is there."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import select

from fusion_cluster.database.schema import KEY_VALUES
from fusion_cluster.host import Host, LocalHost
from fusion_cluster.services import KeyValueStore
from fusion_cluster.services.shared_expiry import STEP_S
from tests.apps.panel import Panel, new_app
from tests.waiting import until

pytest_plugins = ["tests.apps.built_in_services"]


@pytest.fixture
def store(host: Host) -> KeyValueStore:
    return host.service(KeyValueStore)


def same_as(expected: object) -> Callable[[object], bool]:
    return lambda value: value == expected


async def test_readers_that_race_a_writer_never_go_back_and_end_on_the_last_value(
    store: KeyValueStore, host: Host
) -> None:
    panel = host.service(Panel)
    is_over = asyncio.Event()

    async def read() -> list[int]:
        seen: list[int] = []
        while not is_over.is_set():
            value = await store.get("counter")
            seen.append(int(value or b"-1"))
            await asyncio.sleep(0)
        return seen

    readers = [asyncio.create_task(read()) for _ in range(20)]
    for number in range(40):
        await store.set("counter", str(number).encode())
        assert await store.get("counter") == str(number).encode()
        assert await panel.title("counter") == f"counter: b'{number}'"
    is_over.set()
    for seen in await asyncio.gather(*readers):
        assert seen == sorted(seen)
    assert await store.get("counter") == b"39"


async def test_counts_and_lists_end_on_what_many_writers_have_left(store: KeyValueStore) -> None:
    """Keys come, go, expire and come again from several places at once, while readers keep what they have read."""
    rng = random.Random(1)
    folders = ["a/", "a/b/", "c/"]
    is_over = asyncio.Event()

    async def write(writer: int) -> None:
        for _ in range(15):
            key = f"{rng.choice(folders)}{rng.randint(0, 5)}"
            match rng.randint(0, 4):
                case 0:
                    await store.remove(key)
                case 1:
                    await store.set(key, b"", rng.choice([0.01, 0.1, 100]))
                case 2:
                    await store.set_many({f"{folder}{writer}": b"" for folder in folders})
                case _:
                    await store.set(key, b"")

    async def read() -> None:
        while not is_over.is_set():
            folder = rng.choice([*folders, "", "a"])
            await store.count(folder)
            await store.list(folder)
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(5)]
    await asyncio.gather(*(write(number) for number in range(8)))
    await store.set("last", b"", 0.15)
    is_over.set()
    await asyncio.gather(*readers)
    await store.get("last").when(lambda value: value is None)  # it expires, and the others have before

    async with store.database.session() as session:
        rows = await session.execute(select(KEY_VALUES.c.key, KEY_VALUES.c.expires_at))
        there = sorted(key for key, expires_at in rows if expires_at is None or expires_at > time.time())
    for prefix in [*folders, "", "a"]:
        expected = tuple(key for key in there if key.startswith(prefix))
        async with asyncio.timeout(STEP_S + 4):  # counts and lists see an end up to a step later
            await store.list(prefix).when(same_as(expected))
            await store.count(prefix).when(same_as(len(expected)))
    for key in [f"{folder}{number}" for folder in folders for number in range(8)]:
        assert (await store.get(key) is not None) == (key in there)


async def test_commands_that_set_the_same_keys_in_any_order_get_through(store: KeyValueStore) -> None:
    keys = [f"k/{number}" for number in range(20)]
    rng = random.Random(2)

    async def write(writer: int) -> None:
        mine = rng.sample(keys, len(keys))
        await store.set_many({key: str(writer).encode() for key in mine})

    await asyncio.gather(*(write(number) for number in range(10)))
    values = {await store.get(key) for key in keys}
    assert len(values) == 1  # one of them was the last, with all of its keys
    assert await store.count("k/") == len(keys)


# -- two apps on one database ------------------------------------------------------------------------------------------
@pytest.fixture
async def other(database_url: str, host: Host) -> AsyncIterator[LocalHost]:
    """Another process's app on the same database, as far as the graph knows."""
    async with new_app(database_url).local() as other:
        yield other
        other.graph.validate()


async def test_what_one_app_changes_another_on_the_same_database_sees(
    store: KeyValueStore, host: Host, other: LocalHost
) -> None:
    theirs, panel = other.service(KeyValueStore), other.service(Panel)
    assert (await theirs.get("a/1"), await panel.summary("a/"), await theirs.list()) == (None, "0 of a/", ())
    summary = panel.summary("a/")
    await store.set("a/1", b"1")
    await until(lambda: not summary.is_consistent, what="that the other has read the log")
    assert (await theirs.get("a/1"), await panel.summary("a/"), await theirs.list()) == (b"1", "1 of a/", ("a/1",))
    mine = store.get("a/1")
    await mine
    await theirs.remove("a/1")
    await until(lambda: not mine.is_consistent, what="that this one has read the log")
    assert (await store.get("a/1"), await store.count("a/")) == (None, 0)


async def test_a_value_that_one_app_lets_expire_expires_in_the_other(store: KeyValueStore, other: LocalHost) -> None:
    theirs = other.service(KeyValueStore)
    await store.set("a", b"1", 1)  # long enough for two reads on a busy machine
    assert (await theirs.get("a"), await theirs.count()) == (b"1", 1)
    await theirs.get("a").when(lambda value: value is None)
    await theirs.count().when(lambda count: count == 0)
    assert await theirs.list() == ()
