"""Counts and lists by prefix: which keys are in them, in which order, in pages, and by which index."""

from __future__ import annotations

import random
import re

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from fusion_cluster import Database
from fusion_cluster.database.schema import KEY_VALUES
from fusion_cluster.host import Host
from fusion_cluster.services import KeyValueStore
from fusion_cluster.services.key_value_store import MAX_KEYS_AT_ONCE
from tests.apps.panel import new_app
from tests.statements import Statement, statements

pytest_plugins = ["tests.apps.built_in_services"]

LAST = "\U0010ffff"
CHARACTERS = ["a", "A", "b", "/", "%", "_", "\\", "é", "e", "\ud7ff", "\ue000", "🦉", LAST, "*", " "]


@pytest.fixture
def store(host: Host) -> KeyValueStore:
    return host.service(KeyValueStore)


def begins(keys: list[str], prefix: str) -> tuple[str, ...]:
    return tuple(sorted(key for key in keys if key.startswith(prefix)))


async def pages(store: KeyValueStore, prefix: str, limit: int) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    after = ""
    while len(page := await store.list(prefix, limit, after)) == limit:
        found.append(page)
        after = page[-1]
    return [*found, page]


async def test_a_prefix_is_any_text_and_means_the_keys_that_begin_with_it(store: KeyValueStore) -> None:
    keys = [
        "users/al",
        "users/alice",
        "users/bob",
        "users/al/a",
        "users",
        "Users/al",
        "users_al",
        "usersXal",
        "100%",
        "1000",
    ]
    await store.set_many(dict.fromkeys(keys, b""))
    for prefix in [
        "users/al",
        "users/",
        "users",
        "user",
        "users_",
        "Users",
        "users/al/",
        "100%",
        "100",
        "%",
        "_",
        "/",
        "",
    ]:
        assert await store.list(prefix) == begins(keys, prefix), prefix
        assert await store.count(prefix) == len(begins(keys, prefix)), prefix


@pytest.mark.parametrize("seed", range(3))
async def test_random_keys_are_counted_and_listed_as_python_would(store: KeyValueStore, seed: int) -> None:
    rng = random.Random(seed)
    keys = list({"".join(rng.choices(CHARACTERS, k=rng.randint(1, 5))) for _ in range(300)})
    await store.set_many(dict.fromkeys(keys, b""))
    prefixes = [key[: rng.randint(0, len(key))] for key in rng.sample(keys, 40)]
    for prefix in [*prefixes, LAST, LAST * 3, "a" + LAST, "\ud7ff", "\ud7ff" + LAST, "nothing"]:
        expected = begins(keys, prefix)
        assert await store.list(prefix, 500) == expected, prefix
        assert await store.count(prefix) == len(expected), prefix
        limit = rng.randint(1, 20) + len(expected) // 5  # a few pages
        assert sum(await pages(store, prefix, limit), ()) == expected, (prefix, limit)


async def test_a_huge_list_comes_in_pages(store: KeyValueStore) -> None:
    keys = [f"item/{number:05}" for number in range(2_500)]
    for start in range(0, len(keys), MAX_KEYS_AT_ONCE):
        await store.set_many(dict.fromkeys(keys[start : start + MAX_KEYS_AT_ONCE], b""))
    found = await pages(store, "item/", MAX_KEYS_AT_ONCE)
    assert [len(page) for page in found] == [1000, 1000, 500]
    assert list(sum(found, ())) == keys
    assert await store.list("item/", 2, "item/00007") == ("item/00008", "item/00009")
    assert await store.list("item/", 2, "item/00007x") == ("item/00008", "item/00009")  # no key has to be there
    assert await store.list("item/", 2, "item/02499") == ()
    assert await store.list("item/", 2, "a") == ("item/00000", "item/00001")
    assert await store.list("item/", 2, "z") == ()
    assert await store.count() == 2_500


async def test_the_range_is_read_from_the_index_whatever_the_collation_of_the_database(database_url: str) -> None:
    async with new_app(database_url).local() as host:
        store = host.service(KeyValueStore)
        await store.set_many({f"{letter}/{number}": b"" for letter in "abc" for number in range(300)})
        with statements() as sent:
            await store.list("b/", 10, "b/5")
            await store.count("b/")
        listing, counting = [statement for statement in sent if "fusion_key_values" in statement.text]
        for statement in (listing, counting):
            plan = await explained(store.database, statement)
            if database_url.startswith("postgresql"):
                assert re.search("Index Cond: .*key.* >= 'b/'.* AND .*key.* < 'b0'", plan)
            else:
                assert (
                    "SEARCH fusion_key_values USING INDEX sqlite_autoindex_fusion_key_values_1 (key>? AND key<?)"
                    in plan
                )
            assert "Sort" not in plan  # PostgreSQL
            assert "TEMP B-TREE" not in plan  # SQLite


async def explained(database: Database, statement: Statement) -> str:
    async with database.engines().writing.connect() as connection:
        is_postgresql = connection.dialect.name == "postgresql"
        if is_postgresql:
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN" if is_postgresql else "EXPLAIN QUERY PLAN"
        rows = await connection.exec_driver_sql(f"{explain} {statement.text}", statement.parameters)
        return "\n".join(str(row[-1]) for row in rows)


async def test_keys_and_user_ids_are_compared_byte_by_byte_on_postgresql(postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.prepare()
    async with database.session() as session:
        rows = await session.execute(
            text("SELECT column_name, collation_name FROM information_schema.columns WHERE table_name LIKE 'fusion_%'")
        )
        collations = {(column, collation) for column, collation in rows if column in ("key", "session_id", "user_id")}
    assert collations == {
        ("key", None),
        ("key", "C"),
        ("session_id", "C"),
        ("user_id", "C"),
    }  # an event's key is binary
    await database.dispose()


def test_the_column_is_declared_so_that_it_is_compared_byte_by_byte() -> None:
    assert 'COLLATE "C"' in KEY_VALUES.c.key.type.compile(postgresql.dialect())  # type: ignore[no-untyped-call]
