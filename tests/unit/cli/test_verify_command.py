"""`fusion-cluster verify`: a table or JSON of what the members have found, and an exit code that says it."""

from __future__ import annotations

import importlib.util
import json

import pytest

from fusion_cluster.cli import verify as command
from fusion_cluster.cli.main import FAILED, MISUSED, OK, run
from fusion_cluster.verification import MethodReport, VerificationReport, Violation
from fusion_cluster.verification.looks import Verdict

VIOLATION = Violation("Products.get(1)", "Products.get", "shard 0", Verdict.STALE, "4", "5", "it was 4 and is 5", 5.1)
CLEAN = VerificationReport(
    "shop", ("gateway 0", "shard 0"), 10.0, 5.0, 12, (MethodReport("Products.get", 1940),), {"Clock.now": "has a time"}
)
STALE = VerificationReport(
    "shop",
    ("shard 0",),
    10.0,
    5.0,
    12,
    (MethodReport("Products.get", 1940, 2, 1, {"changed meanwhile": 3}),),
    violations=(VIOLATION,),
)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[VerificationReport]:
    """The report that the members give."""
    reports = [CLEAN]
    monkeypatch.setattr(command, "within", lambda _timeout_s, _what, _work: (reports[-1], ["shard 1: ActorDiedError"]))
    return reports


def test_the_table_says_how_many_values_differ_of_how_many(
    found: list[VerificationReport], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify"]) == OK
    shown = capsys.readouterr()
    assert "shop: 0 of 1,940 values differ (100.000000% consistent), 2 members, 12 commands followed" in shown.out
    assert "not verified: Clock.now: has a time" in shown.out
    assert "shard 1: ActorDiedError" in shown.err


def test_a_violation_is_shown_with_what_to_do_and_the_exit_code_is_1(
    found: list[VerificationReport], capsys: pytest.CaptureFixture[str]
) -> None:
    found.append(STALE)
    assert run(["verify"]) == FAILED
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of 1,940 values differ" in shown
    assert "3 changed meanwhile" in shown
    assert "Products.get(1) at shard 0 is stale for 5.1 s: 4 is cached, and 5 is right" in shown
    assert "what to do: what Products.get reads has changed" in shown


def test_in_json_it_has_all_figures(found: list[VerificationReport], capsys: pytest.CaptureFixture[str]) -> None:
    found.append(STALE)
    assert run(["verify", "--json"]) == FAILED
    plain = json.loads(capsys.readouterr().out)
    assert (plain["compared"], plain["differ"], plain["commands"]) == (1940, 1, 12)
    assert plain["consistency"] == pytest.approx(1939 / 1940)
    (violation,) = plain["violations"]
    assert (violation["kind"], violation["cached"], violation["fresh"]) == ("stale", "4", "5")
    assert "Products.get.invalidate" in violation["advice"]


@pytest.mark.parametrize(
    "words", [["--seconds", "-1"], ["--rate", "0"], ["--rate", "5000"], ["--bound", "0"], ["--bound", "nan"], ["more"]]
)
def test_wrong_options_are_told_at_once(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", *words]) == MISUSED
    assert capsys.readouterr().err.count("\n") == 1


def test_without_ray_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert run(["verify"]) == MISUSED
    assert "fusion-cluster[cluster]" in capsys.readouterr().err
