"""Readers of the operation log beside random transactions and trims: every committed entry is given to each reader
exactly once, or the reader is told that it has missed some."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from fusion_cluster import Database
from fusion_cluster.database.log_readers import LogReader, new_reader
from fusion_cluster.database.log_trimmer import LogTrimmer
from tests.log_entries import Writer, begin, logged

pytest_plugins = ["tests.databases"]

READERS = 3
WRITERS = 4
OLD_S = 7_200.0

DELETE = text("DELETE FROM fusion_operations WHERE operation_id = :operation_id")
CLEAR = text("DELETE FROM fusion_operations")

INDEX = st.integers(0, 11)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["begin", "begin", "commit", "roll back"]), INDEX, st.booleans()),
        st.tuples(
            st.sampled_from(["write", "write behind a savepoint", "write in vain", "touch"]), INDEX, st.booleans()
        ),
        st.tuples(st.sampled_from(["read", "read", "commit", "trim", "start", "record"]), INDEX, st.just(False)),
    ),
    min_size=20,
    max_size=50,
)


@dataclass
class Transaction:
    """An open transaction, and what it has written.

    Attributes:
        writer: writes.
        ids: entries that will be there if it commits.
    """

    writer: Writer
    ids: list[str] = field(default_factory=list)


@dataclass
class ModelReader:
    """A reader, and what it must give.

    Attributes:
        reader: the one under test.
        due: the entries that were committed since it has read last.
        has_been_trimmed: entries were trimmed since then.
    """

    reader: LogReader
    due: set[str] = field(default_factory=set)
    has_been_trimmed: bool = False


class Log:
    """The operation log of a database, and a model of it."""

    def __init__(self, database: Database, ids: Iterator[int]) -> None:
        self.database = database
        self.is_sqlite = database.url.startswith("sqlite")
        self.trimmer = LogTrimmer(database)
        self.ids = ids
        self.open: list[Transaction] = []
        self.readers: list[ModelReader] = []
        self.committed: list[str] = []
        self.trimmed: set[str] = set()

    async def prepare(self) -> None:
        await self.database.prepare()
        async with self.database.operation() as operation:
            await operation.session.execute(CLEAR)  # the entries of the example before
        for index in range(READERS):
            self.readers.append(ModelReader(new_reader(self.database.engines)))
            await self.start(index)

    async def step(self, name: str, index: int, is_old: bool) -> None:
        """Do one step, if it can be done now."""
        if name == "begin":
            if len(self.open) < (1 if self.is_sqlite else WRITERS):
                self.open.append(Transaction(await begin(self.database)))
                await self.write("write", self.open[-1], is_old)
        elif name in ("read", "start"):
            await (self.read if name == "read" else self.start)(index)
        elif name == "trim":
            await self.trim()
        elif name == "record":
            if self.committed and not (self.is_sqlite and self.open):
                await self.database.log.record_outcome(self.committed[index % len(self.committed)], b"v\xc0")
        elif self.open:
            await self.write(name, self.open[index % len(self.open)], is_old)

    async def write(self, name: str, transaction: Transaction, is_old: bool) -> None:
        session, new = transaction.writer.session, str(next(self.ids))
        if name == "write":
            await transaction.writer.write(new, age_s=OLD_S if is_old else 0.0)
            transaction.ids.append(new)
        elif name == "write behind a savepoint":
            async with session.begin_nested():
                await transaction.writer.write(new, age_s=OLD_S if is_old else 0.0)
            transaction.ids.append(new)
        elif name == "write in vain":
            savepoint = session.begin_nested()
            await savepoint.start()
            await transaction.writer.write(new)
            await savepoint.rollback()
        elif name == "touch":  # it has its number, and no entry
            await transaction.writer.write(new)
            await session.execute(DELETE, {"operation_id": new})
        else:
            self.open.remove(transaction)
            if name == "roll back":
                await transaction.writer.roll_back()
            else:
                await transaction.writer.commit()
                self.committed += transaction.ids
                for reader in self.readers:
                    reader.due.update(transaction.ids)

    async def start(self, index: int) -> None:
        reader = self.readers[index % READERS]
        await reader.reader.start()
        reader.due, reader.has_been_trimmed = set(), False

    async def read(self, index: int) -> None:
        reader = self.readers[index % READERS]
        entries = await reader.reader.read()
        if entries is None:
            assert reader.has_been_trimmed, "it claims to have missed some, and nothing was trimmed"
            assert not self.is_sqlite or reader.due & self.trimmed
        else:
            assert sorted(entry.operation_id for entry in entries) == sorted(reader.due)
        reader.due, reader.has_been_trimmed = set(), False

    async def trim(self) -> None:
        if self.is_sqlite and self.open:
            return  # it would wait for that one
        count = await self.trimmer.trim()
        left = set(await logged(self.database))
        trimmed = set(self.committed) - left
        assert len(trimmed - self.trimmed) == count
        for reader in self.readers:
            reader.has_been_trimmed |= count > 0
        self.trimmed = trimmed

    async def end(self) -> None:
        while self.open:
            await self.step("commit", 0, False)
        for index in range(READERS):
            await self.read(index)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_every_committed_entry_is_given_once_or_the_reader_is_told(
    database_url: str, steps: list[tuple[str, int, bool]]
) -> None:
    async def run() -> None:
        database = Database(database_url)
        log = Log(database, itertools.count(1))
        try:
            await log.prepare()
            for step in steps:
                await log.step(*step)
            await log.end()
        finally:
            for transaction in log.open:
                await transaction.writer.roll_back()
            await database.dispose()

    asyncio.run(run())
