"""The command that runs: its publications so far, which its return waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextvars import ContextVar
from types import FunctionType
from typing import Any, Final, Protocol

from fusion_cluster.commands.invocation import Invocation
from fusion_cluster.commands.outcomes import LoggedKey, OutcomeLog
from fusion_cluster.commands.time_limit import UNLIMITED, TimeLimit
from fusion_cluster.graph.core.context import running_computation
from fusion_cluster.graph.core.key import Key
from fusion_cluster.graph.hosting import DONE
from fusion_cluster.graph.why.abridged import abridged, abridged_arguments
from fusion_cluster.graph.why.cause import Cause, CommandRun
from fusion_cluster.runtime import SYSTEM
from fusion_cluster.runtime.baggage import TRACEPARENT, current_baggage, current_principal

MAX_TRACE: Final = 55
"""How many characters a `traceparent` has."""


class Publisher(Protocol):
    """Makes invalidations known: a host."""

    @property
    def peer_id(self) -> str:
        """The name of the process."""
        ...

    def publish(self, keys: Mapping[Key, Cause], barrier: bool, operation_id: str = "") -> Awaitable[None]:
        """Invalidate keys, each for its cause, here at once and at their owners.

        The publication has begun when this returns, and goes on whether it is awaited or not. The result can be awaited
        any number of times; the wait ends when the owners have applied the publication and, with a barrier, no replica
        serves values that depended on the old data.

        Args:
            keys: which, and why.
            barrier: whether to wait for replicas too.
            operation_id: the logged operation that they belong to; a reader of its log entry then knows that they are
                applied. "": none.
        """
        ...

    def logged_keys(self, keys: Mapping[Key, Cause]) -> list[LoggedKey]:
        """Return keys in the form in which they leave the process."""
        ...

    def keys_of(self, logged: Iterable[LoggedKey], told_by: str) -> dict[Key, Cause]:
        """Return keys from the form that `logged_keys` gives, without keys of unknown methods."""
        ...


class WaitsForResult(Protocol):
    """An operation that is committed together with the command's result."""

    async def end_with(self, result: object) -> None:
        """Commit it, with the result."""
        ...

    async def end(self) -> None:
        """Commit it without a result."""
        ...


class CommandContext:
    """One run of a command.

    Attributes:
        invocation: the call that it answers.
        name: "Products.set_price".
        command_id: the id of the run; a retry has the same.
        hosting: where it runs: commands that it calls there are part of it.
        barrier: whether its publications wait for replicas too.
        peer_id: the process that it runs in.
        is_repeatable: its caller has made the id, and may send it again.
        outcome: the outcome for its entry in the operation log, unless its operation has one; None: not recorded there.
        logs: the operation logs of the databases on which it has opened operations.
        operations: the logs in which one of its operations is open or committed.
        committed: the logs in which one of its operations is committed, or may be; with the outcome that was recorded
            then.
        is_in_doubt: it is not known whether an operation is committed.
        waiting: its operation whose block has ended, and which is committed together with the result that comes next.
        function: its body, as it is written; None: not known.
        limit: ends the run when its caller's time is up; lifted while something is committed.
        has_published: it has made an invalidation known.
        is_open: it has not returned yet. After that, tasks that it has left behind are not a part of it any more.
    """

    def __init__(
        self,
        invocation: Invocation,
        hosting: object,
        *,
        barrier: bool,
        peer_id: str = "",
        command_id: str = "",
        is_repeatable: bool = False,
        fingerprint: Callable[[tuple[Any, ...]], bytes] | None = None,
        outcome: bytes | None = None,
        function: FunctionType | None = None,
        limit: TimeLimit = UNLIMITED,
    ) -> None:
        self.invocation = invocation
        self.name = invocation.method
        self.command_id = command_id or invocation.command_id
        self.hosting = hosting
        self.barrier = barrier
        self.peer_id = peer_id
        self.is_repeatable = is_repeatable
        self.outcome = outcome
        self.logs: set[OutcomeLog] = set()
        self.operations: set[OutcomeLog] = set()
        self.committed: dict[OutcomeLog, bytes | None] = {}
        self.waiting: WaitsForResult | None = None
        self.function = function
        self.limit = limit
        self.has_published = False
        self.is_in_doubt = False
        self.is_open = True
        self._principal = current_principal.get()
        self._traceparent = current_baggage.get().get(TRACEPARENT, "")
        self._publications: list[Awaitable[None]] = []
        self._digest = fingerprint
        self._fingerprint: bytes | None = None
        self._run: CommandRun | None = None

    @property
    def fingerprint(self) -> bytes | None:
        """A digest of its name and arguments; None: it cannot be retried."""
        if self._fingerprint is None and self.is_repeatable and self._digest is not None:
            self._fingerprint = self._digest(self.invocation.arguments)
        return self._fingerprint

    @property
    def run(self) -> CommandRun:
        """This run as the causes of invalidations name it."""
        run = self._run
        if run is None:
            run = self._run = CommandRun(
                self.name,
                abridged_arguments(self.invocation.arguments),
                self.command_id,
                "" if self._principal is None else abridged(self._principal),
                self._traceparent[:MAX_TRACE],
            )
        return run

    def add(self, publication: Awaitable[None]) -> None:
        """Let the command's return wait for a publication."""
        self.has_published = True
        if publication is not DONE:
            self._publications.append(publication)

    @property
    def is_all_published(self) -> bool:
        """Whether all publications have ended."""
        return not self._publications

    async def published(self) -> None:
        """Wait for all publications, including those added meanwhile.

        Raises:
            Exception: the first error of a publication, after all have ended.
        """
        failure: Exception | None = None
        while self._publications:
            try:
                await self._publications.pop(0)
            except Exception as error:
                failure = error if failure is None else failure
        if failure is not None:
            raise failure


is_nested: Final[ContextVar[bool]] = ContextVar("fusion_cluster_is_nested", default=False)
"""Whether the body that runs is that of a command which the current command has called."""

current_command: Final[ContextVar[CommandContext | None]] = ContextVar("fusion_cluster_current_command", default=None)
"""The command whose body runs in this context; look at it through `running_command`."""


def running_command() -> CommandContext | None:
    """Return the command that the caller is a part of, if any."""
    context = current_command.get()
    return context if context is not None and context.is_open and not is_computing() else None


def is_computing() -> bool:
    """Whether the caller is the body of a compute method, under `isolated()` too."""
    node = running_computation.get()
    return node is not None and node._computation is not None


def collect_publication(start: Callable[[bool], Awaitable[None]]) -> Awaitable[None]:
    """Start a publication; inside a command, with its barrier, and the command's return waits for it.

    Args:
        start: begins the publication, with or without a barrier.

    Returns:
        An awaitable for the end of the publication. It can be awaited any number of times, or not at all.
    """
    context = running_command()
    publication = unhurt(start(context is not None and context.barrier))
    if context is not None:
        context.add(publication)
    return publication


def unhurt(publication: Awaitable[None]) -> Awaitable[None]:
    """Return the publication in a form that several can await: a cancelled waiter does not affect the others."""
    if publication is DONE:
        return publication
    if asyncio.iscoroutine(publication):
        publication = SYSTEM.create_task(publication, name="publish")
    return _Unhurt(publication) if isinstance(publication, asyncio.Future) else publication


class _Unhurt(Awaitable[None]):
    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, None]:
        if self._future.done():
            return self._future.result()
        return (yield from asyncio.shield(self._future).__await__())
