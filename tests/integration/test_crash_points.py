"""kill -9 of a shard at each step of a command: its effect is there once, and no process serves what is not so.

On real processes. Nobody but the client's own retry, under the same id, and the operation log sets it right.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from fusion_cluster import Database
from fusion_cluster.client import Client, connect
from fusion_cluster.errors import CommandResultLost
from tests.apps.bank import (
    ACCOUNTS,
    LOG_PERIOD_S,
    OPENING_BALANCE,
    Receipts,
    open_bank,
    read_books,
)
from tests.faults.crash_points import POINTS
from tests.gateways import serving
from tests.processes.process_cluster import ProcessCluster
from tests.thorough import times
from tests.waiting import until

SLOW_COMMITS = (
    "CREATE FUNCTION take_your_time() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END'",
    "CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON receipts DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION take_your_time()",
)

pytest_plugins = ["tests.databases", "tests.processes.zygotes"]


DATABASES = ("sqlite", "postgresql")
PLACES = [(kind, point) for number, point in enumerate(POINTS) for kind in times((DATABASES[number % 2],), DATABASES)]
"""The databases take turns; `THOROUGH=1` crashes at each point on both."""


@pytest.fixture
async def cluster(zygote: subprocess.Popen[bytes], database_url: str) -> AsyncIterator[ProcessCluster]:
    await open_bank(database_url)
    async with ProcessCluster(zygote, database_url) as cluster:
        yield cluster


@asynccontextmanager
async def through_a_gateway(cluster: ProcessCluster) -> AsyncIterator[Client]:
    """A client of a gateway that is in this process, in front of the driver."""
    async with serving(cluster.host) as served, connect(served.gateway.address, timeout_s=20) as client:
        yield client


def three_owners(cluster: ProcessCluster) -> tuple[int, int, str]:
    """Two accounts and a receipt's number, each on another shard."""
    source = 0
    home = cluster.owner("Accounts.balance", source)
    target = next(i for i in range(ACCOUNTS) if cluster.owner("Accounts.balance", i) != home)
    taken = {home, cluster.owner("Accounts.balance", target)}
    numbers = (f"receipt-{i}" for i in itertools.count())
    return source, target, next(number for number in numbers if cluster.owner("Receipts.times", number) not in taken)


@pytest.mark.parametrize(("database_url", "point"), PLACES, indirect=["database_url"])
async def test_a_shard_that_dies_there_carries_the_command_out_once_and_leaves_nothing_stale(
    cluster: ProcessCluster, database_url: str, point: str
) -> None:
    await cluster.read_all()
    source, target, number = three_owners(cluster)
    assert await cluster.host.service(Receipts).times(number) == 0
    await cluster.shard(cluster.owner("Accounts.transfer", source, target, 30, number)).ask("arm", point)
    async with through_a_gateway(cluster) as client:
        left = await client.execute("Accounts.transfer", source, target, 30, number, command_id=number)
    assert cluster.deaths == 1
    assert left == OPENING_BALANCE - 30

    books = await read_books(database_url)
    books.check()
    assert books.times == {number: 1}
    assert (books.balances[source], books.balances[target]) == (OPENING_BALANCE - 30, OPENING_BALANCE + 30)
    assert await cluster.check(books) > ACCOUNTS, "the survivors have kept what has not changed"
    await cluster.read_all()
    assert await cluster.host.service(Receipts).times(number) == 1
    await cluster.check(books)


async def test_a_shard_whose_successors_die_too_carries_the_command_out_once(
    cluster: ProcessCluster, database_url: str
) -> None:
    """One incarnation after the other, each a step further than the one before."""
    await cluster.read_all()
    source, target, number = three_owners(cluster)
    home = cluster.owner("Accounts.transfer", source, target, 30, number)
    first, *others = ("entry written", "committed", "in the replay", "before the first push")
    cluster.crash_points[home] = others
    await cluster.shard(home).ask("arm", first)
    async with through_a_gateway(cluster) as client:
        assert await client.execute("Accounts.transfer", source, target, 30, number, command_id=number) == 70
    assert cluster.deaths == 4
    books = await read_books(database_url)
    books.check()
    assert books.times == {number: 1}
    await cluster.check(books)


async def test_an_owner_that_dies_when_it_is_told_has_a_successor_that_is_told(
    cluster: ProcessCluster, database_url: str
) -> None:
    await cluster.read_all()
    source, target, number = three_owners(cluster)
    await cluster.shard(cluster.owner("Accounts.balance", target)).ask("arm", "before it applies what it is told")
    async with through_a_gateway(cluster) as client:
        assert await client.execute("Accounts.transfer", source, target, 30, number, command_id=number) == 70
    assert cluster.deaths == 1
    await cluster.check(await read_books(database_url))


@pytest.mark.parametrize("point", ["in the commit", "committed", "before the outcome is recorded", "before the answer"])
async def test_the_result_of_natural_code_survives_its_process(
    cluster: ProcessCluster, database_url: str, point: str
) -> None:
    await cluster.read_all()
    await cluster.shard(cluster.owner("Accounts.balance", 3)).ask("arm", point)
    async with through_a_gateway(cluster) as client:
        balance = await client.execute("Accounts.deposit_as_one_does", 3, 5, "natural", command_id="natural")
        assert balance == OPENING_BALANCE + 5
    books = await read_books(database_url)
    books.check()
    assert books.times == {"natural": 1}
    assert cluster.deaths == (0 if point == "before the outcome is recorded" else 1), "it is recorded only once"
    await cluster.check(books)


async def test_a_result_that_was_not_recorded_with_the_commit_is_lost_with_the_process(
    cluster: ProcessCluster, database_url: str
) -> None:
    await cluster.read_all()
    home = cluster.shard(cluster.owner("Accounts.balance", 3))
    await home.ask("arm", "before the outcome is recorded")
    async with through_a_gateway(cluster) as client:
        with pytest.raises(CommandResultLost):
            await client.execute("Accounts.deposit_without_a_word", 3, 5, "wordless", command_id="wordless")
    books = await read_books(database_url)
    books.check()
    assert books.times == {"wordless": 1}
    await cluster.check(books)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_write_that_is_torn_is_no_commit(cluster: ProcessCluster, database_url: str) -> None:
    """SQLite's write-ahead log ends in half a page."""
    await cluster.read_all()
    await cluster.shard(cluster.owner("Accounts.balance", 3)).ask("arm", "in a write of the commit")
    async with through_a_gateway(cluster) as client:
        assert await client.execute("Accounts.deposit", 3, 5, "torn", command_id="torn") == OPENING_BALANCE + 5
    assert cluster.deaths == 1
    books = await read_books(database_url)
    books.check()
    assert books.times == {"torn": 1}
    await cluster.check(books)


# -- nobody asks again -------------------------------------------------------------------------------------------------
async def let_it_die_alone(cluster: ProcessCluster) -> None:
    """A transfer whose shard dies right after the commit, and whose caller does not ask again."""
    await cluster.read_all()
    source, target, number = three_owners(cluster)
    await cluster.host.service(Receipts).times(number)
    await cluster.shard(cluster.owner("Accounts.balance", source)).ask("arm", "committed")
    transfer = cluster.host.command("Accounts.transfer")
    transferring = asyncio.create_task(cluster.host.execute(transfer.invocation((source, target, 30, number), number)))
    await until(lambda: cluster.deaths)
    transferring.cancel()
    await asyncio.wait([transferring])
    await cluster.until_up()


async def test_what_a_shard_has_committed_but_told_nobody_the_log_tells(
    cluster: ProcessCluster, database_url: str
) -> None:
    await let_it_die_alone(cluster)
    books = await read_books(database_url)
    books.check()
    assert len(books.times) == 1
    await cluster.until_nothing_is_stale(books, within_s=2 * LOG_PERIOD_S)


async def test_without_the_log_it_would_be_stale(zygote: subprocess.Popen[bytes], database_url: str) -> None:
    """What the test above would see if nothing were done: so it can fail."""
    await open_bank(database_url)
    async with ProcessCluster(zygote, database_url, follows_log=False) as cluster:
        await let_it_die_alone(cluster)
        with pytest.raises(AssertionError, match="would serve"):
            await cluster.until_nothing_is_stale(await read_books(database_url), within_s=2 * LOG_PERIOD_S)


# -- two runs of one command meet --------------------------------------------------------------------------------------
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("command", ["deposit", "deposit_on_a_slip"])
async def test_a_retry_that_comes_while_the_commit_is_still_under_way_is_given_its_result(
    cluster: ProcessCluster, database_url: str, command: str
) -> None:
    """The shard is dead, its COMMIT is not: the server takes its time, while the successor runs the command again."""
    database = Database(database_url)
    async with database.operation() as operation:
        for statement in SLOW_COMMITS:
            await operation.session.execute(text(statement))
    await database.dispose()
    await cluster.read_all()
    await cluster.shard(cluster.owner("Accounts.balance", 3)).ask("arm", "in the commit")
    async with through_a_gateway(cluster) as client:
        assert await client.execute(f"Accounts.{command}", 3, 5, "slow", command_id="slow") == OPENING_BALANCE + 5
    assert cluster.deaths == 1
    books = await read_books(database_url)
    books.check()
    assert books.times == {"slow": 1}
    await cluster.check(books)
