"""The key-value store: what it keeps, and whom a change concerns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fusion_cluster import InvalidArgument, gather
from fusion_cluster.host import Host
from fusion_cluster.services import KeyValueStore
from fusion_cluster.services.key_value_store import MAX_KEY_CHARACTERS, MAX_KEYS_AT_ONCE, MAX_VALUE_BYTES
from fusion_cluster.testing import LocalCluster
from tests.apps.panel import Panel, new_app
from tests.statements import statements

pytest_plugins = ["tests.apps.built_in_services"]
pytestmark = pytest.mark.any_database


@pytest.fixture
def store(host: Host) -> KeyValueStore:
    return host.service(KeyValueStore)


@pytest.fixture
def panel(host: Host) -> Panel:
    return host.service(Panel)


# -- what it keeps -----------------------------------------------------------------------------------------------------
async def test_a_key_has_the_value_that_it_was_given_last(store: KeyValueStore) -> None:
    assert await store.get("greeting") is None
    await store.set("greeting", b"hello")
    assert await store.get("greeting") == b"hello"
    await store.set("greeting", b"")
    assert await store.get("greeting") == b""
    assert await store.remove("greeting") is True
    assert await store.get("greeting") is None
    assert await store.remove("greeting") is False


@pytest.mark.both_databases
async def test_keys_that_look_alike_are_different(store: KeyValueStore) -> None:
    alike = ["a", "A", "a ", " a", "á", "a\u0301", "ａ", "a/", "/a", "/", "%", "_", "a\\", "'", '"', "🦉", "\n"]
    for number, key in enumerate(alike):
        await store.set(key, str(number).encode())
    assert [await store.get(key) for key in alike] == [str(number).encode() for number in range(len(alike))]
    assert await store.count() == len(alike)


@pytest.mark.both_databases
async def test_the_longest_key_and_the_largest_value_are_kept(store: KeyValueStore) -> None:
    key, value = "🦉" * MAX_KEY_CHARACTERS, bytes(range(256)) * (MAX_VALUE_BYTES // 256)
    await store.set(key, value)
    assert await store.get(key) == value
    assert await store.list() == (key,)


@pytest.mark.both_databases
async def test_many_keys_are_set_at_once_or_none_of_them(store: KeyValueStore) -> None:
    await store.set("b", b"old")
    await store.set_many({"c": b"3", "a": b"1", "b": b"2"})
    assert [await store.get(key) for key in "abc"] == [b"1", b"2", b"3"]
    with pytest.raises(InvalidArgument):
        await store.set_many({"a": b"new", "d": b"new", "": b"a key of nothing"})
    assert [await store.get(key) for key in "abcd"] == [b"1", b"2", b"3", None]
    assert await store.list() == ("a", "b", "c")
    most = {f"many/{number:04}": b"" for number in range(MAX_KEYS_AT_ONCE)}
    await store.set_many(most)
    assert await store.count("many/") == MAX_KEYS_AT_ONCE


async def test_a_command_that_is_tried_again_under_its_id_gives_the_same_result(
    store: KeyValueStore, host: Host
) -> None:
    await store.set("a", b"1")
    remove = host.command("KeyValueStore.remove")
    assert (await host.carry_out(remove.invocation(("a",), "once"))).value is True
    await store.set("a", b"2")
    again = await host.carry_out(remove.invocation(("a",), "once"))
    assert (again.value, again.is_replayed) == (True, True)
    assert await store.get("a") == b"2"


# -- whom a change concerns --------------------------------------------------------------------------------------------
async def test_what_depends_on_a_key_follows_it(store: KeyValueStore, panel: Panel) -> None:
    assert await panel.title("a") == "a: None"
    other = panel.title("b")
    await other
    await store.set("a", b"1")
    assert await panel.title("a") == "a: b'1'"
    await store.remove("a")
    assert await panel.title("a") == "a: None"
    assert other.is_consistent


async def test_a_new_value_for_a_key_that_is_there_concerns_no_count_and_no_list(
    store: KeyValueStore, panel: Panel
) -> None:
    await store.set("users/7/theme", b"dark")
    before = [
        store.count(),
        store.count("users/"),
        store.count("users/7/th"),
        store.list("users/"),
        store.list("users/7/", 1),
        panel.summary("users/"),
    ]
    for computed in before:
        await computed
    await store.set("users/7/theme", b"light")
    await store.set_many({"users/7/theme": b"dark"})
    assert all(computed.is_consistent for computed in before)
    assert await store.get("users/7/theme") == b"dark"


async def test_a_key_that_comes_or_goes_concerns_the_folders_that_it_is_in_and_no_other(store: KeyValueStore) -> None:
    concerned = ["", "users/", "users/7/", "users/7/t", "users/7", "users/al", "u"]
    others = ["users/8/", "users/77/", "users/7/theme/", "things/", "things/u", "users//"]

    async def counted() -> dict[str, Any]:
        computeds = {prefix: store.count(prefix) for prefix in concerned + others}
        for computed in computeds.values():
            await computed
        return computeds

    async def changes(change: Any) -> list[str]:
        before = await counted()
        await change
        return [prefix for prefix, computed in before.items() if not computed.is_consistent]

    assert await changes(store.set("users/7/theme", b"dark")) == concerned
    assert await changes(store.remove("users/7/theme")) == concerned
    assert await changes(store.set_many({"users/7/theme": b"dark"})) == concerned
    assert await changes(store.remove("users/7/none")) == []


async def test_count_and_list_know_of_what_a_command_has_done_when_it_returns(
    store: KeyValueStore, panel: Panel
) -> None:
    for number in range(1, 6):
        await store.set(f"a/{number}", b"")
        assert await store.count("a/") == await store.count() == number
        assert len(await store.list("a/")) == number
        assert await panel.summary("a/") == f"{number} of a/"
    for number in range(5, 0, -1):
        await store.remove(f"a/{number}")
        assert await store.count("a/") == number - 1
        assert len(await store.list("", 3)) == min(number - 1, 3)


async def test_a_service_of_ones_own_may_depend_on_the_members_of_a_folder(store: KeyValueStore) -> None:
    members = store.membership("a/")
    await members
    await store.set("b/1", b"")
    assert members.is_consistent
    await store.set("a/1", b"")
    assert not members.is_consistent


# -- sharding ----------------------------------------------------------------------------------------------------------
async def test_keys_live_on_all_shards_and_a_list_on_one(database_url: str) -> None:
    async with LocalCluster(new_app(database_url), shards=3) as cluster:
        owners = {cluster.owner("KeyValueStore.get", f"key {number}").address.shard_id for number in range(50)}
        assert owners == {0, 1, 2}
        pages = {cluster.owner("KeyValueStore.list", "a/", limit, after) for limit in (1, 2) for after in ("", "a/b")}
        assert (
            pages == {cluster.owner("KeyValueStore.count", "a/")} == {cluster.owner("KeyValueStore.membership", "a/")}
        )


@pytest.mark.both_databases
async def test_look_ups_of_one_turn_are_one_query(database_url: str) -> None:
    async with new_app(database_url).local() as host:
        store = host.service(KeyValueStore)
        await store.set("a", b"1")
        with statements() as sent:
            assert await gather(*(store.get(key) for key in "abc")) == [b"1", None, None]
        assert len([statement for statement in sent if "fusion_key_values" in statement.text]) == 1


# -- bad input ---------------------------------------------------------------------------------------------------------
REFUSED: list[tuple[Callable[[Any], Awaitable[Any]], str]] = [
    (lambda store: store.get(""), "key"),
    (lambda store: store.get("k" * (MAX_KEY_CHARACTERS + 1)), "key"),
    (lambda store: store.get("nul\0"), "key"),
    (lambda store: store.get("half \ud83d"), "key"),
    (lambda store: store.set("", b""), "key"),
    (lambda store: store.set("k\0", b""), "key"),
    (lambda store: store.set("k", bytes(MAX_VALUE_BYTES + 1)), "value"),
    (lambda store: store.set("k", b"", 0), "expires_in_s"),
    (lambda store: store.set("k", b"", -1), "expires_in_s"),
    (lambda store: store.set("k", b"", float("inf")), "expires_in_s"),
    (lambda store: store.set("k", b"", float("nan")), "expires_in_s"),
    (lambda store: store.set_many({}), "values"),
    (lambda store: store.set_many({"": b""}), "values"),
    (lambda store: store.set_many({"k": bytes(MAX_VALUE_BYTES + 1)}), "values"),
    (lambda store: store.set_many({str(number): b"" for number in range(MAX_KEYS_AT_ONCE + 1)}), "values"),
    (lambda store: store.set_many({"k": b""}, -1), "expires_in_s"),
    (lambda store: store.remove(""), "key"),
    (lambda store: store.count("p" * (MAX_KEY_CHARACTERS + 1)), "prefix"),
    (lambda store: store.count("p\0"), "prefix"),
    (lambda store: store.list("p\0"), "prefix"),
    (lambda store: store.list("", 0), "limit"),
    (lambda store: store.list("", MAX_KEYS_AT_ONCE + 1), "limit"),
    (lambda store: store.list("", 1, "\0"), "after"),
    (lambda store: store.membership("no folder"), "folder"),
    (lambda store: store.remove_expired(0), "limit"),
    (lambda store: store.get(7), "key"),
    (lambda store: store.count(7), "prefix"),
    (lambda store: store.set("k", "text"), "value"),
]


async def test_what_cannot_be_is_refused_and_named(store: KeyValueStore) -> None:
    for number, (call, field) in enumerate(REFUSED):
        with pytest.raises(InvalidArgument) as caught:
            await call(store)
        assert caught.value.field == field, number
    assert await store.count() == 0
