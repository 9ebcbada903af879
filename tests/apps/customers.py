"""Customers of the bank: clients that make random commands, ask again until told, and look at what came of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import FusionError, RemoteError
from tests.apps.bank import ACCOUNTS, ACCOUNTS_IN_BRANCH, Accounts, Books, Branches, Overdrawn, Receipts

GIVE_UP_S = 60.0
"""How long one asks again for one command: nothing here takes so long, but a test must end."""

Execute = Callable[..., Awaitable[Any]]


class Ledger:
    """What the clients know.

    Attributes:
        done: the results of commands that were reported as done, by number.
        refused: the numbers of those that were reported as failed.
        deposits: by account, how often something was reported as paid in.
        retries: errors after which a command was asked for again, by class.
        repeated: how many commands were asked for again although they were done.
    """

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.refused: set[str] = set()
        self.deposits: Counter[int] = Counter()
        self.retries: Counter[str] = Counter()
        self.repeated = 0

    def check(self, books: Books) -> None:
        """See that the database has what was reported as done, and nothing else."""
        books.check()
        assert set(books.times) == set(self.done)
        assert {account: self.deposits[account] for account in range(ACCOUNTS)} == books.deposits

    def __str__(self) -> str:
        retries = dict(self.retries)
        return f"{len(self.done)} done, {len(self.refused)} refused, {self.repeated} repeated, asked again: {retries}"


class Customer:
    """One client: it makes commands one after the other, asks again until it is told, and looks at what came of it."""

    def __init__(
        self, number: int, ledger: Ledger, execute: Execute, service: Callable[[type[ComputeService]], Any], seed: int
    ) -> None:
        self._name = f"customer {number}"
        self._ledger = ledger
        self._execute = execute
        self._accounts: Accounts = service(Accounts)
        self._branches: Branches = service(Branches)
        self._receipts: Receipts = service(Receipts)
        self._rng = random.Random(seed)

    async def run(self, count: int) -> None:
        """Make so many commands."""
        for i in range(count):
            number = f"{self._name}, command {i}"
            kind = self._rng.choices(["transfer", "deposit", "overdraft"], [55, 35, 10])[0]
            source, target = self._rng.sample(range(ACCOUNTS), 2)
            amount = self._rng.randint(1, 9)
            if kind == "deposit":
                await self._carry_out("deposit", (source, amount, number), number)
            elif kind == "transfer":
                await self._carry_out("transfer", (source, target, amount, number), number)
            else:
                await self._carry_out("transfer", (source, target, 1_000_000, number), number)

    async def _carry_out(self, command: str, arguments: tuple[Any, ...], number: str) -> None:
        paid_in = arguments[1] if command == "transfer" else arguments[0]
        try:
            result = await self._until_told(command, arguments, number)
        except RemoteError as error:
            if error.error_type != Overdrawn.__name__:
                raise
            self._ledger.refused.add(number)
        else:
            self._ledger.done[number] = result
            self._ledger.deposits[paid_in] += 1
            if self._rng.random() < 0.1:
                self._ledger.repeated += 1
                assert await self._until_told(command, arguments, number) == result
            await self._look(paid_in, number)

    async def _look(self, account: int, number: str) -> None:
        """What was done before a read began, the read has to show."""
        floor = self._ledger.deposits[account]
        assert await self._patiently(lambda: self._accounts.deposits(account)) >= floor
        if self._rng.random() < 0.3:
            branch = account // ACCOUNTS_IN_BRANCH
            floor = sum(self._ledger.deposits[branch * ACCOUNTS_IN_BRANCH + i] for i in range(ACCOUNTS_IN_BRANCH))
            assert await self._patiently(lambda: self._branches.deposits(branch)) >= floor
        if self._rng.random() < 0.3:
            assert await self._patiently(lambda: self._receipts.times(number)) == 1
        if self._rng.random() < 0.2:
            await self._patiently(lambda: self._branches.total(self._rng.randrange(4)))

    async def _until_told(self, command: str, arguments: tuple[Any, ...], number: str) -> int:
        result: int = await self._patiently(lambda: self._execute(f"Accounts.{command}", *arguments, command_id=number))
        return result

    async def _patiently(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask again as long as the error says that it may help."""
        deadline_s = time.monotonic() + GIVE_UP_S
        while True:
            try:
                return await ask()
            except FusionError as error:
                if not error.is_transient or time.monotonic() > deadline_s:
                    raise
                self._ledger.retries[type(error).__name__] += 1
                await asyncio.sleep(error.retry_after_s or 0.02)


def by_name(service: Callable[[type[ComputeService]], Any]) -> Execute:
    """Commands of a typed service, by their full names, with an id."""

    async def execute(name: str, *arguments: Any, command_id: str) -> Any:
        command = getattr(service(Accounts), name.partition(".")[2])
        return await command.hosting.execute(command.invocation(arguments, command_id))

    return execute
