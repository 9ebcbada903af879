"""The block in which a command runs: what its context says there.

Invariant: once the block has ended, its context variables are what they were, and the command binds nobody any more.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from fusion_cluster.commands.context import CommandContext, current_command, is_nested
from fusion_cluster.commands.nesting import current_calls
from fusion_cluster.graph.core.context import current_computation
from fusion_cluster.runtime.deadline import NO_DEADLINE, Deadline, current_deadline


class RunScope:
    """The block in which a command runs: it is the current command there, until its deadline, and nothing that is read
    is anybody's dependency.

    Args:
        context: the command.
        deadline_s: until when it may run; infinite: it has the deadline that is in force.
    """

    __slots__ = ("_context", "_deadline", "_tokens", "_until_s")

    def __init__(self, context: CommandContext, deadline_s: float) -> None:
        self._context = context
        self._until_s = deadline_s
        self._deadline: Deadline | None = None
        # Variables that were set, each with its token; those that have their values already are left alone.
        self._tokens: list[tuple[ContextVar[Any], Token[Any]]] = []

    def __enter__(self) -> None:
        tokens = self._tokens
        tokens.append((current_command, current_command.set(self._context)))
        if is_nested.get():
            tokens.append((is_nested, is_nested.set(False)))
        if current_calls.get():
            tokens.append((current_calls, current_calls.set(())))
        if current_computation.get() is not None:
            tokens.append((current_computation, current_computation.set(None)))
        until_s = self._until_s
        outer = current_deadline.get()
        if outer is not None and outer.until_s < until_s:
            until_s = outer.until_s
        if until_s < NO_DEADLINE:
            self._deadline = Deadline(until_s)
            tokens.append((current_deadline, current_deadline.set(self._deadline)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context.is_open = False
        if self._deadline is not None:
            self._deadline.until_s = NO_DEADLINE  # for tasks that the command has left behind
        try:
            for variable, token in self._tokens:
                variable.reset(token)
        except ValueError:  # a coroutine that nobody finished is closed by the garbage collector, in another context
            pass
