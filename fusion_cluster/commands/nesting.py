"""Commands that wait for each other: those that are parts of one run, and runs whose callers are commands.

Invariant: no command is a part of itself, and no run waits for a turn that one of its own callers holds. Both would
have no end: they are refused with `CircularDependencyError`, which names the whole path.

A command is a part of itself if the same command with equal arguments is called while it runs, by itself or through
others. Other arguments make another call: a command may call itself for the parts of a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token
from typing import Any, Final

from fusion_cluster.catalogue.method import Method
from fusion_cluster.commands.context import running_command
from fusion_cluster.commands.invocation import Caller
from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.graph.why.abridged import abridged_arguments

MAX_CALLERS: Final = 64
"""How many commands in other runs may wait for a command, one for the other."""

SEPARATOR: Final = " → "


class open_call:  # noqa: N801 - used like a function
    """The time in which the body of a command runs, for its own sake or as a part of another command.

    Args:
        method: the command.
        arguments: canonical.

    Raises:
        CircularDependencyError: the command would be a part of itself.
    """

    __slots__ = ("_arguments", "_is_open", "_known_fingerprint", "_method", "_token")

    def __init__(self, method: Method, arguments: tuple[Any, ...]) -> None:
        self._known_fingerprint = b""
        self._method = method
        self._arguments = arguments
        self._token: Token[tuple[open_call, ...]] | None = None
        # False once the body has ended: a task that it has left behind is not a part of it.
        self._is_open = True

    @property
    def text(self) -> str:
        """The call as people read it."""
        return call_in_words(self._method.name, self._arguments)

    @property
    def _fingerprint(self) -> bytes:
        if not self._known_fingerprint:
            self._known_fingerprint = self._method.fingerprint(self._arguments)
        return self._known_fingerprint

    def __enter__(self) -> None:
        above = current_calls.get()
        for call in above:
            if call._method is self._method and call._is_open and call._fingerprint == self._fingerprint:
                path = [step.text for step in above[above.index(call) :] if step._is_open]
                raise CircularDependencyError(SEPARATOR.join([*path, self.text]))
        self._token = current_calls.set((*above, self))

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        token, self._token = self._token, None
        if token is not None:
            try:  # noqa: SIM105 - `suppress` costs more than the rest
                current_calls.reset(token)
            except ValueError:  # the garbage collector closes the body, in another context
                pass


current_calls: Final[ContextVar[tuple[open_call, ...]]] = ContextVar("fusion_cluster_open_calls", default=())
"""The calls of the present run that wait for each other, the outermost first. Some may have ended."""


def open_calls() -> tuple[open_call, ...]:
    """Return the commands that the code of this context is a part of, the outermost first."""
    calls = current_calls.get()
    return tuple(call for call in calls if call._is_open) if calls else ()


def callers() -> tuple[Caller, ...]:
    """Return the commands that wait for a call that is made here, in this run and in those that wait for it.

    Raises:
        CircularDependencyError: there are too many.
    """
    command = running_command()
    if command is None:
        return ()
    waiting = (*command.invocation.callers, *(Caller(command.command_id, call.text) for call in open_calls()))
    if len(waiting) > MAX_CALLERS:
        raise CircularDependencyError(f"{len(waiting)} commands wait for each other: {in_words(waiting)}")
    return waiting


def refuse_own_turn(holder_id: str | None, text: str, waiting: Sequence[Caller]) -> None:
    """Refuse to wait for a turn that a caller holds.

    Args:
        holder_id: the id of the run that holds it; None: nobody does.
        text: the command that would wait, in words.
        waiting: its callers.

    Raises:
        CircularDependencyError: one of the callers is the run that holds it.
    """
    for index, caller in enumerate(waiting):
        if caller.command_id == holder_id:
            raise CircularDependencyError(
                f"{in_words(waiting[index:])}{SEPARATOR}{text}: it would wait for its turn until the first has ended"
            )


def call_in_words(name: str, arguments: Sequence[object]) -> str:
    """Return a call of a command as people read it."""
    return f"{name}({abridged_arguments(arguments)})".encode(errors="replace").decode()


def in_words(waiting: Sequence[Caller]) -> str:
    """Return callers as people read them."""
    return SEPARATOR.join(caller.text for caller in waiting)
