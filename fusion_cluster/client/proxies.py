"""Typed proxies: the classes of the app, attached to a graph whose values are read from the gateway.

Each value read is a replica: further reads need no network until the gateway invalidates it, or is not heard any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any, TypeVar, cast, get_origin

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.bodies.facade import Facade
from fusion_cluster.catalogue.catalogue import methods_of, require_types
from fusion_cluster.catalogue.injection import service_annotations, those_that_fit
from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.catalogue.service_method import UnhostedMethod
from fusion_cluster.client.failures import in_doubt
from fusion_cluster.client.first_contact import FirstContact
from fusion_cluster.commands import Invocation
from fusion_cluster.commands.retrying import until_answered
from fusion_cluster.errors import (
    ClusterError,
    CommandOutcomeUnknown,
    DeadlineExceeded,
    FusionError,
    ShardUnavailable,
    UsageError,
)
from fusion_cluster.forks import watch_forks
from fusion_cluster.graph import Computed, ComputeFunction, Graph
from fusion_cluster.graph.computing.waiting import latest_deadline_s as latest_deadline
from fusion_cluster.link.peer import Peer
from fusion_cluster.link.replica_cause import replica_cause
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.runtime.baggage import current_baggage
from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.codec import ValueCodec
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.errors import decode_error
from fusion_cluster.wire.results import decode_result

S = TypeVar("S", bound=ComputeService)


class ClientHost:
    """The host of the client's services (a `graph.hosting.Hosting`).

    Args:
        peer: the session with the gateway.
        contact: the first contact, made before the first call.
        timeout_s: how long a read or a command may take, reconnects included.
        max_nodes: bound on the number of replicas.
        runtime: the clock of deadlines.
    """

    def __init__(
        self,
        peer: Peer,
        contact: FirstContact,
        *,
        timeout_s: float,
        max_nodes: int,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._peer = peer
        self._runtime = runtime
        self._contact = contact
        self._timeout_s = timeout_s
        self._graph = watch_forks(Graph(max_nodes=max_nodes, name=f"the client of {contact.where}", runtime=runtime))
        peer.on_fence = self._graph.fence.lower
        self._graph.fence.add(peer)
        self._services: dict[type[ComputeService], ComputeService] = {}
        self._methods: dict[str, Method] = {}

    @property
    def graph(self) -> Graph:
        """The replicas."""
        return self._graph

    def service(self, service: type[S]) -> S:
        """Return the one service of a class, whose calls go to the gateway. Its `__init__` does not run."""
        instance = self._services.get(service)
        if instance is None:
            instance = self._services[service] = service.__new__(service)
            methods = methods_of(service)
            for method in methods:
                if method.kind != "event":
                    require_types(method)
            attach(instance, self, methods=methods)
            self._methods |= {method.name: method for method in methods}
            for attribute, hint in service_annotations(service).items():
                setattr(instance, attribute, self._other(service, attribute, hint))
        return cast(S, instance)

    def _other(self, service: type[ComputeService], attribute: str, hint: Any) -> Any:
        """Return the service that an annotation asks for.

        The client has no app that lists the classes. For `Repo[User]` it takes the class that was asked for here, else
        the one class of this program that is derived from it and has no further subclass.
        """
        if get_origin(hint) is None:
            return self.service(hint)
        fitting = those_that_fit(hint, self._services) or those_that_fit(hint, _leaves(get_origin(hint)))
        if len(fitting) == 1:
            return self.service(fitting[0])
        names = (
            f"{', '.join(sorted(one.__name__ for one in fitting))} are" if fitting else "no class of this program is"
        )
        return UnhostedMethod(
            f"{service.__name__}.{attribute} asks for {type_name(hint)}, and {names} derived from it: "
            "name the class of the service"
        )

    async def produce(self, node: Computed[Any]) -> Any:
        """Read the value from the gateway, and subscribe to its invalidation.

        Raises:
            ShardUnavailable: the gateway, or the shard behind it, could not be reached in time.
            Exception: the exception that the method raised.
        """
        method = node.function.method
        name, codec = method.name, method.result
        encoded = method.arguments.encode(node.arguments)
        peer = self._peer

        async def attempt(invocation: Invocation) -> Any:
            call = peer.read(
                invocation,
                encoded,
                on_invalidated=lambda _id: self._graph.invalidate_now(node, replica_cause(call, "the gateway")),
                latest_deadline_s=latest_deadline_s,
            )
            try:
                result = await call
            except (ShardUnavailable, DeadlineExceeded) as error:
                raise self._explained(error, name) from None
            node.on_invalidated(lambda _node: peer.unsubscribe(call.id))
            node.version = result.version
            return _value(name, result, codec)

        if not self._contact.is_made:
            await self._contact.make()
        latest_deadline_s = partial(latest_deadline, node, self._unlimited_s())
        invocation = Invocation(name, node.arguments, deadline_s=latest_deadline_s(), baggage=current_baggage.get())
        return await until_answered(
            invocation, attempt, runtime=self._runtime, pause=self._pause, latest_deadline_s=latest_deadline_s
        )

    def schedules_expiry(self, node: Computed[Any]) -> bool:
        """Return False: the owner of a replica decides when it expires."""
        return False

    def invalidate(self, function: ComputeFunction, arguments: tuple[Any, ...]) -> Awaitable[None]:
        """Refuse: clients cannot invalidate.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"a client cannot invalidate {function.name}: that is for commands, inside the cluster")

    async def execute(self, invocation: Invocation) -> Any:
        """Run a command through the gateway. If the session is lost, retry under the same id until the time is up.

        Raises:
            CommandOutcomeUnknown: the session was lost while it ran; retry with the same id.
            CommandNotRecorded: the session was lost while it ran, and the app has no database that records its outcome.
            ShardUnavailable: the gateway could not be reached in time; the command was not run.
            Exception: the exception that the command raised.
        """
        self._graph.require_usable()
        name = invocation.method
        method = self._methods[name]
        codec = method.result  # made before the command is sent: without it the result could not be read
        encoded = method.arguments.encode(invocation.arguments)

        async def attempt(invocation: Invocation) -> Any:
            try:
                result = await self._peer.execute(invocation, encoded)
            except CommandOutcomeUnknown:
                raise in_doubt(name, invocation.command_id) from None
            except ClusterError as error:
                if invocation.is_retry and self._graph.is_closed:
                    raise in_doubt(name, invocation.command_id) from None
                raise self._explained(error, name) from None
            return _value(name, result, codec)

        if not self._contact.is_made:
            await self._contact.make()
        sent = invocation.replace(
            command_id=invocation.command_id or self._runtime.entropy.new_id(),
            deadline_s=min(invocation.deadline_s, self._unlimited_s()),
        )
        return await until_answered(sent, attempt, runtime=self._runtime, pause=self._pause)

    def _unlimited_s(self) -> float:
        """Return the deadline of a call whose caller has none."""
        return self._runtime.clock.monotonic() + self._timeout_s

    async def _pause(self, pause_s: float) -> None:
        if self._graph.is_closed:
            raise ShardUnavailable("the client was closed")
        await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Forget the replicas; callers that wait for one get an error."""
        await self._graph.close()

    def _explained(self, error: ClusterError, name: str) -> FusionError:
        """Return the error for the caller of a call that has failed on the link."""
        if not isinstance(error, ShardUnavailable | DeadlineExceeded):
            return error
        where = self._contact.where
        if self._graph.is_closed:
            return UsageError(f"{name}: the client of {where} was closed meanwhile")
        if isinstance(error, DeadlineExceeded):
            what = f"{where} has not answered within {self._timeout_s:g} s"
        else:
            what = f"the gateway at {where} was away for {self._timeout_s:g} s"
        return type(error)(f"{name}: {what}", retry_after_s=error.retry_after_s)


def _leaves(kind: type[ComputeService]) -> list[type[ComputeService]]:
    """Return the classes derived from a class that have no further subclass, without facades."""
    derived = [one for one in kind.__subclasses__() if not issubclass(one, Facade)]
    return [leaf for one in derived for leaf in _leaves(one)] if derived else [kind]


def _value(name: str, result: session_pb2.Result, codec: ValueCodec[Any]) -> Any:
    if result.WhichOneof("outcome") == "error":
        raise decode_error(result.error)
    return decode_result(name, codec, result.value)
