"""The gateway: a gRPC server for clients outside the cluster."""

from fusion_router.gateway.entrance import GatewayEntrance
from fusion_router.gateway.gateway import Gateway
from fusion_router.gateway.limits import GatewayLimits
from fusion_router.gateway.sessions import Acceptor

__all__ = ["Acceptor", "Gateway", "GatewayEntrance", "GatewayLimits"]
