"""What the demo and the preparation take from the command line and the environment."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from examples.flights.dataset.folder import DEFAULT_DAY, cache_folder, replay_path, served_url
from examples.flights.demo import Options, parse


def test_without_options_the_demo_serves_the_default_day_on_two_shards() -> None:
    assert parse([]) == Options(seconds=None, shards=2, port=50051, day=DEFAULT_DAY, airport="JFK")


def test_options_are_taken() -> None:
    words = ["--seconds", "20", "--shards", "3", "--port", "0", "--day", "2013-01-15", "--airport", "LGA"]
    assert parse(words) == Options(20.0, 3, 0, date(2013, 1, 15), "LGA")


@pytest.mark.parametrize("words", [["--day", "yesterday"], ["--airport", "LAX"], ["--seconds", "soon"]])
def test_an_option_that_cannot_be_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(words)
    assert words[0] in capsys.readouterr().err


def test_the_folder_and_the_database_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FUSION_FLIGHTS_DATABASE", raising=False)
    monkeypatch.setenv("FUSION_FLIGHTS_DATA", str(tmp_path))
    assert cache_folder() == tmp_path
    assert served_url() == f"sqlite:///{replay_path(tmp_path, DEFAULT_DAY)}"
    monkeypatch.setenv("FUSION_FLIGHTS_DATABASE", "postgresql://somewhere/flights")
    assert served_url() == "postgresql://somewhere/flights"


def test_the_folder_is_that_of_the_checkout_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSION_FLIGHTS_DATA", raising=False)
    assert cache_folder() == Path(__file__).parents[3] / "data"


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--seconds", ("0", "-1", "nan", "inf", "1e12", "soon")),
        ("--shards", ("0", "-1", "1000", "two", "1.5")),
        ("--port", ("-1", "65536", "http")),
    ],
)
def test_a_number_that_is_not_right_is_refused_by_the_name_of_its_option(
    option: str, values: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        with pytest.raises(SystemExit):
            parse([f"{option}={value}"])
        assert f"argument {option}: it must be" in capsys.readouterr().err
