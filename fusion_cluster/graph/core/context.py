"""Which computation is running: the context variable through which dependencies are captured."""

from __future__ import annotations

from contextvars import Context, ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fusion_cluster.graph.core.pure.registry import Node

current_computation: Final[ContextVar[Node[Any] | None]] = ContextVar(
    "fusion_cluster_current_computation", default=None
)
"""The computed whose dependencies the reads in this context become, or None. Means nothing once that has completed."""

running_computation: Final[ContextVar[Node[Any] | None]] = ContextVar("fusion_cluster_running", default=None)
"""The computed whose body runs in this context, under `isolated()` too: who is held up by a wait."""

offloaded_computation: Final[ContextVar[Node[Any] | None]] = ContextVar("fusion_cluster_offloaded", default=None)
"""The computed whose body runs in this thread, away from the event loop."""

running_task_name: Final[ContextVar[str | None]] = ContextVar("fusion_cluster_task_name", default=None)
"""The name of the method whose body runs in this context as a task, cut off from the graph."""

is_rehearsing: Final[ContextVar[bool]] = ContextVar("fusion_cluster_rehearsing", default=False)
"""Whether the body that runs in this context runs only so that its value can be compared with a cached one."""

running_command_name: Final[ContextVar[str | None]] = ContextVar("fusion_cluster_command_name", default=None)
"""The name of the command or event handler whose body runs in this context."""


def running_name() -> str | None:
    """Return the name of the user's code that runs in this context, or has made the task that does; None: of none."""
    node: Any = running_computation.get()
    return running_command_name.get() if node is None else node.function.name


def detached_context() -> Context:
    """Return a context in which what is read is, on purpose, nobody's dependency (see `strays`)."""
    context = Context()
    context.run(current_computation.set, None)
    return context


class isolated:  # noqa: N801 - used like a function
    """Context manager under which nothing that is read becomes a dependency.

    >>> async def greeting(self) -> str:
    ...     with isolated():
    ...         settings = await self.settings()  # a change of settings does not invalidate the greeting
    """

    __slots__ = ("_token",)

    _token: Token[Node[Any] | None]

    def __enter__(self) -> None:
        self._token = current_computation.set(None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:  # noqa: SIM105 - `suppress` costs more than the rest
            current_computation.reset(self._token)
        except ValueError:  # a coroutine that nobody finished is closed by the garbage collector, in another context
            pass
