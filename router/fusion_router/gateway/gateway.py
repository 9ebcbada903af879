"""The gateway: a gRPC server in front of a host, for clients outside the cluster, in any language."""

from __future__ import annotations

from dataclasses import replace

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fusion_cluster.addresses import parse_address
from fusion_cluster.errors import UsageError
from fusion_cluster.forks import lose_grpc, require_grpc, watch_forks
from fusion_cluster.host import Host
from fusion_cluster.quantities import as_finite_delay
from fusion_cluster.v1 import gateway_pb2
from fusion_router.gateway.handlers import GatewayHandlers
from fusion_router.gateway.limits import GatewayLimits
from fusion_router.gateway.listening import check_can_listen, require_local
from fusion_router.gateway.reflection import add_reflection
from fusion_router.gateway.rpcs import GatewayRpcs
from fusion_router.gateway.sessions import Acceptor, GatewaySessions

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["Gateway"].full_name

KEEPALIVE_S = 30
"""How often clients may ping an idle connection, and how often the gateway does."""


class Gateway:
    """Serves `fusion_cluster.v1.Gateway`, health and reflection for one host.

    Args:
        host: the host whose services are called: a local host, a gateway's, a shard's.
        acceptor: takes the carriers of `Session` streams; None answers `Session` with UNIMPLEMENTED. `stop`
            closes it.
        address: host:port to listen on, where port 0 takes a free one, or "unix:/path" of a socket in the file system.
        insecure: allow an address other than loopback, although clients are not authenticated yet.
        reuse_port: let several processes listen on the same port.
        limits: the limits of requests.

    Raises:
        UsageError: the address is not on loopback, or is not an address.
    """

    def __init__(
        self,
        host: Host,
        *,
        acceptor: Acceptor | None,
        address: str = "127.0.0.1:50051",
        insecure: bool = False,
        reuse_port: bool = False,
        limits: GatewayLimits | None = None,
    ) -> None:
        self._wanted = parse_address(address, may_be_any_port=True)
        require_local(self._wanted, insecure=insecure)
        self._acceptor = acceptor
        self._reuse_port = reuse_port
        self._limits = limits or GatewayLimits()
        self._runtime = host.runtime
        self._rpcs = GatewayRpcs(host, self._limits)
        self._sessions = GatewaySessions(acceptor, runtime=host.runtime)
        self._health = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue] - not in its stubs
        self._server: grpc.aio.Server | None = None
        self.address = ""

    @property
    def watch_count(self) -> int:
        """How many `Watch` streams are open."""
        return self._rpcs.watch_count

    async def start(self) -> str:
        """Listen.

        Returns:
            The address, with the actual port.

        Raises:
            UsageError: the address is not free.
        """
        require_grpc()
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", int(self._reuse_port)),
                ("grpc.max_receive_message_length", self._limits.max_message_bytes),
                ("grpc.max_send_message_length", self._limits.max_message_bytes),
                ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
                ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_S * 1000 // 2),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        server.add_generic_rpc_handlers((GatewayHandlers(SERVICE, self._rpcs, self._sessions),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection(server, (SERVICE, health.SERVICE_NAME))
        try:
            port = server.add_insecure_port(self._wanted.listening_target)
        except RuntimeError as error:
            if not self._wanted.path:
                check_can_listen(self._wanted.host, self._wanted.port)
            raise UsageError(f"cannot listen on {self._wanted}: {error}", field="address") from error
        await server.start()
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        watch_forks(self)
        self.address = str(self._wanted if self._wanted.path else replace(self._wanted, port=port))
        return self.address

    def on_forked(self) -> None:
        """Note that this is a copy in a forked process: the clients belong to the parent."""
        if self._server is not None:
            lose_grpc()

    async def leave(self) -> None:
        """Report NOT_SERVING, end the watches with UNAVAILABLE, and refuse new ones; everything else goes on."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            self._rpcs.end_watches()

    async def drain(self, grace_s: float) -> None:
        """Wait for the commands of single calls to end; cancel those that take longer than `grace_s` seconds."""
        await self._rpcs.end_commands(as_finite_delay("grace_s", grace_s))

    async def stop(self, grace_s: float = 5.0) -> None:
        """Leave in good order: health reports NOT_SERVING, streams end with UNAVAILABLE, calls in flight finish.

        Args:
            grace_s: how long calls and commands may go on.
        """
        grace_s = as_finite_delay("grace_s", grace_s)
        if self._server is None:
            return
        await self.leave()
        server, self._server = self._server, None
        commands = self._runtime.create_task(self._rpcs.end_commands(grace_s), name="end the commands")
        self._sessions.end()
        if self._acceptor is not None:
            await self._acceptor.close()
        await server.stop(grace_s)
        await commands
