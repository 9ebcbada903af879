"""Numbers on the command line: what is not right is one line that names the option, before anything has started."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fusion_cluster.cli import reads
from fusion_cluster.cli.main import MISUSED, OK, run

SERVE = ["serve", "tests.apps.sheet:app"]
CALL = ["call", "Shelf.count", "nut", "--address", "127.0.0.1:1"]
WATCH = ["watch", "Shelf.count", "nut", "--address", "127.0.0.1:1"]
LONG = str(10**400)


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ("ray.init", "fusion_shards.joining.start_ray", "fusion_shards.ray_clusters.find_app"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("Ray was started, or looked for"))
    monkeypatch.setattr(reads, "ask", lambda *_: pytest.fail("a gateway was asked"))


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        *((SERVE, "--grpc-port", value) for value in ("70000", "65536", "-1", LONG, "nan", "http", "")),
        *((SERVE, "--shards", value) for value in ("0", "-1", "10000000", "16385", "2.5", "inf", LONG)),
        *((SERVE, "--gateways", value) for value in ("-1", "70000", "two", LONG)),
        *((SERVE, "--max-nodes", value) for value in ("0", "-5", "inf", "nan", LONG)),
        *((SERVE, "--max-bytes", value) for value in ("0", "-1", "inf", "-inf", "nan", "999", "1e300", "much", LONG)),
        *((SERVE, "--call-timeout", value) for value in ("0", "-1", "inf", "nan", "1e12", "5s", LONG)),
        *((CALL, "--timeout", value) for value in ("0", "-1", "inf", "-inf", "nan", "1e12", "1e400", "soon", LONG)),
        *((["execute", *CALL[1:]], "--timeout", value) for value in ("0", "inf", "nan")),
        *((["describe"], "--timeout", value) for value in ("0", "inf", "nan")),
        *((["status"], "--timeout", value) for value in ("0", "-1", "inf", "nan", "1e12")),
        *((WATCH, "--timeout", value) for value in ("0", "inf", "nan")),
        *((WATCH, "--min-interval", value) for value in ("-1", "inf", "nan", "1e12", "1e7", LONG)),
        *((WATCH, "--count", value) for value in ("-1", "nan", LONG)),
        *((["events", "list", "sqlite:///x.db"], "--limit", value) for value in ("0", "-1", LONG)),
        *((["events", "list", "sqlite:///x.db"], "--after", value) for value in ("-1", LONG)),
    ],
)  # fmt: skip
def test_a_number_that_is_not_right_is_one_line_that_names_the_option(
    command: list[str], option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, option, value]) == MISUSED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert option in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--grpc-port", "65535", "--gateways", "2"], "--grpc-port"),
        (["--grpc-port", "65000", "--gateways", "60000", "--ray-address", "127.0.0.1:1"], "--grpc-port"),
        (["--shards", "16000"], "--shards"),
        (["--gateways", "2000", "--grpc-port", "0"], "--gateways"),
        (["--grpc-host", "192.0.2.77", "--insecure"], "--grpc-host"),
        (["--grpc-host", "does-not-exist.invalid", "--insecure"], "--grpc-host"),
        (["--grpc-host", "0.0.0.0"], "--grpc-host"),
        (["--grpc-host", "0.0.0.0"], "insecure"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*SERVE, *options]) == MISUSED
    captured = capsys.readouterr()
    assert named in captured.err
    assert captured.err.count("\n") == 1


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use; the one before it can be named."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("gateway_id", [0, 1, 2])
def test_a_port_in_use_is_told_before_ray_starts(
    gateway_id: int, taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*SERVE, "--gateways", "3", "--grpc-port", str(taken - gateway_id)]) == MISUSED
    captured = capsys.readouterr()
    assert "--grpc-port" in captured.err
    assert "is in use" in captured.err
    assert captured.err.count("\n") == 1


def test_numbers_that_are_right_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(reads, "ask", lambda _address, timeout_s, _question: asked.append(timeout_s))
    assert run([*WATCH, "--timeout", "0.5", "--min-interval", "0"]) == OK
    assert run([*WATCH, "--timeout", "1e9", "--min-interval", "3600.5"]) == OK
    assert asked == [0.5, 1e9]
