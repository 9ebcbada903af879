"""`connect()`: opens a client that uses an app from outside its cluster, through a gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from fusion_cluster.addresses import parse_addresses
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.client.channel import SessionStreams, open_channel
from fusion_cluster.client.first_contact import FirstContact
from fusion_cluster.client.proxies import ClientHost
from fusion_cluster.client.rpcs import PlainRpcs, as_interval
from fusion_cluster.errors import UsageError
from fusion_cluster.forks import copied_by_fork, lose_grpc, require_grpc, watch_forks
from fusion_cluster.link.peer import Peer
from fusion_cluster.quantities import as_count, as_finite_timeout, as_timeout
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.v1 import gateway_pb2
from fusion_cluster.wire.codec import encode_msgpack
from fusion_cluster.wire.errors import decode_error
from fusion_cluster.wire.status import status_to_error

S = TypeVar("S", bound=ComputeService)

DEFAULT_TIMEOUT_S = 10.0

CONNECT_TIMEOUT_S = 5.0
"""A running gateway answers in milliseconds; a gateway that is starting, in seconds."""


@dataclass(frozen=True)
class Update:
    """One value of a watched method, or the error of its computation.

    Attributes:
        version: the version of the computed; 0 for an error.
        error: the exception that the method raised, or None.
    """

    version: int
    error: Exception | None = None
    _value: Any = field(default=None, repr=False)

    @property
    def value(self) -> Any:
        """The value, as plain types.

        Raises:
            Exception: `error`, if there is one.
        """
        if self.error is not None:
            raise self.error
        return self._value


class Client:
    """A connection to a gateway. `connect` makes it; it is an async context manager.

    It connects when first used, and again by itself after a loss. Calls made meanwhile wait, up to the timeout.

    Attributes:
        address: the address of the gateway, or of several, with commas between them.
        timeout_s: how long a read or command may take; infinite: no limit.
        connect_timeout_s: how long the first contact may take.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        max_nodes: int = 100_000,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._runtime = runtime
        self._addresses = parse_addresses(address)
        self.address = ", ".join(map(str, self._addresses))
        self.timeout_s = as_timeout("timeout_s", timeout_s)
        self.connect_timeout_s = min(as_finite_timeout("connect_timeout_s", connect_timeout_s), self.timeout_s)
        self._max_nodes = as_count("max_nodes", max_nodes)
        self._is_open = self._was_open = self._is_forked = False

    async def __aenter__(self) -> Self:
        if self._is_open:
            raise UsageError(f"the client of {self.address} is open already")
        require_grpc()
        runtime = self._runtime
        self._channel = open_channel(self._addresses)
        self._contact = FirstContact(self._channel, self._addresses, timeout_s=self.connect_timeout_s, runtime=runtime)
        self._rpcs = PlainRpcs(self._channel, self._contact, timeout_s=self.timeout_s, runtime=runtime)
        self._streams = SessionStreams(self._channel, runtime=runtime)
        self._peer = Peer(self._streams.dial, peer_id=f"client-{runtime.entropy.new_id()}", runtime=runtime)
        self._host = ClientHost(
            self._peer, self._contact, timeout_s=self.timeout_s, max_nodes=self._max_nodes, runtime=runtime
        )
        self._is_open = self._was_open = True
        watch_forks(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End pending calls with an error, and close the connection. The end of the `async with` block calls it."""
        if not self._is_open or self._is_forked:
            return
        self._is_open = False
        self._rpcs.close()
        await self._host.close()
        await self._contact.close()
        await self._peer.close()
        await self._streams.close()
        await self._channel.close()

    def on_forked(self) -> None:
        """Note that this is a copy: the connection belongs to the parent."""
        self._is_forked = True
        if self._is_open:
            lose_grpc()

    @property
    def is_connected(self) -> bool:
        """Whether the session with the gateway is up now; it opens with the first typed call."""
        return self._is_open and self._peer.is_connected

    # -- typed
    def service(self, service: type[S]) -> S:
        """Return the typed service: its compute methods read replicas, its commands run in the cluster.

        A repeated read needs no network until the value changes; then the replica is invalidated.
        """
        self._check_open()
        return self._host.service(service)

    # -- by name
    async def call(self, name: str, *arguments: object) -> Any:
        """Read a value by the method's full name ("Carts.total"). The value has plain types.

        Raises:
            UnknownService, UnknownMethod, InvalidArgument: the service, the method or the arguments are wrong.
            ShardUnavailable: the gateway, or the shard behind it, could not be reached in time.
            Exception: the exception that the method raised.
        """
        self._check_open()
        reply = await self._rpcs.call(name, _payload(arguments))
        return _plain(reply.value)

    async def execute(self, name: str, *arguments: object, command_id: str | None = None) -> Any:
        """Run a command by its full name ("Products.set_price"). The result has plain types.

        Args:
            name: the command.
            arguments: its arguments, in order.
            command_id: the id of an earlier try of the same command; None: a new id.

        Raises:
            CommandOutcomeUnknown: the gateway was lost while it ran; the message has the id to retry with.
            Exception: the exception that the command raised.
        """
        self._check_open()
        reply = await self._rpcs.execute(name, _payload(arguments), command_id or self._runtime.entropy.new_id())
        return _plain(reply.result)

    async def watch(self, name: str, *arguments: object, min_interval_s: float = 0.0) -> AsyncGenerator[Update, None]:
        """Watch a value by the method's full name: yield it now and after each change, through reconnects.

        If the loop body is slow, values between two updates are skipped. An equal value is not repeated.

        Args:
            name: the method.
            arguments: its arguments, in order.
            min_interval_s: shortest time between two updates.

        Raises:
            InvalidArgument: `min_interval_s` is not a number of seconds.
            ShardUnavailable: no gateway answers, or it was away for longer than the timeout.
        """
        min_interval_s = as_interval("min_interval_s", min_interval_s)
        self._check_open()
        last: gateway_pb2.Payload | None = None
        watch = self._rpcs.watch(name, _payload(arguments), min_interval_s)
        async with aclosing(watch) as updates:
            async for update in updates:
                if update.HasField("error"):
                    last = None
                    yield Update(update.version, decode_error(status_to_error(update.error)))
                elif update.value != last:
                    last = update.value
                    yield Update(update.version, None, _plain(update.value))

    async def describe(self, service: str = "") -> gateway_pb2.DescribeReply:
        """Describe the app's services with their methods, argument and result types, or one service by its name.

        Raises:
            UnknownService: the app has no such service.
        """
        self._check_open()
        return await self._rpcs.describe(service)

    def _check_open(self) -> None:
        if self._is_forked:
            raise UsageError(copied_by_fork(f"the client of {self.address}"))
        if not self._is_open:
            what = "is closed" if self._was_open else "is not open: use it in `async with connect(...) as client`"
            raise UsageError(f"the client of {self.address} {what}")


def connect(
    address: str | Sequence[str],
    *,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    max_nodes: int = 100_000,
    runtime: Runtime = SYSTEM,
) -> Client:
    """Return a client of the gateway at an address; use it as an async context manager.

    Args:
        address: "host:port" of a gateway, or "unix:/path" of its socket. The default port is 50051. For several
            gateways, give IP addresses of one kind in a list or with commas between them, or one name that stands for
            all of them: the client uses one of them, and changes to another when that is gone.
        timeout_s: how long a read or command may take, reconnects included; None: no limit.
        connect_timeout_s: how long the gateway may take to answer for the first time; never longer than `timeout_s`.
        max_nodes: bound on the number of replicas.
        runtime: the clock, the random numbers and the tasks of the client.

    Raises:
        UsageError: the address or a number is wrong; `field` names it.

    Example:
        >>> async with connect("localhost:50051") as client:
        ...     carts = client.service(Carts)
        ...     await carts.total("c1")
    """
    return Client(
        address, timeout_s=timeout_s, connect_timeout_s=connect_timeout_s, max_nodes=max_nodes, runtime=runtime
    )


def _payload(arguments: tuple[object, ...]) -> gateway_pb2.Payload:
    return gateway_pb2.Payload(msgpack=encode_msgpack(arguments))


def _plain(payload: gateway_pb2.Payload) -> Any:
    return msgspec.msgpack.decode(payload.msgpack)
