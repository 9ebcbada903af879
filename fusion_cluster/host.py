"""Hosts: what an app's services live in.

A host owns one graph and one instance of each service, and decides where a computation's value comes from (the body, or
another process) and where invalidations and commands go. `LocalHost` is the whole app in one process.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fusion_cluster.commands import (
    BoundCommand,
    Turns,
    collect_publication,
    record_invalidation,
    run_command,
    running_command,
)
from fusion_cluster.errors import UnknownMethod, UsageError
from fusion_cluster.graph import (
    DEFAULT_HISTORY,
    DONE,
    Cause,
    Computed,
    ComputeFunction,
    ComputeService,
    Explanation,
    Graph,
    Key,
    StoryEntry,
    attach,
    service_methods,
)
from fusion_cluster.graph.cause import call_site
from fusion_cluster.graph.hosting import run_body

if TYPE_CHECKING:
    from fusion_cluster.app import App

S = TypeVar("S", bound=ComputeService)


class Host(ABC):
    """The services of an app, attached to one graph.

    Args:
        app: the app to host.
        max_nodes: hard bound on the number of nodes in the graph.
        max_bytes: hard bound on the bytes that nodes and values take, by estimate.
        history: how many of the graph's last events are kept, for `why` and `story`.
        runs_bodies: whether methods' bodies can run here; if not, the services' `__init__` is not called.

    Attributes:
        graph: the computeds.
        bodies: default options, and what runs bodies off the event loop.
        loop: the event loop in which it was made, if it was in one.
    """

    def __init__(self, app: App, *, max_nodes: int, max_bytes: float, history: int, runs_bodies: bool) -> None:
        self.app = app
        self.graph = Graph(
            max_nodes=max_nodes,
            max_bytes=max_bytes,
            size_of=app.size_of,
            is_transient=app.is_transient,
            history=history,
        )
        self.bodies = app.new_bodies()
        self.loop = _loop_now()
        self.commands: dict[str, BoundCommand[..., Any]] = {}
        self.turns = Turns()
        self._services = {service: self._create(service, runs_bodies) for service in app.services.values()}
        for instance in self._services.values():
            self._inject(instance)

    def service(self, service: type[S]) -> S:
        """The instance of a service class that lives in this host.

        Raises:
            UsageError: the class is not one of the app's services.
        """
        instance = self._services.get(service)
        if instance is None:
            raise UsageError(f"{service.__name__} is not a service of the app {self.app.name!r}", field="service")
        return cast(S, instance)

    def function(self, name: str) -> ComputeFunction:
        """The compute method of that full name ("Carts.total").

        Raises:
            UnknownMethod: there is none.
        """
        function = self.graph.functions.get(name)
        if function is None:
            raise UnknownMethod(f"no compute method {name!r} in the app {self.app.name!r}", field="method")
        return function

    def command(self, name: str) -> BoundCommand[..., Any]:
        """The command of that full name ("Products.set_price").

        Raises:
            UnknownMethod: there is none.
        """
        command = self.commands.get(name)
        if command is None:
            raise UnknownMethod(f"no command {name!r} in the app {self.app.name!r}", field="method")
        return command

    # -- why -----------------------------------------------------------------------------------
    def why(self, method: str, /, *args: object, **kwargs: object) -> Explanation | None:
        """Tell why a key is out of date here, or was when it was invalidated last.

        >>> print(host.why("Carts.total", "c1"))

        Args:
            method: the compute method's full name.
            args: its arguments.
            kwargs: those that are given by name.

        Returns:
            None if this process knows nothing of the key: it was never asked for here, or so long ago that it is
            forgotten.

        Raises:
            UnknownMethod: there is no such compute method.
            InvalidArgument: the arguments are not those of the method.
        """
        return self.graph.why(self._key(method, args, kwargs))

    def story(self, method: str, /, *args: object, **kwargs: object) -> list[StoryEntry]:
        """Tell what has happened to a key here, oldest first, as far back as is known (see `why`)."""
        return self.graph.story(self._key(method, args, kwargs))

    def _key(self, method: str, args: tuple[object, ...], kwargs: dict[str, object]) -> Key:
        function = self.function(method)
        return Key(function.service_name, function.method_name, function.signature.bind(args, kwargs))

    # -- what a service is attached to (graph.service.Hosting) ------------------------------------
    @abstractmethod
    def produce(self, node: Computed[Any]) -> Coroutine[Any, Any, Any]:
        """How a node gets its value."""

    @abstractmethod
    def schedules_expiry(self, node: Computed[Any]) -> bool:
        """Whether the timers of the node (errors, auto-invalidation) run here: only where its body ran."""

    @abstractmethod
    def publish(self, keys: Mapping[Key, Cause], barrier: bool) -> Awaitable[None]:
        """Invalidate keys, each for its cause, here at once and at their owners.

        The awaitable ends when the owners have applied it and, with `barrier`, when no replica anywhere serves a value
        that depended on the old data.
        """

    @abstractmethod
    def execute(
        self, command: BoundCommand[..., Any], arguments: tuple[Any, ...], command_id: str | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Run a command on the shard that owns its key."""

    def invalidate(self, function: ComputeFunction, arguments: tuple[Any, ...]) -> Awaitable[None]:
        """What `service.method.invalidate(...)` does.

        Inside an operation it is recorded with the commit; elsewhere it applies at once, and a surrounding command
        waits for it before it returns.
        """
        key = Key(function.service_name, function.method_name, arguments)
        command = running_command()
        cause = call_site() if command is None else call_site("command", command.run)
        if record_invalidation(key, cause, self.publish):
            return DONE
        return collect_publication(lambda barrier: self.publish({key: cause}, barrier))

    async def close(self) -> None:
        """Cancel what still computes."""
        await self.graph.close()

    # -- wiring ----------------------------------------------------------------------
    def _create(self, service: type[ComputeService], runs_bodies: bool) -> ComputeService:
        instance = service() if runs_bodies else service.__new__(service)
        attach(instance, self, bodies=self.bodies)
        for method in service_methods(service):
            bound = getattr(instance, method).function
            if isinstance(bound, BoundCommand):
                self.commands[bound.name] = bound
        return instance

    def _inject(self, instance: ComputeService) -> None:
        service = type(instance)
        if self.app.database is not None:
            instance.database = self.app.database
        for attribute, hint in service_annotations(service).items():
            if not (isinstance(hint, type) and issubclass(hint, ComputeService)):
                continue
            dependency = self._services.get(hint)
            if dependency is None:
                raise UsageError(
                    f"{service.__name__}.{attribute} needs {hint.__name__}, which is not a service of the app "
                    f"{self.app.name!r}",
                    field=attribute,
                )
            setattr(instance, attribute, dependency)


def _loop_now() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def service_annotations(service: type[ComputeService]) -> dict[str, Any]:
    """The resolved annotations of a service class and its bases, up to `ComputeService` itself."""
    found: dict[str, Any] = {}
    for base in reversed(service.__mro__):
        if base is ComputeService or not issubclass(base, ComputeService):
            continue
        try:
            found.update(inspect.get_annotations(base, eval_str=True))
        except NameError as error:
            raise UsageError(f"{base.__name__}: an annotation names {error.name!r}, which is not defined") from error
    return found


class LocalHost(Host):
    """The whole app in one process and event loop."""

    def __init__(
        self,
        app: App,
        *,
        max_nodes: int = 1_000_000,
        max_bytes: float = math.inf,
        history: int = DEFAULT_HISTORY,
    ) -> None:
        super().__init__(app, max_nodes=max_nodes, max_bytes=max_bytes, history=history, runs_bodies=True)

    def produce(self, node: Computed[Any]) -> Coroutine[Any, Any, Any]:
        """Run the body."""
        return run_body(node)

    def schedules_expiry(self, node: Computed[Any]) -> bool:
        """Every body runs here."""
        return True

    def publish(self, keys: Mapping[Key, Cause], barrier: bool) -> Awaitable[None]:
        """Invalidate the keys: with one graph, that is all there is to wait for."""
        for key, cause in keys.items():
            self.function(f"{key.service}.{key.method}").invalidate(key.arguments, cause)
        return DONE

    def execute(
        self, command: BoundCommand[..., Any], arguments: tuple[Any, ...], command_id: str | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Run the command here."""
        return run_command(command, arguments, command_id, turns=self.turns)
