"""The cluster that the load is put on: `fusion-cluster serve` in a process of its own, stopped whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fusion_cluster.addresses import parse_addresses
from fusion_cluster.client.channel import proxy_options

STOP_TIMEOUT_S = 30.0


class ClusterDidNotStartError(Exception):
    """The cluster ended before it served, or did not serve in time; the message has the end of its log."""


def serve_command(app: str, *, shards: int, gateways: int, port: int) -> list[str]:
    """The command that serves an app, in the Python that runs this."""
    run = "import sys; from fusion_cluster.cli import main; sys.exit(main())"
    options = ["--shards", str(shards), "--gateways", str(gateways), "--grpc-port", str(port)]
    return [sys.executable, "-c", run, "serve", app, *options]


@contextlib.contextmanager
def served(
    command: Sequence[str], *, address: str, log: Path, timeout_s: float, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a command that serves gRPC at `address` for as long as the context lasts.

    Args:
        command: what to run.
        address: where its health service answers.
        log: file for what it prints.
        timeout_s: how long it may take until it is SERVING.
        environment: variables besides ours.

    Raises:
        ClusterDidNotStartError: it did not get that far.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # A session of its own: Ctrl-C is for us, and we stop the cluster when the load has ended.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        wait_until_serving(process, address, log, timeout_s)
        yield address
    finally:
        stop(process)


def wait_until_serving(process: subprocess.Popen[bytes], address: str, log: Path, timeout_s: float) -> None:
    """Wait for grpc.health.v1 to say SERVING at `address`."""
    deadline = time.monotonic() + timeout_s
    with grpc.insecure_channel(address, options=proxy_options(parse_addresses(address))) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ClusterDidNotStartError(f"the cluster ended with {process.returncode}:\n{_end_of(log)}")
            # wait_for_ready: the call waits for the port to be there, a second at a time.
            with contextlib.suppress(grpc.RpcError):
                reply = health.Check(health_pb2.HealthCheckRequest(), timeout=1.0, wait_for_ready=True)
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
    raise ClusterDidNotStartError(f"the cluster did not serve within {timeout_s:g} s:\n{_end_of(log)}")


def stop(process: subprocess.Popen[bytes], *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Ask it to stop; after `timeout_s` end it and what it has started."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_of(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
