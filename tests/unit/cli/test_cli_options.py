from __future__ import annotations

import json

import pytest

from fusion_cluster.cli.main import FAILED, MISUSED, OK, run
from fusion_cluster.cli.options import payload
from fusion_cluster.errors import InvalidArgument


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ([], []),
        (None, []),
        (["3", "-1", "1.5e3"], [3, -1, 1500.0]),
        (["c1", "New York"], ["c1", "New York"]),
        (['"3"', "true", "null"], ["3", True, None]),
        (['{"tags": ["a"]}', "[1, 2]"], [{"tags": ["a"]}, [1, 2]]),
        (["{broken", "", "NaN", "-Infinity"], ["{broken", "", "NaN", "-Infinity"]),
        (["2013-01-01", "ü"], ["2013-01-01", "ü"]),
    ],
)
def test_words_are_json_values_or_strings(words: list[str] | None, values: list[object]) -> None:
    assert json.loads(payload(words).json) == values


def test_a_mistyped_option_is_no_argument() -> None:
    with pytest.raises(InvalidArgument, match="--adress"):
        payload(["--adress", "localhost:1"])
    assert json.loads(payload(['"--adress"']).json) == ["--adress"]


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("serve", "status", "call", "watch", "execute", "describe", "upgrade-database", "events"):
        assert run([name, "--help"]) == OK
        assert name in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["call"],
        ["call", "Shelf.count", "--adress", "x"],
        ["call", "x", "--timeout", "soon"],
        ["call", "count"],
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == MISUSED
    captured = capsys.readouterr()
    assert captured.err
    assert "Traceback" not in captured.err


def test_a_gateway_that_is_not_there_exits_with_1_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["call", "Shelf.count", "nut", "--address", "127.0.0.1:1"]) == FAILED
    captured = capsys.readouterr()
    assert captured.err == "error: no gateway at 127.0.0.1:1: nobody listens there\n"
