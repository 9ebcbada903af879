"""The client for code without an event loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from fusion_cluster.blocking import BlockingHost
from fusion_cluster.client.client import CONNECT_TIMEOUT_S, DEFAULT_TIMEOUT_S, Client, Update, connect
from fusion_cluster.v1 import gateway_pb2


class BlockingClient(BlockingHost[Client]):
    """A connection to a gateway whose methods block. `connect_blocking` makes it; it is a context manager.

    `service(Carts)` returns the typed service, with replicas. The methods here take names, like those of `Client`.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client, name=f"the client of {client.address}")

    def call(self, name: str, *arguments: object) -> Any:
        """See `Client.call`."""
        return self.run(self.host.call, name, *arguments)

    def execute(self, name: str, *arguments: object, command_id: str | None = None) -> Any:
        """See `Client.execute`."""
        return self.run(partial(self.host.execute, command_id=command_id), name, *arguments)

    def describe(self, service: str = "") -> gateway_pb2.DescribeReply:
        """See `Client.describe`."""
        return self.run(self.host.describe, service)

    def watch(self, name: str, *arguments: object, min_interval_s: float = 0.0) -> Iterator[Update]:
        """See `Client.watch`; the iterator waits without a limit."""
        return self.iterate(partial(self.host.watch, min_interval_s=min_interval_s), name, *arguments)


def connect_blocking(
    address: str | Sequence[str],
    *,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    max_nodes: int = 100_000,
) -> BlockingClient:
    """Return a client of the gateway at an address, for code without an event loop; use it as a context manager.

    Its event loop runs in a thread of its own. gRPC for Python supports one event loop in a process. If another loop
    uses it already, connect there (`connect`), and give `blocking(client, loop=…)` to the threads.

    Args:
        address: as for `connect`.
        timeout_s: how long a read or command may take, reconnects included; None: no limit.
        connect_timeout_s: how long the gateway may take to answer for the first time.
        max_nodes: bound on the number of replicas.

    Raises:
        UsageError: the address or a number is wrong; `field` names it.

    Example:
        >>> with connect_blocking("localhost:50051") as client:
        ...     carts = client.service(Carts)
        ...     carts.total("c1")
    """
    return BlockingClient(
        connect(address, timeout_s=timeout_s, connect_timeout_s=connect_timeout_s, max_nodes=max_nodes)
    )
