from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

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


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 64"),
        ('["\\ud800"]', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
    ],
)
def test_json_that_cannot_be_sent_is_told(word: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        payload([word])


@pytest.mark.parametrize("word", ["1" * 5000, "-" + "1" * 5000, "1e999", '["\\ud83d\\ude00", "\\\\ud800"]'])
def test_a_json_value_of_any_length_goes_as_it_is(word: str) -> None:
    assert payload([word]).json == f"[{word}]"


@pytest.mark.parametrize(
    "words",
    [
        ["call", "\udcff.x"],
        ["call", "Shelf.item", "\udcff"],
        ["execute", "Shelf.put", "1", "--command-id", "\udcff"],
        ["describe", "\udcff"],
        ["events", "list", "sqlite:///none.db", "--type", "\udcff"],
        ["events", "discard", "sqlite:///none.db", "\udcff"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_bytes_that_are_no_text_are_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == MISUSED
    assert "'\\udcff" in (told := capsys.readouterr().err)
    assert "surrogate" in told


@pytest.mark.parametrize("command", ["call", "watch", "execute"])
def test_a_mistyped_option_before_the_method_is_no_method(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--addres", "localhost:1", "Shelf.item"]) == MISUSED
    assert capsys.readouterr().err == "error: no such option: --addres\n"


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("serve", "status", "call", "watch", "execute", "describe", "upgrade-database", "events"):
        assert run([name, "--help"]) == OK
        assert name in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == OK
    assert capsys.readouterr().out == f"fusion-cluster {version('fusion-cluster')}\n"


@pytest.mark.parametrize("arguments", [["-h"], ["serve", "-h"], ["events", "-h"], ["events", "list", "-h"]])
def test_help_has_a_short_name(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == OK
    assert "Usage:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["events"]])
def test_nothing_asked_is_answered_with_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == MISUSED
    captured = capsys.readouterr()
    assert "Usage:" in captured.out + captured.err


def test_a_database_file_is_not_taken_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.db").touch()
    assert run(["events", "list", "shop.db"]) == MISUSED
    assert "sqlite:///shop.db" in capsys.readouterr().err


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
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


def test_a_gateway_that_is_not_there_exits_with_1_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["call", "Shelf.count", "nut", "--address", "127.0.0.1:1"]) == FAILED
    captured = capsys.readouterr()
    assert captured.err == "error: no gateway at 127.0.0.1:1: nobody listens there\n"
