"""Hosts: the homes of an app's services.

A host has one graph, the services bound to it, the operation log that it follows and the dispatcher of events. It
decides where a computation's value comes from (the body, or another process) and where invalidations and commands go.
`LocalHost` is the whole app in one process.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fusion_cluster.bound_services import BoundServices
from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.commands import (
    BoundCommand,
    CommandResult,
    Invocation,
    LoggedKey,
    TimeLimits,
    Turns,
    collect_publication,
    record_invalidation,
    run_command,
    running_command,
)
from fusion_cluster.database.applied_operations import AppliedOperations
from fusion_cluster.database.operation_log import OperationLog
from fusion_cluster.delivery import new_dispatcher
from fusion_cluster.events.dispatcher import Dispatcher
from fusion_cluster.followed_log import FollowedLog
from fusion_cluster.forks import watch_forks
from fusion_cluster.graph import (
    DEFAULT_HISTORY,
    DONE,
    Cause,
    Computed,
    ComputeFunction,
    Explanation,
    Graph,
    Key,
    StoryEntry,
)
from fusion_cluster.graph.hosting import run_body
from fusion_cluster.graph.why.cause import call_site
from fusion_cluster.logged_keys import keys_of, logged_keys
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.strict import Strictness, choose_strict
from fusion_cluster.verification import Verification

if TYPE_CHECKING:
    from fusion_cluster.app_definition import AppDefinition

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=ComputeService)


class Host(ABC):
    """The services of an app, attached to one graph.

    Args:
        app: the app to host.
        peer_id: names this process, and this host in it, to others.
        max_nodes: hard bound on the number of nodes in the graph.
        max_bytes: hard bound on the bytes that nodes and values take, by estimate.
        history: how many of the graph's last events are kept, for `why` and `story`.
        strict: values pass through their codecs and must not change.
        runtime: the clock, the random numbers and the tasks of all parts of the host.

    Attributes:
        strict: the checks of a strict host; None for other hosts.
        graph: the computeds.
        bodies: default options, and the runner of bodies off the event loop.
        runtime: the clock, the random numbers and the tasks of all parts of the host.
        peer_id: names this process, and this host in it, to others.
        services: an instance of each service, and its methods bound to the graph.
        applied: the operations whose invalidations are applied here.
        log: follows the operation log; None before `start`, without a database, and where bodies do not run.
        verification: compares what is cached here with what the methods return now.
        dispatcher: delivers events; None before `start`, and without event handlers to run.
        loop: the event loop in which the host was made; None if it was made outside of one.
    """

    def __init__(
        self,
        app: AppDefinition,
        *,
        peer_id: str,
        max_nodes: int,
        max_bytes: float,
        history: int,
        strict: bool = False,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self.app = app
        self.runtime = runtime
        self.strict = Strictness() if strict else None
        graph = Graph(
            max_nodes=max_nodes,
            max_bytes=max_bytes,
            size_of=app.size_of,
            is_transient=app.is_transient,
            history=history,
            guard=self.strict,
            name=f"the host of the app {app.name!r}",
            runtime=runtime,
        )
        self.graph = watch_forks(graph)
        self.bodies = app.new_bodies(self.strict)
        self.peer_id = peer_id
        self.applied = AppliedOperations()
        self.services = BoundServices(app, self.graph.functions)
        self.log: FollowedLog | None = None
        self.dispatcher: Dispatcher | None = None
        self.loop = asyncio._get_running_loop()
        self.turns = Turns()
        self.time_limits = TimeLimits()
        self.verification = Verification(self, app.verify, app=app.name)

    def _bind_services(self, *, runs_bodies: bool) -> None:
        """Make the services. A host does this last: a service's `__init__` may use all parts of the host.

        Args:
            runs_bodies: whether methods' bodies can run here; if not, the services' `__init__` is not called.
        """
        self.services.bind(self, bodies=self.bodies, runs_bodies=runs_bodies)

    def service(self, service: type[S]) -> S:
        """Return the instance of a service class that lives in this host.

        Raises:
            UsageError: the class is not one of the app's services.
        """
        return self.services.service(service)

    def function(self, name: str) -> ComputeFunction:
        """Return the compute method of that full name ("Carts.total").

        Raises:
            UnknownMethod: the app has no such method.
        """
        return self.services.function(name)

    def command(self, name: str) -> BoundCommand[..., Any]:
        """Return the command of that full name ("Products.set_price").

        Raises:
            UnknownMethod: the app has no such command.
        """
        return self.services.command(name)

    # -- why -----------------------------------------------------------------------------------
    def why(self, method: str, /, *args: object, **kwargs: object) -> Explanation | None:
        """Explain why a key is out of date here, or was when it was invalidated last.

        >>> print(host.why("Carts.total", "c1"))

        Args:
            method: the compute method's full name.
            args: its arguments.
            kwargs: the arguments that are given by name.

        Returns:
            None if this process knows nothing of the key: it was never asked for here, or so long ago that its events
            are forgotten.

        Raises:
            UnknownMethod: the app has no such compute method.
            InvalidArgument: the arguments are not those of the method.
        """
        return self.graph.why(self._key(method, args, kwargs))

    def story(self, method: str, /, *args: object, **kwargs: object) -> list[StoryEntry]:
        """List what has happened to a key here, oldest first, as far back as is known (see `why`)."""
        return self.graph.story(self._key(method, args, kwargs))

    def _key(self, method: str, args: tuple[object, ...], kwargs: dict[str, object]) -> Key:
        function = self.function(method)
        return Key(function.service_name, function.method_name, function.signature.bind(args, kwargs))

    # -- graph.hosting.Hosting: services are attached to it ----------------------------------------
    @abstractmethod
    def produce(self, node: Computed[Any]) -> Coroutine[Any, Any, Any]:
        """Get the value of a node."""

    @abstractmethod
    def schedules_expiry(self, node: Computed[Any]) -> bool:
        """Return whether the timers of the node (errors, auto-invalidation) run here: only where its body ran."""

    @abstractmethod
    def owns(self, key: Key) -> bool:
        """Return whether the key's value is computed here."""

    @abstractmethod
    def publish(self, keys: Mapping[Key, Cause], barrier: bool, operation_id: str = "") -> Awaitable[None]:
        """Invalidate keys, each for its cause: here at once, and at their owners.

        The awaitable ends when the owners have applied the invalidation. With `barrier` it ends when, besides, no
        replica anywhere serves a value that depended on the old data.
        """

    @abstractmethod
    def carry_out(self, invocation: Invocation) -> Coroutine[Any, Any, CommandResult]:
        """Run a command on the shard that owns its key, or return the result of an earlier run under the same id.

        Raises:
            UnknownMethod: it is not a command of the app.
            DeadlineExceeded: its time ran out, and nothing is committed.
            CommandOutcomeUnknown: its time ran out, and it may be committed.
        """

    async def execute(self, invocation: Invocation) -> Any:
        """Run a command on the shard that owns its key, and return its result."""
        self.graph.require_usable()
        self.graph.starter(invocation.method)  # raises if this is not the graph's event loop
        return (await self.carry_out(invocation)).value

    def invalidate(self, function: ComputeFunction, arguments: tuple[Any, ...]) -> Awaitable[None]:
        """Invalidate a key, for `service.method.invalidate(...)`.

        Inside an operation the invalidation is recorded with the commit. Elsewhere it applies at once, and a command
        around it waits for it before it returns.
        """
        self.graph.require_usable()
        key = Key(function.service_name, function.method_name, arguments)
        command = running_command()
        cause = call_site() if command is None else call_site("command", command.run)
        if record_invalidation(key, cause, self):
            return DONE
        return collect_publication(lambda barrier: self.publish({key: cause}, barrier))

    # -- the operation log ---------------------------------------------------------------------
    @property
    def command_log(self) -> OperationLog | None:
        """The log in which commands are recorded; None without a database."""
        return None if self.app.database is None else self.app.database.log

    def method_of(self, key: Key) -> Method:
        """Return the compute method of a key."""
        return self.app.methods[f"{key.service}.{key.method}"]

    def logged_keys(self, keys: Mapping[Key, Cause]) -> list[LoggedKey]:
        """Return keys as other processes know them."""
        return logged_keys(keys, self.app.methods)

    def keys_of(self, logged: Iterable[LoggedKey], told_by: str) -> dict[Key, Cause]:
        """Return the keys for logged ones; keys that this app does not know are left out."""
        return keys_of(logged, told_by, self.app.methods)

    async def start(self) -> None:
        """Start the host's background work, if bodies run here: follow the operation log, deliver events.

        Raises:
            Exception: the database cannot be reached, or the library's tables cannot be made in it.
        """
        database = self.app.database
        if database is None or not self.services.runs_bodies:
            return
        database.live_by(self.runtime)
        await database.prepare()
        self.log = FollowedLog(
            database,
            methods=self.app.methods,
            graph=self.graph,
            applied=self.applied,
            owns=self.owns,
            function=self.function,
            peer_id=self.peer_id,
            on_others=self._on_others_committed,
        )
        await self.log.start()
        handlers = self.services.event_handlers
        if handlers:
            self.dispatcher = new_dispatcher(
                self, database, handlers, options=self.app.event_options, owned=self.owned_slots, runtime=self.runtime
            )
            await self.dispatcher.start()

    def _on_others_committed(self) -> None:
        if self.dispatcher is not None:
            self.dispatcher.wake_soon()  # they may have emitted events

    async def stop_delivering(self) -> None:
        """Stop delivering events. Running handlers are cancelled; their committed changes are published."""
        if self.dispatcher is not None:
            await self.dispatcher.close()

    async def stop_following(self) -> None:
        """Stop following the operation log."""
        if self.log is not None:
            await self.log.close()

    # -- verification --------------------------------------------------------------------------
    @property
    def shard_number(self) -> int:
        """The number of the shard that this is, as `owner_of` returns it: -1 for the only process of an app."""
        return -1

    def owner_of(self, key: Key) -> int:
        """Return the number of the shard that owns a key; -1: there is one process, or no slot map is known."""
        return -1

    async def close_graph(self) -> None:
        """Stop verifying, and cancel running computations; callers that wait for them get an error."""
        await self.verification.close()
        if self.strict is not None:
            self.strict.check_all()
        await self.graph.close()

    # -- events --------------------------------------------------------------------------------
    def handles_event(self, event_type: str) -> bool:
        """Return whether the app has a handler for events of the class of that name."""
        return event_type in self.app.event_classes

    def carried(self) -> Mapping[str, str]:
        """Return what the middleware adds to an event that is emitted in this context: the trace."""
        return self.app.carried()

    def owned_slots(self) -> bytes | None:
        """Return a byte for each slot, 1 where it is owned here now; None if all are owned here."""
        return None


class LocalHost(Host):
    """The whole app in one process and event loop."""

    def __init__(
        self,
        app: AppDefinition,
        *,
        max_nodes: int = 1_000_000,
        max_bytes: float = math.inf,
        history: int = DEFAULT_HISTORY,
        strict: bool | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        super().__init__(
            app,
            peer_id=f"{app.name}/local-{os.getpid()}-{runtime.entropy.token_hex(4)}",
            max_nodes=max_nodes,
            max_bytes=max_bytes,
            history=history,
            strict=choose_strict(strict),
            runtime=runtime,
        )
        self._bind_services(runs_bodies=True)

    async def close(self) -> None:
        """Stop what `start` has begun, and cancel running computations. A copy in a forked process stops nothing."""
        if not self.graph.is_forked:
            await self.stop_delivering()
            await self.stop_following()
            await self.close_graph()

    def produce(self, node: Computed[Any]) -> Coroutine[Any, Any, Any]:
        """Run the body."""
        if self.strict is not None:
            node.function.method.require_shard_key(node.arguments)  # a cluster needs it
        return run_body(node)

    def schedules_expiry(self, node: Computed[Any]) -> bool:
        """Return True: every body runs here."""
        return True

    def owns(self, key: Key) -> bool:
        """Return True: every key's value is computed here."""
        return True

    def publish(self, keys: Mapping[Key, Cause], barrier: bool, operation_id: str = "") -> Awaitable[None]:
        """Invalidate the keys. There is one graph, so nothing is left to wait for."""
        if operation_id not in self.applied:
            for key, cause in keys.items():
                self.function(f"{key.service}.{key.method}").invalidate(key.arguments, cause)
            self.applied.add(operation_id)
        return DONE

    def carry_out(self, invocation: Invocation) -> Coroutine[Any, Any, CommandResult]:
        """Run the command here."""
        command = self.command(invocation.method)
        if self.strict is not None:
            command.method.require_shard_key(invocation.arguments)
        return run_command(command, invocation, host=self)
