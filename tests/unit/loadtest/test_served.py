"""A served process is awaited with a bound and stopped whatever happens."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from loadtest.cluster import ClusterDidNotStartError, free_port, served

SERVER = """
import signal, sys
from concurrent import futures
import grpc
from grpc_health.v1 import health, health_pb2_grpc
server = grpc.server(futures.ThreadPoolExecutor(1))
health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
signal.sigwait([signal.SIGTERM])
"""


def command(script: str, port: int) -> list[str]:
    return [sys.executable, "-c", script, str(port)]


def processes_for(port: int) -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if str(port) in process.cmdline()]


def test_it_is_serving_inside_and_gone_after(tmp_path: Path) -> None:
    port = free_port()
    with served(command(SERVER, port), address=f"127.0.0.1:{port}", log=tmp_path / "log", timeout_s=30):
        assert len(processes_for(port)) == 1
    assert not processes_for(port)


def test_it_is_gone_after_an_error_too(tmp_path: Path) -> None:
    port = free_port()
    server = served(command(SERVER, port), address=f"127.0.0.1:{port}", log=tmp_path / "log", timeout_s=30)
    with pytest.raises(KeyboardInterrupt), server:
        raise KeyboardInterrupt
    assert not processes_for(port)


def test_one_that_ends_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    script = "import sys; sys.exit('the port is taken')"
    server = served(command(script, 1), address="127.0.0.1:1", log=tmp_path / "log", timeout_s=30)
    with pytest.raises(ClusterDidNotStartError, match="the port is taken"), server:
        pass


def test_one_that_never_serves_is_given_up_and_stopped(tmp_path: Path) -> None:
    script = "import signal; signal.sigwait([signal.SIGTERM])"
    port = free_port()
    server = served(command(script, port), address=f"127.0.0.1:{port}", log=tmp_path / "log", timeout_s=0.5)
    with pytest.raises(ClusterDidNotStartError, match=r"within 0\.5 s"), server:
        pass
    assert not processes_for(port)
