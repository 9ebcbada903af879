"""Names of an app's actors in Ray. They hold the app's name, so that two apps in one cluster do not see each other."""

from __future__ import annotations

NAMESPACE = "fusion-cluster"
"""The default Ray namespace of apps."""

_COORDINATOR = "/coordinator"


def coordinator_name(app_name: str) -> str:
    """Return the name of the app's coordinator actor."""
    return app_name + _COORDINATOR


def shard_name(app_name: str, shard_id: int) -> str:
    """Return the name of one of the app's shard actors."""
    return f"{app_name}/shard-{shard_id}"


def gateway_name(app_name: str, gateway_id: int) -> str:
    """Return the name of one of the app's gateway actors."""
    return f"{app_name}/gateway-{gateway_id}"


def app_of_coordinator(actor_name: str) -> str | None:
    """Return the app whose coordinator has that name; None for any other actor."""
    return actor_name.removesuffix(_COORDINATOR) if actor_name.endswith(_COORDINATOR) else None
