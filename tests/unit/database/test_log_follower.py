"""Following the operation log: hosts on one database have nothing in common but the log, and see what others commit."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from fusion_cluster import LogOptions
from fusion_cluster.database import log_follower, log_readers
from fusion_cluster.database.log_trimmer import LogTrimmer
from fusion_cluster.graph.why.cause import UNKNOWN
from tests.apps.shelves import Gate, ShelfRow, Shelves, Stock, shelves_host, shelves_hosts
from tests.following import OFTEN, SELDOM, follower_of, has_read
from tests.log_entries import logged, write_entry, writing
from tests.waiting import until

pytest_plugins = ["tests.databases"]

BRIEFLY = LogOptions(period_s=0.05, retention_s=1e-6)


class Deaf:
    """A wake that hears nothing: the period is all there is."""

    async def wait(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), timeout_s)

    def notify(self) -> None:
        pass

    async def close(self) -> None:
        pass


# -- what others commit ------------------------------------------------------------------------------------------------
async def test_what_one_host_commits_the_other_sees_within_the_period(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_follower, "new_wake", lambda engines, runtime: Deaf())
    async with shelves_hosts(database_url, log=OFTEN) as (here, there):
        shelves = there.service(Shelves)
        total = shelves.total(1, 2)
        assert await total == 0
        await here.service(Shelves).put(1, 5)
        await asyncio.wait_for(total.when_invalidated(), 5)
        assert await shelves.total(1, 2) == 5
        assert shelves.log == ["amount(1)", "amount(2)", "amount(1)"]


async def test_followers_are_woken_long_before_the_period_is_over(database_url: str) -> None:
    async with shelves_hosts(database_url, 3, log=SELDOM) as (here, *others):
        for amount in range(1, 4):
            shown = [other.service(Shelves).amount(1) for other in others]
            for node in shown:
                await node
            await here.service(Shelves).put(1, amount)
            for node in shown:
                await asyncio.wait_for(node.when_invalidated(), 5)
            assert [await other.service(Shelves).amount(1) for other in others] == [amount, amount]


async def test_what_a_script_commits_outside_of_a_command_is_followed_too(database_url: str) -> None:
    async with shelves_hosts(database_url, log=SELDOM) as (here, there):
        shown, shelves = there.service(Shelves).amount(1), here.service(Shelves)
        await shown
        async with shelves.database.operation() as operation:
            operation.session.add(ShelfRow(id=1, amount=3))
            shelves.amount.invalidate(1)
        await asyncio.wait_for(shown.when_invalidated(), 5)
        assert await there.service(Shelves).amount(1) == 3


async def test_a_rolled_back_command_is_nobodys_business(database_url: str) -> None:
    async with shelves_hosts(database_url, log=OFTEN) as (here, there):
        shown = there.service(Shelves).amount(1)
        await shown
        with pytest.raises(Exception, match="No row"):
            await here.service(Stock).clear(1)
        await here.service(Shelves).put(2, 1)
        await has_read(there, 1)
        assert shown.is_consistent
        assert follower_of(there).entry_count == 1


async def test_the_cause_is_the_command_as_told_by_the_log(database_url: str) -> None:
    async with shelves_hosts(database_url, log=SELDOM) as (here, there):
        shown = there.service(Shelves).amount(1)
        await shown
        await here.service(Shelves).put(1, 5)
        await asyncio.wait_for(shown.when_invalidated(), 5)
        why = str(there.why("Shelves.amount", 1))
        assert f"the operation log, written by {here.peer_id}" in why
        assert "Shelves.put(1, 5)" in why


async def test_keys_of_another_version_of_the_app_are_left_out_and_the_others_applied(database_url: str) -> None:
    async with shelves_hosts(database_url, log=SELDOM) as (here, there):
        shown = there.service(Shelves).amount(1)
        await shown
        (known,) = here.logged_keys({shown.key: UNKNOWN})
        keys = [("Shelves.weight", known[1], ""), ("Crates.amount", known[1], ""), (known[0], b"\x91\xa1x", ""), known]
        async with writing(here.service(Shelves).database) as writer:
            await write_entry(writer.session, "of the next version", keys=keys)
        await here.service(Shelves).put(2, 1)
        await asyncio.wait_for(shown.when_invalidated(), 5)


# -- each once ---------------------------------------------------------------------------------------------------------
async def test_what_a_host_commits_itself_is_not_applied_again_from_the_log(database_url: str) -> None:
    async with shelves_host(database_url, log=OFTEN) as host:
        shelves = host.service(Shelves)
        for amount in range(1, 4):
            await shelves.put(1, amount)
            shown = shelves.amount(1)
            assert await shown == amount
            await has_read(host, amount)
            assert shown.is_consistent
        assert shelves.log == ["amount(1)"] * 3


async def test_what_the_log_has_told_is_not_applied_again_by_a_push(database_url: str) -> None:
    async with shelves_hosts(database_url, log=OFTEN) as (here, there):
        shelves = there.service(Shelves)
        shown = shelves.amount(1)
        await shown
        await here.service(Shelves).put(1, 5)
        await asyncio.wait_for(shown.when_invalidated(), 5)
        again = shelves.amount(1)
        assert await again == 5
        (operation_id,) = await logged(shelves.database)
        await there.publish({again.key: UNKNOWN}, True, str(operation_id))
        assert again.is_consistent
        await there.publish({again.key: UNKNOWN}, True, "another")
        assert not again.is_consistent


# -- failures ----------------------------------------------------------------------------------------------------------
async def test_a_log_that_cannot_be_read_for_a_while_is_caught_up_with(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with shelves_hosts(database_url, log=OFTEN) as (here, there):
        shown = [there.service(Shelves).amount(number) for number in (1, 2)]
        for node in shown:
            await node
        failures = 0

        async def fail(*_: object) -> None:
            nonlocal failures
            failures += 1
            raise ConnectionRefusedError("away")

        with monkeypatch.context() as patch:
            patch.setattr(log_readers, "_rows", fail)
            await here.service(Shelves).put(1, 5)
            await here.service(Shelves).put(2, 6)
            await until(lambda: failures > 2)
            assert all(node.is_consistent for node in shown)
        await asyncio.wait_for(asyncio.gather(*(node.when_invalidated() for node in shown)), 10)
        assert await there.service(Shelves).total(1, 2) == 11
    complaints = [record.message for record in caplog.records if "cannot be read" in record.message]
    assert 1 <= len(complaints) <= 2, "each follower says so once, not at each attempt"


async def test_a_wake_that_fails_ends_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shelves_hosts(database_url, log=OFTEN) as (here, there):
        shown, failures = there.service(Shelves).amount(1), 0
        await shown

        async def fail(timeout_s: float) -> None:
            nonlocal failures
            failures += 1
            raise RuntimeError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(follower_of(there)._wake, "wait", fail)
            await until(lambda: failures > 1)
            await here.service(Shelves).put(1, 5)
        await asyncio.wait_for(shown.when_invalidated(), 10)


async def test_what_cannot_be_applied_puts_everything_out_of_date(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with shelves_hosts(database_url, log=SELDOM) as (here, there):
        shown = there.service(Shelves).amount(7)
        await shown

        def fail(entries: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(follower_of(there), "_on_entries", fail)
        await here.service(Shelves).put(1, 5)
        await asyncio.wait_for(shown.when_invalidated(), 5)
    assert "cannot be applied" in caplog.text


async def test_a_host_that_is_behind_the_trim_takes_all_that_it_has_for_out_of_date(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shelves_hosts(database_url, log=BRIEFLY) as (here, there):
        shown = [there.service(Shelves).amount(number) for number in (1, 2)]
        for node in shown:
            await node
        reader, gate = follower_of(there)._reader, Gate()
        read = reader.read

        async def held() -> object:
            await gate.pass_through()
            return await read()

        monkeypatch.setattr(reader, "read", held)
        await gate.reached.wait()
        await here.service(Shelves).put(1, 5)
        assert await LogTrimmer(here.service(Shelves).database).trim() == 1
        gate.opened.set()
        await asyncio.wait_for(asyncio.gather(*(node.when_invalidated() for node in shown)), 5)
        assert await there.service(Shelves).total(1, 2) == 5
        kept = there.service(Shelves).amount(2)
        await here.service(Shelves).put(3, 1)
        await has_read(there, 1)
        assert kept.is_consistent
