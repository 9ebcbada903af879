"""What commands print on a full disk, into a pipe that nobody reads, and in an encoding without the characters."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest

from fusion_cluster.cli import describe, reads
from fusion_cluster.cli.main import FAILED, OK, READER_GONE, run
from fusion_cluster.cli.output import complain, discard_output, prepare_streams
from fusion_cluster.v1 import gateway_pb2
from fusion_shards.configuration import ClusterStatus, MemberStatus

TEXT = "Zürich – €, 𝄞"
FULL = Path("/dev/full")

COMMANDS = [
    ["call", "Shelf.item", "nut"],
    ["call", "Shelf.item", "nut", "--json"],
    ["watch", "Shelf.item", "nut", "--count", "1"],
    ["watch", "Shelf.item", "nut", "--count", "1", "--json"],
    ["describe"],
    ["describe", "--json"],
    ["status"],
    ["status", "--json"],
    ["events", "list", "DATABASE"],
    ["events", "list", "DATABASE", "--json"],
    ["upgrade-database", "DATABASE"],
    ["--help"],
    ["serve", "--help"],
]


@pytest.fixture(params=COMMANDS, ids=" ".join)
def command(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command that has something to print, for which nothing has to run."""
    value = gateway_pb2.Payload(json=json.dumps(TEXT, ensure_ascii=False))
    update = gateway_pb2.Update(value=value, version=1)
    service = gateway_pb2.ServiceDescription(name="Shelf", documentation=TEXT)
    description = gateway_pb2.DescribeReply(app="shelf", services=[service])
    status = ClusterStatus(TEXT, 1, (MemberStatus("shard", 0, pid=1), MemberStatus("gateway", 0)))

    def answer(_address: str, _timeout_s: float, question: Callable[..., Any]) -> Any:
        if question.__name__ == "follow":
            return reads.show_update(update, as_json="--json" in request.param)
        return SimpleNamespace(value=value)

    monkeypatch.setattr(reads, "ask", answer)
    monkeypatch.setattr(describe, "ask", lambda *_: description)
    monkeypatch.setattr("fusion_cluster.cli.status.within", lambda *_: status)
    return [word.replace("DATABASE", f"sqlite:///{tmp_path}/ü.db") for word in request.param]


@contextmanager
def standard_output(stream: TextIO) -> Iterator[None]:
    before, sys.stdout = sys.stdout, stream
    try:
        yield
    finally:
        discard_output()
        sys.stdout = before


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_an_error_in_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with FULL.open("w", encoding="utf-8") as full, standard_output(full):
        code = run(command)
    assert (code, capsys.readouterr().err) == (
        FAILED,
        "error: the output cannot be written: No space left on device\n",
    )


def test_a_reader_that_has_left_ends_the_command_quietly(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe, standard_output(pipe):
        code = run(command)
    assert capsys.readouterr().err == ""
    assert code == (FAILED if "--help" in command else READER_GONE)


def test_characters_that_the_encoding_lacks_are_escaped(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.TextIOWrapper(written := io.BytesIO(), encoding="ascii")
    with standard_output(stream):
        prepare_streams()
        code = run(command)
    assert (code, capsys.readouterr().err) == (OK, "")
    text = written.getvalue().decode("ascii")
    assert text
    if "--json" in command:
        assert TEXT in json.dumps(json.loads(text), ensure_ascii=False) or "events" in command


def test_no_standard_output_at_all_is_no_failure(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run(command) == OK


def test_lone_surrogates_and_streams_that_cannot_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.TextIOWrapper(written := io.BytesIO(), encoding="utf-8")
    with standard_output(stream):
        prepare_streams()
        reads.show_value('"\ud800 ü"', as_json=True)
    assert written.getvalue() == b'"\\ud800 \xc3\xbc"\n'
    with standard_output(io.StringIO()):
        prepare_streams()


@pytest.mark.parametrize("into", ["full", "pipe"])
def test_a_process_leaves_no_word_of_pythons_own_farewell(into: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    if into == "full":
        os.dup2(os.open(FULL, os.O_WRONLY), writing)
    ended = subprocess.run(
        [sys.executable, "-m", "fusion_cluster.cli", "upgrade-database", f"sqlite:///{tmp_path}/a.db"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    if into == "full":
        assert (ended.returncode, ended.stderr.count("\n")) == (FAILED, 1)
    else:
        assert (ended.returncode, ended.stderr) == (READER_GONE, "")


def test_an_error_does_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    complain("error: \x1b[31mred\x07 \x9b2J é\n\tat line 3")
    assert capsys.readouterr().err == "error: \\x1b[31mred\\x07 \\x9b2J é\n\tat line 3\n"
