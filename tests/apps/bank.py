"""A bank as an app, whose commands must not run twice: each adds to a balance and counts itself in a row of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster import App, ComputeService, Database, command, compute_method, gather
from fusion_cluster.commands.operation import Operation
from fusion_cluster.database.operation_log import LogOptions

ACCOUNTS = 24
ACCOUNTS_IN_BRANCH = 6
OPENING_BALANCE = 100
LOG_PERIOD_S = 0.5


class Base(DeclarativeBase):
    pass


class AccountRow(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    deposits: Mapped[int]


class ReceiptRow(Base):
    """One for each command, by the number that its caller gave it: how often it took effect, and what it brought in."""

    __tablename__ = "receipts"
    number: Mapped[str] = mapped_column(primary_key=True)
    times: Mapped[int]
    amount: Mapped[int]


class SlipRow(Base):
    """The same for those that must have a row to themselves: a second one is refused by the database."""

    __tablename__ = "slips"
    number: Mapped[str] = mapped_column(primary_key=True)


class Overdrawn(ValueError):
    """There is not so much in the account."""


class Receipts(ComputeService):
    @compute_method
    async def times(self, number: str) -> int:
        """How often the command of that number took effect."""
        async with self.database.session() as session:
            row = await session.get(ReceiptRow, number)
            return row.times if row else 0


class Accounts(ComputeService):
    receipts: Receipts

    @compute_method
    async def balance(self, account: int) -> int:
        async with self.database.session() as session:
            return (await session.get_one(AccountRow, account)).balance

    @compute_method
    async def deposits(self, account: int) -> int:
        """How often something was paid in: a number that only rises."""
        async with self.database.session() as session:
            return (await session.get_one(AccountRow, account)).deposits

    @command
    async def deposit(self, account: int, amount: int, number: str) -> int:
        """Pay in; gives the balance then."""
        async with self.database.operation() as operation:
            balance = await self._change(operation, account, amount, deposits=1)
            await self._note(operation.session, number, amount)
            return operation.result(balance)

    @command
    async def deposit_on_a_slip(self, account: int, amount: int, number: str) -> int:
        """The same, with a row that a second run could not write."""
        async with self.database.operation() as operation:
            operation.session.add(SlipRow(number=number))
            await operation.session.flush()
            balance = await self._change(operation, account, amount, deposits=1)
            await self._note(operation.session, number, amount)
            return operation.result(balance)

    @command
    async def deposit_without_a_word(self, account: int, amount: int, number: str) -> int:
        """The same, but its result is made after the commit, by a call."""
        async with self.database.operation() as operation:
            balance = await self._change(operation, account, amount, deposits=1)
            await self._note(operation.session, number, amount)
        return int(balance)

    @command
    async def deposit_as_one_does(self, account: int, amount: int, number: str) -> int:
        """The same, in the natural way: it is recorded with the commit by itself."""
        async with self.database.operation() as operation:
            balance = await self._change(operation, account, amount, deposits=1)
            await self._note(operation.session, number, amount)
        return balance

    @command
    async def transfer(self, source: int, target: int, amount: int, number: str) -> int:
        """Pay from one to another; gives what is left in the first.

        Raises:
            Overdrawn: only known when everything is written.
        """
        async with self.database.operation() as operation:
            await self._change(operation, target, amount, deposits=1)
            left = await self._change(operation, source, -amount)
            await self._note(operation.session, number, 0)
            if left < 0:
                raise Overdrawn(f"account {source} is short of {-left}")
            return operation.result(left)

    async def _change(self, operation: Operation, account: int, amount: int, *, deposits: int = 0) -> int:
        changed = await operation.session.execute(
            update(AccountRow)
            .where(AccountRow.id == account)
            .values(balance=AccountRow.balance + amount, deposits=AccountRow.deposits + deposits)
            .returning(AccountRow.balance)
        )
        self.balance.invalidate(account)
        if deposits:
            self.deposits.invalidate(account)
        balance: int = changed.scalar_one()
        return balance

    async def _note(self, session: AsyncSession, number: str, amount: int) -> None:
        insert = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(ReceiptRow)
        noted = insert.values(number=number, times=1, amount=amount).on_conflict_do_update(
            index_elements=[ReceiptRow.number], set_={"times": ReceiptRow.times + 1}
        )
        await session.execute(noted)
        self.receipts.times.invalidate(number)


class Branches(ComputeService):
    """Sums over accounts of all shards."""

    accounts: Accounts

    @compute_method
    async def total(self, branch: int) -> int:
        first = branch * ACCOUNTS_IN_BRANCH
        return sum(await gather(*(self.accounts.balance(first + i) for i in range(ACCOUNTS_IN_BRANCH))))

    @compute_method
    async def deposits(self, branch: int) -> int:
        """How often something was paid in."""
        first = branch * ACCOUNTS_IN_BRANCH
        return sum(await gather(*(self.accounts.deposits(first + i) for i in range(ACCOUNTS_IN_BRANCH))))

    @compute_method
    async def all(self) -> int:
        return sum(await gather(*(self.total(branch) for branch in range(ACCOUNTS // ACCOUNTS_IN_BRANCH))))


def bank_app(url: str, *, follows_log: bool = True) -> App:
    """The app on a database."""
    database = Database(url, log=LogOptions(period_s=LOG_PERIOD_S, follows=follows_log))
    return App("bank", [Receipts, Accounts, Branches], database=database)


async def open_bank(url: str) -> None:
    """Make the tables, and the accounts in them."""
    database = Database(url)
    await database.create_tables(Base.metadata)
    async with database.operation() as operation:
        operation.session.add_all(
            AccountRow(id=number, balance=OPENING_BALANCE, deposits=0) for number in range(ACCOUNTS)
        )
    await database.dispose()


@dataclass(frozen=True)
class Books:
    """What is in the database.

    Attributes:
        balances: by account.
        deposits: by account, how often something was paid in.
        times: how often the command of a number took effect.
        paid_in: the sum of all deposits.
        logged: the commands in the operation log: the id of each, once for each entry.
    """

    balances: dict[int, int]
    deposits: dict[int, int]
    times: dict[str, int]
    paid_in: int
    logged: Sequence[str]

    def value(self, method: str, arguments: Sequence[Any]) -> int:
        """What a compute method has to give."""
        if method == "Receipts.times":
            return self.times.get(arguments[0], 0)
        if method == "Accounts.balance":
            return self.balances[arguments[0]]
        if method == "Accounts.deposits":
            return self.deposits[arguments[0]]
        if method in ("Branches.total", "Branches.deposits"):
            first = arguments[0] * ACCOUNTS_IN_BRANCH
            of_account = self.balances if method == "Branches.total" else self.deposits
            return sum(of_account[first + i] for i in range(ACCOUNTS_IN_BRANCH))
        assert method == "Branches.all", method
        return sum(self.balances.values())

    def check(self) -> None:
        """See that all that was paid in is there, and nothing else, and that nothing took effect twice."""
        assert sum(self.balances.values()) == ACCOUNTS * OPENING_BALANCE + self.paid_in
        assert [number for number, times in self.times.items() if times != 1] == []
        assert len(set(self.logged)) == len(self.logged)
        assert set(self.logged) == set(self.times), "each effect has its entry in the log, and each entry its effect"


async def read_books(url: str) -> Books:
    """Read the database."""
    database = Database(url)
    async with database.engines().reading.connect() as connection:
        accounts = (await connection.execute(select(AccountRow.id, AccountRow.balance, AccountRow.deposits))).all()
        receipts = (await connection.execute(select(ReceiptRow.number, ReceiptRow.times, ReceiptRow.amount))).all()
        logged = await connection.exec_driver_sql(
            "SELECT operation_id FROM fusion_operations WHERE command LIKE 'Accounts.%'"
        )
        ids = list(logged.scalars())
    await database.dispose()
    return Books(
        balances={row.id: row.balance for row in accounts},
        deposits={row.id: row.deposits for row in accounts},
        times={row.number: row.times for row in receipts},
        paid_in=sum(row.amount * row.times for row in receipts),
        logged=ids,
    )
