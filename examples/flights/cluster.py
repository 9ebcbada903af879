"""The demo's cluster: the app on Ray, over one database file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from examples.flights.dataset.folder import DATABASE_VARIABLE, database_url
from fusion_shards.joining import joins_ray, start_ray, stop_ray
from fusion_shards.launch import LaunchedApp, check_gateway_addresses, launch

APP = "examples.flights:app"


@asynccontextmanager
async def running_cluster(database: Path, *, shards: int, port: int) -> AsyncIterator[LaunchedApp]:
    """Start Ray, or join the one that RAY_ADDRESS names, and run the app in it for as long as the context lasts.

    Args:
        database: what the app serves.
        shards: how many shards.
        port: of the gateway; 0: any free one.

    Raises:
        UsageError: the port is taken, or the app runs already in that Ray cluster.
    """
    cpus = max(os.cpu_count() or 1, shards + 1)  # one for each shard and for the gateway
    if not joins_ray(None):
        check_gateway_addresses("127.0.0.1", port, 1, field="--port")
    start_ray(cpus=cpus)  # blocks for seconds, but Ray wants the main thread
    try:
        environment = {DATABASE_VARIABLE: database_url(database)}
        async with await launch(APP, shards=shards, grpc_port=port, environment=environment) as launched:
            yield launched
    finally:
        stop_ray()
