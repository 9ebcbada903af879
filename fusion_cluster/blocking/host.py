"""`blocking(...)`: gives the services of a host to code without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from fusion_cluster.blocking.changes import BlockingIterator, ComputedView
from fusion_cluster.blocking.loop_thread import LoopThread
from fusion_cluster.blocking.portal import Portal
from fusion_cluster.blocking.services import BlockingMethod, CallerPort
from fusion_cluster.bodies.facade import FacadeClasses
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import BoundComputeMethod
from fusion_cluster.host import Host
from fusion_cluster.quantities import as_timeout

S = TypeVar("S", bound=ComputeService)
T = TypeVar("T")
P = ParamSpec("P")


class HasServices(Protocol):
    """An object that returns services by their class: a host, a cluster, a client."""

    def service(self, service: type[S]) -> S:
        """Return the service of that class."""
        ...


H = TypeVar("H", bound=HasServices)


class BlockingHost(Generic[H]):
    """Services for code without an event loop. `blocking` makes it; it is a context manager.

    Any number of threads may use it at once.

    Attributes:
        host: the host itself. It belongs to the event loop: use it by `run`.
    """

    host: H

    def __init__(
        self,
        opens: AbstractAsyncContextManager[H] | None,
        *,
        running: tuple[H, asyncio.AbstractEventLoop] | None = None,
        timeout_s: float | None = None,
        name: str = "the blocking host",
    ) -> None:
        self._name = name
        self.timeout_s = None if timeout_s is None else as_timeout("timeout_s", timeout_s)
        self._thread = None if opens is None else LoopThread(opens)
        self._portal: Portal | None = None
        self._classes = FacadeClasses()
        self._ports: dict[float | None, CallerPort] = {}
        self._was_opened = False
        if running is not None:
            self.host, loop = running
            self._portal = Portal(loop, self._name)

    def __enter__(self) -> Self:
        if self._thread is not None:
            if self._was_opened:
                raise UsageError("a blocking host is opened once: make another one")
            self._was_opened = True
            self.host = self._thread.start()
            self._portal = Portal(self._thread.loop, self._name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._thread is None:
            return False
        if self._portal is not None:
            self._portal.close()
        return self._thread.stop((kind, error, trace))

    def service(self, service: type[S], *, timeout_s: float | None = None) -> S:
        """Return the service of that class; its methods block: `carts.total("c1")` returns the value.

        For type checkers it is the class itself, whose calls must be awaited. `value_of(carts.total("c1"))` has the
        type of the value.

        Args:
            service: the class.
            timeout_s: how long one read or command may take; None: the limit of the host.

        Raises:
            UsageError: the host does not have this service, or is not open.
        """
        portal = self._open_portal()
        limit_s = self.timeout_s if timeout_s is None else as_timeout("timeout_s", timeout_s)
        port = self._ports.get(limit_s)
        if port is None:
            port = self._ports.setdefault(limit_s, CallerPort(self._classes, portal, limit_s))
        return cast("S", port.facade(portal.run(lambda: self.host.service(service))))

    def run(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an async function on the host's event loop and return its result.

        >>> host.run(app.database.create_tables, Base.metadata)

        Raises:
            DeadlineExceeded: it took longer than the host's `timeout_s`, and was cancelled.
            Exception: the exception that the function raised.
        """
        return self._open_portal().run(partial(function, *args, **kwargs), timeout_s=self.timeout_s)

    def iterate(
        self, function: Callable[P, AsyncIterator[T]], *args: P.args, **kwargs: P.kwargs
    ) -> BlockingIterator[T]:
        """Iterate over the items of an async iterator that is made on the host's event loop."""
        return BlockingIterator(partial(function, *args, **kwargs), self._open_portal())

    def changes(
        self, method: BoundComputeMethod[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> BlockingIterator[ComputedView[T]]:
        """Call `method.changes(...)` of a service of this host, with types that checkers understand.

        Raises:
            UsageError: `method` is not a compute method of a service of a blocking host.
        """
        blocking_method: Any = method
        if not isinstance(blocking_method, BlockingMethod):
            raise UsageError("changes() takes a compute method of a service of this host", field="method")
        return blocking_method.changes(*args, **kwargs)

    def _open_portal(self) -> Portal:
        if self._portal is None:
            raise UsageError("the host is not open: use it in `with blocking(...) as host`")
        return self._portal


@overload
def blocking(host: H, *, timeout_s: float | None = None, loop: asyncio.AbstractEventLoop) -> BlockingHost[H]: ...
@overload
def blocking(host: Host, *, timeout_s: float | None = None) -> BlockingHost[Host]: ...
@overload
def blocking(host: AbstractAsyncContextManager[H], *, timeout_s: float | None = None) -> BlockingHost[H]: ...
def blocking(
    host: Any, *, timeout_s: float | None = None, loop: asyncio.AbstractEventLoop | None = None
) -> BlockingHost[Any]:
    """Return the services of a host for code without an event loop: their methods block and return values.

    `host` may be a host that runs in the event loop of another thread. Or it is something to open (`app.local()`,
    `app.cluster()`, `LocalCluster(app)`): it is opened in an event loop in a thread of its own, for as long as the
    `with` block lasts.

    Args:
        host: the host, or a context manager that opens one.
        timeout_s: how long one read or command may take; None: no limit.
        loop: the event loop in which a running client or cluster, given as `host`, runs. A host knows its own loop.

    Raises:
        UsageError: `host` is neither of them, or the loop in which it runs is not known.

    Example:
        >>> with blocking(app.local()) as host:
        ...     carts = host.service(Carts)
        ...     carts.put("c1", 3, 1)
        ...     carts.total("c1")
    """
    if isinstance(host, Host) and loop is None:
        if host.loop is None:
            raise UsageError("the host was made outside of an event loop: say in which loop it runs", field="loop")
        loop = host.loop
    if loop is not None:
        return BlockingHost(None, running=(host, loop), timeout_s=timeout_s)
    if not isinstance(host, AbstractAsyncContextManager):
        raise UsageError(f"{host!r} is neither a host nor something that opens one", field="host")
    return BlockingHost(host, timeout_s=timeout_s)
