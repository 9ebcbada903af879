"""`fusion-cluster serve`: run an app on Ray until it is told to stop."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from fusion_cluster.app_import import import_app
from fusion_cluster.cli.status import console, require_ray, status_table

T = TypeVar("T")


def serve(
    app: Annotated[str, typer.Argument(help="The app, as module:attribute.")],
    shards: Annotated[int, typer.Option(help="How many shards.", min=1)] = 2,
    gateways: Annotated[int, typer.Option(help="How many gateways; gateway i listens on port + i.", min=0)] = 1,
    grpc_port: Annotated[int, typer.Option(help="Port of the first gateway; 0: any free port.", min=0)] = 50051,
    grpc_host: Annotated[str, typer.Option(help="Address the gateways bind to.")] = "127.0.0.1",
    insecure: Annotated[bool, typer.Option(help="Allow gateways without credentials beyond loopback.")] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Join the Ray cluster there ('auto': the one on this host) instead of starting one."),
    ] = None,
    max_nodes: Annotated[int, typer.Option(help="Bound on cached results in each process.", min=1)] = 1_000_000,
    max_bytes: Annotated[
        float, typer.Option(help="Bound on the bytes of cached results in each process, by estimate.", min=1000)
    ] = math.inf,
    call_timeout: Annotated[float, typer.Option(help="Seconds a call may take, retries included.", min=0.1)] = 10.0,
) -> None:
    """Start or join Ray and run an app: its shards and gateways. Ctrl-C or SIGTERM stops it in good order."""
    require_ray()
    from fusion_shards.launch import launch, start_ray, stop_ray

    task_cpus = import_app(app).task_cpus  # a wrong name is told at once, before Ray has started

    async def run() -> None:
        out = console()
        loop = asyncio.get_running_loop()
        told_to_stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told_to_stop.set)
        with out.status(f"starting {app} on Ray: {shards} shards, {gateways} gateways"):
            # Members keep a CPU each for good: a body that runs as a Ray task needs one besides.
            cpus = max(os.cpu_count() or 1, shards + gateways + math.ceil(task_cpus))
            await asyncio.to_thread(start_ray, address=ray_address, cpus=cpus)
            launched = await unless(
                told_to_stop,
                launch(
                    app,
                    shards=shards,
                    gateways=gateways,
                    grpc_host=grpc_host,
                    grpc_port=grpc_port,
                    insecure=insecure,
                    max_nodes=max_nodes,
                    max_bytes=max_bytes,
                    call_timeout_s=call_timeout,
                ),
            )
        if launched is None:
            return
        try:
            out.print(status_table(await launched.status()))
            for address in launched.gateway_addresses:
                out.print(f"[bold green]serving[/] {launched.configuration.app_name} at [bold]{address}[/]")
            out.print("try: fusion-cluster describe", style="dim")
            await told_to_stop.wait()
            out.print("stopping: calls in flight finish first", style="dim")
        finally:
            await launched.stop()

    try:
        asyncio.run(run())
    finally:
        stop_ray()


async def unless(told_to_stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Do something; give it up, and return None when it has ended, as soon as the event is set."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(told_to_stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return None
    finally:
        stopping.cancel()
