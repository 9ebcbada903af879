"""Accounts in a database as an app: what tests run on a real Ray cluster."""

from __future__ import annotations

import os

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fusion_cluster import App, ComputeService, Database, command, compute_method, gather

DATABASE_VARIABLE = "FUSION_TEST_LEDGER"


class Base(DeclarativeBase):
    pass


class AccountRow(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class Accounts(ComputeService):
    @compute_method
    async def balance(self, account: int) -> int:
        async with self.database.session() as session:
            row = await session.get(AccountRow, account)
            return row.balance if row else 0

    @command
    async def set_balance(self, account: int, balance: int) -> None:
        async with self.database.operation() as operation:
            row = await operation.session.get(AccountRow, account)
            if row is None:
                operation.session.add(AccountRow(id=account, balance=balance))
            else:
                row.balance = balance
            self.balance.invalidate(account)

    @command
    async def set_all(self, first: int, count: int, balance: int) -> None:
        """Change accounts of every shard in one transaction."""
        async with self.database.operation() as operation:
            for account in range(first, first + count):
                row = await operation.session.get(AccountRow, account)
                if row is None:
                    operation.session.add(AccountRow(id=account, balance=balance))
                else:
                    row.balance = balance
                self.balance.invalidate(account)


class Totals(ComputeService):
    accounts: Accounts

    @compute_method
    async def of_first(self, count: int) -> int:
        return sum(await gather(*(self.accounts.balance(account) for account in range(count))))


def new_app(url: str) -> App:
    return App("ledger", services=[Accounts, Totals], database=Database(url))


app = new_app(os.environ.get(DATABASE_VARIABLE, "sqlite:///ledger.db"))
