"""Values with an end: they go out of date by themselves, and so do the counts and lists that they were in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from fusion_cluster.database.schema import KEY_VALUES
from fusion_cluster.graph import Computed
from fusion_cluster.host import Host
from fusion_cluster.services import KeyValueStore
from fusion_cluster.services.key_value_store import CLOCK_TOLERANCE_S
from fusion_cluster.services.shared_expiry import STEP_S
from tests.apps.panel import Panel
from tests.statements import statements
from tests.waiting import until

if TYPE_CHECKING:
    from tests.moving_time import MovingTime

pytest_plugins = ["tests.apps.built_in_services"]
pytestmark = pytest.mark.any_database


@pytest.fixture
def store(host: Host) -> KeyValueStore:
    return host.service(KeyValueStore)


async def read(*computeds: Computed[Any]) -> list[Computed[Any]]:
    for computed in computeds:
        await computed
    return list(computeds)


async def until_out_of_date(computeds: list[Computed[Any]]) -> None:
    await until(lambda: not any(computed.is_consistent for computed in computeds), what="that all are out of date")


async def row_count(store: KeyValueStore) -> int:
    async with store.database.session() as session:
        return int(await session.scalar(select(func.count()).select_from(KEY_VALUES)) or 0)


@pytest.mark.both_databases
async def test_a_value_expires_by_itself_and_with_it_all_that_depends_on_it(
    store: KeyValueStore, host: Host, moving_time: MovingTime
) -> None:
    panel = host.service(Panel)
    await store.set("a/1", b"1", 60)
    await store.set("a/2", b"2", 120)
    await store.set("a/3", b"3")
    first = await read(store.get("a/1"), panel.title("a/1"), panel.summary("a/"), store.list("a/"), store.count("a/1"))
    others = await read(
        store.get("a/2"), store.get("a/3"), store.list("a/3"), store.list("a/", 1, "a/2"), store.count("b/")
    )
    moving_time.advance(59)
    assert await store.get("a/1") == b"1"
    assert all(computed.is_consistent for computed in first + others)
    moving_time.advance(2)
    await until_out_of_date(first)
    assert await panel.title("a/1") == "a/1: None"
    assert await panel.summary("a/") == "2 of a/"
    assert await store.list("a/") == ("a/2", "a/3")
    assert all(computed.is_consistent for computed in others)
    moving_time.advance(60)
    await until_out_of_date(others[:1])
    assert await store.get("a/2") is None
    await until_out_of_date(await stale(store.count("a/")))
    assert await store.count("a/") == 1
    assert others[1].is_consistent
    moving_time.advance(1e6)
    assert await store.get("a/3") == b"3"
    assert others[1].is_consistent


async def stale(computed: Computed[Any]) -> list[Computed[Any]]:
    """The computed if it still is what it was before time was moved."""
    return [computed] if computed.has_output else []


async def test_nothing_is_computed_again_before_something_expires(
    store: KeyValueStore, moving_time: MovingTime
) -> None:
    await store.set("a", b"1", 3600)
    computeds = await read(store.get("a"), store.count(), store.list())
    for _ in range(35):
        moving_time.advance(100)
        await read(store.get("b"))
    assert all(computed.is_consistent for computed in computeds)


async def test_in_a_second_it_is_gone_without_anybodys_doing(store: KeyValueStore) -> None:
    """In real time, with timers as they are; of which a busy machine takes some for the first reads."""
    await store.set("a", b"1", 1)
    computeds = await read(store.get("a"), store.count(""), store.list(""))
    assert [computed.value for computed in computeds] == [b"1", 1, ("a",)]
    await until_out_of_date(computeds)
    assert (await store.get("a"), await store.count(""), await store.list("")) == (None, 0, ())


async def test_a_value_that_is_given_again_in_good_time_concerns_no_count_and_lives_on(
    store: KeyValueStore, moving_time: MovingTime
) -> None:
    await store.set("a", b"1", 60)
    counts = await read(store.count(), store.list())
    for number in range(20):
        moving_time.advance(30)
        await store.set("a", str(number).encode(), 60)
        assert await store.get("a") == str(number).encode()
        assert await store.count() == 1
        assert await store.list() == ("a",)
        if number == 0:
            assert all(computed.is_consistent for computed in counts)
    await store.set("a", b"for good")
    moving_time.advance(1e6)
    assert await store.get("a") == b"for good"
    assert await store.count() == 1


async def test_a_value_that_is_given_a_nearer_end_leaves_counts_then(
    store: KeyValueStore, moving_time: MovingTime
) -> None:
    await store.set("a", b"1")
    assert await store.count() == 1
    await store.set("a", b"2", 60)
    assert await store.count() == 1
    await store.set("a", b"3", 20)
    counts = await read(store.count(), store.list(), store.get("a"))
    moving_time.advance(21)
    await until_out_of_date(counts)
    assert (await store.count(), await store.list(), await store.get("a")) == (0, (), None)


@pytest.mark.both_databases
async def test_a_key_whose_time_is_over_comes_anew(store: KeyValueStore, moving_time: MovingTime) -> None:
    await store.set("a", b"1", 60)
    counts = await read(store.count(), store.list(), store.get("a"))
    moving_time.advance(61)
    await until_out_of_date(counts)
    assert await store.count() == 0
    assert await store.remove("a") is False
    await store.set("b", b"1", 60)
    moving_time.advance(61)
    await until_out_of_date(await stale(store.count()))
    assert await store.count() == 0
    await store.set("b", b"2")
    assert await store.count() == 1
    assert await store.get("b") == b"2"


async def test_close_to_its_end_a_key_that_is_set_again_may_have_gone_for_others(
    store: KeyValueStore, moving_time: MovingTime
) -> None:
    """Another host's clock may be ahead, and have counted without it: nobody would tell that host."""
    await store.set("a", b"1", 60)
    counts = await read(store.count(), store.list())
    moving_time.advance(60 - CLOCK_TOLERANCE_S - 2)
    await store.set("a", b"2", 60)
    assert all(computed.is_consistent for computed in counts)
    await store.set("b", b"1", CLOCK_TOLERANCE_S - 1)
    counts = await read(store.count(), store.list())
    await store.set("b", b"2", 60)
    moving_time.advance(STEP_S)
    await until_out_of_date(counts)
    assert (await store.count(), await store.list()) == (2, ("a", "b"))


async def test_keys_that_are_kept_alive_cost_their_count_nothing_for_each(
    store: KeyValueStore, moving_time: MovingTime
) -> None:
    """Twenty of them, each always close to its end: the count is computed once in a step, not for each."""
    with moving_time.standing_still():
        keys = [f"alive/{number:02}" for number in range(20)]
        for key in keys:
            await store.set(key, b"", 6)
            moving_time.advance(0.2)
        start_s = moving_time.wall()
        with statements() as sent:
            for key in keys * 2:
                await store.set(key, b"again", 6)
                assert await store.count("alive/") == len(keys)
                assert await store.list("alive/") == tuple(keys)
                moving_time.advance(0.2)
        steps = (moving_time.wall() - start_s) / STEP_S
        assert 0 < len([statement for statement in sent if "count(*)" in statement.text]) <= 2 * steps + 2
        pages = [text for text in map(repr, sent) if "LIMIT" in text and "FROM fusion_key_values" in text]
        assert 0 < len(pages) <= 2 * steps + 2


async def test_ends_that_come_one_after_the_other_are_seen_together_and_a_step_later_at_most(
    store: KeyValueStore, moving_time: MovingTime
) -> None:
    ends_s = []
    for number in range(20):
        ends_s.append(moving_time.wall() + 10 + number / 5)
        await store.set(f"a/{number:02}", b"", ends_s[-1] - moving_time.wall())
    await read(store.count())
    moving_time.advance(ends_s[0] - moving_time.wall() - 0.1)
    start_s = moving_time.wall()
    with statements() as sent:
        while moving_time.wall() < ends_s[-1] + STEP_S + 0.5:
            await asyncio.sleep(0)  # timers that are due end
            earliest_s = moving_time.wall() - STEP_S - 0.5
            count = await store.count()
            assert (
                sum(end_s > moving_time.wall() for end_s in ends_s)
                <= count
                <= sum(end_s > earliest_s for end_s in ends_s)
            )
            moving_time.advance(0.05)
    counted = len([statement for statement in sent if "count(*)" in statement.text])
    assert counted <= (moving_time.wall() - start_s) / STEP_S + 2
    await store.count().when(lambda count: count == 0)


@pytest.mark.both_databases
async def test_rows_whose_time_is_over_are_removed_when_that_is_asked_for(
    store: KeyValueStore, moving_time: MovingTime
) -> None:
    await store.set_many({f"old/{number:02}": b"" for number in range(25)}, 60)
    await store.set_many({"new": b"", "newer": b""}, 600)
    await store.set("good", b"")
    assert await store.remove_expired() == 0
    moving_time.advance(60 + CLOCK_TOLERANCE_S + 1)
    await until_out_of_date(await stale(store.count()))
    await store.set("old/07", b"again")
    reads = await read(store.count(), store.list(), store.get("old/01"), store.get("new"))
    assert reads[0].value == 4
    assert [await store.remove_expired(10) for _ in range(4)] == [10, 10, 4, 0]
    assert await row_count(store) == 4
    assert all(computed.is_consistent for computed in reads)
    assert await store.list() == ("good", "new", "newer", "old/07")
