"""Finds the rpcs for gRPC: handlers that take and give raw bytes."""

from __future__ import annotations

from typing import Any

import grpc

from fusion_router.gateway.rpcs import GatewayRpcs
from fusion_router.gateway.sessions import GatewaySessions


class GatewayHandlers(grpc.GenericRpcHandler):
    """The rpcs of one service by their full name.

    Args:
        service: full name of the gRPC service.
        rpcs: the unary rpcs and `Watch`.
        sessions: the `Session` streams.
    """

    def __init__(self, service: str, rpcs: GatewayRpcs, sessions: GatewaySessions) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Call": grpc.unary_unary_rpc_method_handler(rpcs.call),
            "Watch": grpc.unary_stream_rpc_method_handler(rpcs.watch),
            "Execute": grpc.unary_unary_rpc_method_handler(rpcs.execute),
            "Session": grpc.stream_stream_rpc_method_handler(sessions.session),
            "Describe": grpc.unary_unary_rpc_method_handler(rpcs.describe),
        }
        self._handlers = {f"/{service}/{method}": handler for method, handler in handlers.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a call; None: the call is not for this service."""
        return self._handlers.get(handler_call_details.method)
