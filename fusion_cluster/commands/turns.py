"""Turns: commands of one key run one after the other, commands of different keys at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from typing import Final

from fusion_cluster.errors import Overloaded


class _Turn:
    __slots__ = ("holder_id", "lock", "users")

    def __init__(self) -> None:
        self.holder_id: str | None = None
        self.lock = asyncio.Lock()
        self.users = 0


MAX_USERS: Final = 10_000
"""How many commands may run or wait in one host."""


class Turns:
    """The commands of one host that run or wait, by key; first come, first served.

    Args:
        max_users: how many commands may run or wait.
    """

    def __init__(self, max_users: int = MAX_USERS) -> None:
        self._max_users = max_users
        self._users = 0
        # Key -> the turn of its commands that run or wait; removed when the last one leaves.
        self._turns: dict[Hashable, _Turn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def holder_id(self, key: Hashable) -> str | None:
        """Return the id of the command that holds the key; None: nobody does."""
        turn = self._turns.get(key)
        return None if turn is None else turn.holder_id

    def of(self, key: Hashable, command_id: str = "") -> AbstractAsyncContextManager[None]:
        """Wait until no other holds the key, and hold it inside the block.

        Args:
            key: the key.
            command_id: who holds it then.

        Raises:
            Overloaded: too many run or wait already.
        """
        return _Holding(self, key, command_id)

    async def _take(self, key: Hashable, command_id: str) -> None:
        if self._users >= self._max_users:
            raise Overloaded(f"{self._users:,} commands run or wait in this process already", retry_after_s=0.5)
        self._users += 1
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = _Turn()
        turn.users += 1
        try:
            await turn.lock.acquire()
        except BaseException:
            self._leave(key, turn)
            raise
        turn.holder_id = command_id

    def _give_back(self, key: Hashable) -> None:
        turn = self._turns[key]
        turn.holder_id = None
        turn.lock.release()
        self._leave(key, turn)

    def _leave(self, key: Hashable, turn: _Turn) -> None:
        self._users -= 1
        turn.users -= 1
        if not turn.users:
            del self._turns[key]


class _Holding(AbstractAsyncContextManager[None]):
    """The time for which a key is held.

    It does not use `contextlib`, which writes into the exceptions that pass: some cannot be written to.
    """

    __slots__ = ("_command_id", "_key", "_turns")

    def __init__(self, turns: Turns, key: Hashable, command_id: str) -> None:
        self._command_id = command_id
        self._turns = turns
        self._key = key

    async def __aenter__(self) -> None:
        await self._turns._take(self._key, self._command_id)

    async def __aexit__(self, *_: object) -> None:
        self._turns._give_back(self._key)
