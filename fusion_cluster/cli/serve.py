"""`fusion-cluster serve`: runs an app on Ray until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console, RenderableType

from fusion_cluster.addresses import MAX_PORT
from fusion_cluster.app_import import import_app
from fusion_cluster.catalogue.slots import SLOT_COUNT
from fusion_cluster.cli.deadline import has_unfinished_work, in_thread
from fusion_cluster.cli.options import checked
from fusion_cluster.cli.output import ReaderGone, console, progress
from fusion_cluster.cli.status import require_ray, status_table
from fusion_cluster.errors import DeadlineExceeded, InvalidArgument
from fusion_cluster.graph.computing.retention import NODE_BYTES
from fusion_cluster.quantities import MOST, as_finite_timeout, as_number
from fusion_cluster.runtime import SYSTEM
from fusion_cluster.verification.options import MAX_RATE

T = TypeVar("T")

LEAST_BYTES: Final = max(1000, NODE_BYTES)
JOIN_TIMEOUT_S: Final = 60.0


def _as_bytes(field: str, value: float | None) -> float | None:
    wanted = f"a number of bytes from {LEAST_BYTES} to {MOST}"
    return None if value is None else as_number(field, value, wanted, least=LEAST_BYTES, most=MOST)


def serve(
    app: Annotated[str, typer.Argument(help="The app, as module:attribute.", show_default=False)],
    shards: Annotated[int, typer.Option(help="How many shards.", min=1, max=SLOT_COUNT)] = 2,
    gateways: Annotated[
        int, typer.Option(help="How many gateways; gateway i listens on port + i.", min=0, max=MAX_PORT)
    ] = 1,
    grpc_port: Annotated[
        int, typer.Option(help="Port of the first gateway; 0: any free port.", min=0, max=MAX_PORT)
    ] = 50051,
    grpc_host: Annotated[str, typer.Option(help="Address the gateways bind to.")] = "127.0.0.1",
    insecure: Annotated[bool, typer.Option(help="Allow gateways without credentials beyond loopback.")] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Join the Ray cluster there ('auto': the one of this machine) instead of starting one; "
            "'local': start one and ignore RAY_ADDRESS."
        ),
    ] = None,
    max_nodes: Annotated[
        int, typer.Option(help="Bound on cached results in each process.", min=1, max=MOST)
    ] = 1_000_000,
    max_bytes: Annotated[
        float | None,
        typer.Option(
            help="Bound on the bytes of cached results in each process, by estimate; default: no limit.",
            callback=checked(_as_bytes),
            show_default=False,
        ),
    ] = None,
    call_timeout: Annotated[
        float,
        typer.Option(help="Time limit of a call in seconds, retries included.", callback=checked(as_finite_timeout)),
    ] = 10.0,
    verify: Annotated[
        float,
        typer.Option(
            help="Run the freshness monitor: each shard and gateway verifies so many cached values a second; "
            "0: as the app says.",
            min=0,
            max=MAX_RATE,
        ),
    ] = 0.0,
) -> None:
    """Start or join Ray and run an app: its shards and gateways. Ctrl-C or SIGTERM stops it in good order."""
    require_ray()
    from fusion_shards.joining import joins_ray, start_ray, stop_ray
    from fusion_shards.launch import check_gateway_addresses, check_last_port, launch

    # Wrong arguments are reported at once, before Ray starts.
    task_cpus = import_app(app).task_cpus
    joins = joins_ray(ray_address)
    if joins:  # gateways may run on other machines
        check_last_port(grpc_port, gateways, field="--grpc-port")
    else:
        _check_processes(shards, gateways)
        check_gateway_addresses(
            grpc_host, grpc_port, gateways, insecure=insecure, host_field="--grpc-host", field="--grpc-port"
        )
    # Each member keeps a CPU for good; a body that runs as a Ray task needs more CPUs.
    cpus = max(os.cpu_count() or 1, shards + gateways + math.ceil(task_cpus))

    async def run() -> None:
        out = console()
        loop = asyncio.get_running_loop()
        told_to_stop = asyncio.Event()

        def heed_signals() -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, told_to_stop.set)

        heed_signals()
        with progress(out, f"starting {app} on Ray: {shards} shards, {gateways} gateways"):
            if joins:
                joining = asyncio.wrap_future(in_thread(lambda: start_ray(address=ray_address)))
                await unless(told_to_stop, _in_time(joining, JOIN_TIMEOUT_S))
            else:  # Ray's processes end with the thread that has started them; the threads of `to_thread` stay
                await asyncio.to_thread(start_ray, address=ray_address, cpus=cpus)
            heed_signals()  # again: Ray has installed its own handlers, which print a stack as if it had crashed
            if told_to_stop.is_set():
                return
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
                    max_bytes=math.inf if max_bytes is None else max_bytes,
                    call_timeout_s=call_timeout,
                    verify_rate=verify,
                ),
            )
        if launched is None:
            return
        try:
            _tell(out, status_table(await launched.status()))
            for address in launched.gateway_addresses:
                _tell(out, f"[bold green]serving[/] {launched.configuration.app_name} at [bold]{address}[/]")
            _tell(out, "[dim]try: fusion-cluster describe[/]")
            await told_to_stop.wait()
            _tell(out, "[dim]stopping: calls in flight finish first[/]")
        finally:
            await launched.stop()

    try:
        asyncio.run(run())
    finally:
        if not has_unfinished_work():
            stop_ray()


def _check_processes(shards: int, gateways: int) -> None:
    """Refuse more members than one machine can run: each member is a process.

    Raises:
        InvalidArgument: there would be too many processes.
    """
    most = max(64, 16 * (os.cpu_count() or 1))
    if shards + gateways > most:
        raise InvalidArgument(
            f"--shards {shards} and --gateways {gateways} are more processes than one machine runs "
            f"(here at most {most}); for more, join a Ray cluster of several machines with --ray-address"
        )


def _tell(out: Console, what: RenderableType) -> None:
    """Print something. If the output cannot be written, stop printing; the app is served on."""
    try:
        out.print(what)
    except (ReaderGone, OSError):
        out.quiet = True


async def _in_time(joining: asyncio.Future[None], timeout_s: float) -> None:
    try:
        await asyncio.wait_for(joining, timeout_s)
    except TimeoutError as error:
        raise DeadlineExceeded(f"joining the Ray cluster took longer than {timeout_s:g} s") from error


async def unless(told_to_stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Run work. When the event is set, cancel the work, wait for its end and return None."""
    working = SYSTEM.create_task(work, name="work")
    stopping = SYSTEM.create_task(told_to_stop.wait(), name="wait to be stopped")
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.wait([working])
        if not working.cancelled():
            working.exception()  # mark it as retrieved: its error is not needed any more
        return None
    finally:
        stopping.cancel()
