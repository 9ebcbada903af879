"""The gateway: a gRPC server for clients outside the cluster."""

from fusion_router.gateway.entrance import GatewayEntrance
from fusion_router.gateway.gateway import Acceptor, Gateway
from fusion_router.gateway.limits import GatewayLimits

__all__ = ["Acceptor", "Gateway", "GatewayEntrance", "GatewayLimits"]
