"""Turns: commands of one key run one after the other, commands of different keys at the same time.

Invariant: a key is in `Turns` for as long as exactly one command holds it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from fusion_cluster.errors import Overloaded

Turn = asyncio.Future[None] | None
"""A command's turn: None if it has come already, else a future that is done when it comes."""

MAX_USERS: Final = 10_000
"""How many commands may run or wait in one host."""


class _Held:
    """A key that a command holds.

    Attributes:
        holder_id: the id of that command.
        waiting: the turns of those in line, the first one first, with the ids of their commands.
    """

    __slots__ = ("holder_id", "waiting")

    def __init__(self, holder_id: str) -> None:
        self.holder_id = holder_id
        self.waiting: OrderedDict[asyncio.Future[None], str] | None = None


class Turns:
    """The commands of one host that run or wait, by key; first come, first served.

    >>> turn = turns.take(key, command_id)
    >>> try:
    ...     if turn is not None:
    ...         await turn
    ...     run()
    ... finally:
    ...     turns.give_back(key, turn)

    Args:
        max_users: how many commands may run or wait.
    """

    def __init__(self, max_users: int = MAX_USERS) -> None:
        self._max_users = max_users
        self._users = 0
        self._held: dict[Hashable, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def holder_id(self, key: Hashable) -> str | None:
        """Return the id of the command that holds the key; None: nobody does."""
        held = self._held.get(key)
        return None if held is None else held.holder_id

    def take(self, key: Hashable, command_id: str = "") -> Turn:
        """Get in line for a key. Whoever calls this awaits the turn, and gives it back in any case.

        Args:
            key: the key.
            command_id: who holds it then.

        Raises:
            Overloaded: too many run or wait already.
        """
        if self._users >= self._max_users:
            raise Overloaded(f"{self._users:,} commands run or wait in this process already", retry_after_s=0.5)
        self._users += 1
        held = self._held.get(key)
        if held is None:
            self._held[key] = _Held(command_id)
            return None
        if held.waiting is None:
            held.waiting = OrderedDict()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        held.waiting[turn] = command_id
        return turn

    def give_back(self, key: Hashable, turn: Turn) -> None:
        """Leave: hand the key to the next in line, if this turn had come."""
        self._users -= 1
        if turn is not None and (turn.cancelled() or not turn.done()):
            turn.cancel()  # it did not come
            left = self._held.get(key)
            if left is not None and left.waiting is not None:
                left.waiting.pop(turn, None)
            return
        held = self._held[key]
        while held.waiting:
            following, command_id = held.waiting.popitem(last=False)
            if not following.done():
                held.holder_id = command_id
                following.set_result(None)
                return
        del self._held[key]
