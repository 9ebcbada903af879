"""`connect()`: an app as seen from outside its cluster, through a gateway."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from fusion_cluster.client.channel import SessionStreams, open_channel
from fusion_cluster.client.proxies import ClientHost, new_command_id
from fusion_cluster.client.rpcs import PlainRpcs
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import ComputeService
from fusion_cluster.link.peer import Peer
from fusion_cluster.v1 import gateway_pb2
from fusion_cluster.wire.codec import encode_msgpack
from fusion_cluster.wire.errors import decode_error
from fusion_cluster.wire.status import status_to_error

S = TypeVar("S", bound=ComputeService)

DEFAULT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Update:
    """One value of something watched, or the error that computing it gave.

    Attributes:
        version: of the computed; 0 for an error.
        error: what the method raised, or None.
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
    """A connection to a gateway; made by `connect`, and an async context manager.

    It connects when first used, and again by itself after a loss: what is asked meanwhile waits, up to the timeout.
    """

    def __init__(self, address: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, max_nodes: int = 100_000) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._max_nodes = max_nodes
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._channel = open_channel(self.address)
        self._rpcs = PlainRpcs(self._channel, timeout_s=self.timeout_s)
        self._streams = SessionStreams(self._channel)
        self._peer = Peer(self._streams.dial, peer_id=f"client-{uuid.uuid4().hex}")
        self._host = ClientHost(self._peer, timeout_s=self.timeout_s, max_nodes=self._max_nodes)
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        await self._host.close()
        await self._peer.close()
        await self._streams.close()
        await self._channel.close()

    @property
    def is_connected(self) -> bool:
        """Whether the session with the gateway is up now; it opens with the first typed call."""
        return self._is_open and self._peer.is_connected

    # -- typed
    def service(self, service: type[S]) -> S:
        """The service, typed: its compute methods give replicas, its commands run in the cluster.

        A repeated read costs no network until the value changes; then the replica is invalidated.
        """
        self._check_open()
        return self._host.service(service)

    # -- by name
    async def call(self, name: str, *arguments: object) -> Any:
        """Read a value by the method's full name ("Carts.total"); it comes as plain types.

        Raises:
            UnknownService, UnknownMethod, InvalidArgument: there is nothing of that name, or not for such arguments.
            ShardUnavailable: nothing could be reached in time.
            Exception: what the method raised.
        """
        self._check_open()
        reply = await self._rpcs.call(name, _payload(arguments))
        return _plain(reply.value)

    async def execute(self, name: str, *arguments: object, command_id: str | None = None) -> Any:
        """Run a command by its full name ("Products.set_price"); the result comes as plain types.

        Args:
            name: the command.
            arguments: its arguments, in order.
            command_id: the id of an earlier try of the same command; a new one when not given.

        Raises:
            CommandOutcomeUnknown: the gateway was lost while it ran; the message has the id to retry with.
            Exception: what the command raised.
        """
        self._check_open()
        reply = await self._rpcs.execute(name, _payload(arguments), command_id or new_command_id())
        return _plain(reply.result)

    async def watch(self, name: str, *arguments: object, min_interval_s: float = 0.0) -> AsyncGenerator[Update, None]:
        """A value by the method's full name, now and after each change, through reconnects.

        Values between two updates are skipped when the loop body is slow; an equal value is not repeated.

        Args:
            name: the method.
            arguments: its arguments, in order.
            min_interval_s: shortest time between two updates.
        """
        self._check_open()
        last: gateway_pb2.Payload | None = None
        watch = self._rpcs.watch(name, _payload(arguments), round(min_interval_s * 1000))
        async with aclosing(watch) as updates:
            async for update in updates:
                if update.HasField("error"):
                    last = None
                    yield Update(update.version, decode_error(status_to_error(update.error)))
                elif update.value != last:
                    last = update.value
                    yield Update(update.version, None, _plain(update.value))

    async def describe(self, service: str = "") -> gateway_pb2.DescribeReply:
        """The app's services, their methods, argument and result types; of one service if it is named.

        Raises:
            UnknownService: there is no such service.
        """
        self._check_open()
        return await self._rpcs.describe(service)

    def _check_open(self) -> None:
        if not self._is_open:
            raise UsageError("the client is not open: use it in `async with connect(...) as client`")


def connect(address: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, max_nodes: int = 100_000) -> Client:
    """A client of the gateway at an address; use it as an async context manager.

    Args:
        address: host:port of a gateway, or a name that stands for several.
        timeout_s: how long a read or command may take, reconnects included.
        max_nodes: bound on the number of replicas.

    Example:
        >>> async with connect("localhost:50051") as client:
        ...     carts = client.service(Carts)
        ...     await carts.total("c1")
    """
    return Client(address, timeout_s=timeout_s, max_nodes=max_nodes)


def _payload(arguments: tuple[object, ...]) -> gateway_pb2.Payload:
    return gateway_pb2.Payload(msgpack=encode_msgpack(arguments))


def _plain(payload: gateway_pb2.Payload) -> Any:
    return msgspec.msgpack.decode(payload.msgpack)
