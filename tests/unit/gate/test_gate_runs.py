"""The gate runs all its parts, tells what came of each, and how to run again what failed."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tools.gate.__main__ import main, workers
from tools.gate.gate import Gate
from tools.gate.interpreters import NoEnvironment, environment, find, needed
from tools.gate.outcome import Outcome, duration
from tools.gate.parts import PARTS, Part

pytestmark = pytest.mark.timeout(300)

QUICK = "tests/unit/protocol/test_framing.py"


def said_by(parts: list[Part], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = Gate(parts, seed=7, workers=1).run()
    return code, capsys.readouterr().out.splitlines()


def test_a_failure_hides_nothing_that_comes_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    absent, present = Part("absent", "absent tests", ("tests/nowhere",)), Part("present", "framing", (QUICK,))
    code, lines = said_by([absent, present], capsys)
    assert code == 1
    assert any(line.startswith("framing: ") and "passed in" in line for line in lines)
    assert "make test PARTS=absent SEED=7" in lines
    assert lines[-1].startswith("failed: ")
    assert "absent tests" in lines[-1]


def test_what_a_part_beside_the_first_prints_is_shown_after_it_and_only_if_it_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = Part("first", "framing", (QUICK,)), Part("second", "framing again", (QUICK,))
    absent = Part("absent", "absent tests", ("tests/nowhere",))
    _, lines = said_by([first, second, absent], capsys)
    complaint = next(number for number, line in enumerate(lines) if "tests/nowhere" in line and "not found" in line)
    first_ended = next(number for number, line in enumerate(lines) if line.startswith("framing: "))
    assert complaint > first_ended
    assert not [line for line in lines if "100%" in line]  # of the second


def test_there_are_more_workers_than_cores_but_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cores in (1, 2, 64, None):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        found.append(workers())
    assert found == [2, 3, 4, 2]


def test_the_last_line_tells_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [Part("other", "Python 3.99", (QUICK,), version="3.99"), Part("present", "framing", (QUICK,))]
    code, lines = said_by(parts, capsys)
    assert code == 0
    assert lines[-1].startswith("passed: ")
    assert "(framing " in lines[-1]
    assert "there is no Python 3.99 here" in lines[-1]


def test_unknown_parts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--parts", "al"])
    said = capsys.readouterr().err
    assert "'al'" in said or "called al" in said
    assert all(part.name in said for part in PARTS)


def test_the_paths_of_the_parts_are_there() -> None:
    root = Path(__file__).parents[3]
    assert not [test for part in PARTS for test in (*part.tests, *part.ignored) if not (root / test).exists()]


def test_an_outcome_in_words() -> None:
    assert str(Outcome(passed=1234, skipped=Counter({"no browser": 2}), seconds=61.0)) == (
        "1,234 passed, 2 skipped in 1 min 01 s"
    )
    assert str(Outcome(passed=3, failed=("a::b",), seconds=5, exit_code=1)) == "3 passed, 1 failed in 5 s"
    assert "exit code 4" in str(Outcome(exit_code=4))
    assert str(Outcome(not_run="why")) == "not run: why"
    assert [duration(seconds) for seconds in (0.4, 59.4, 60, 3599)] == ["0 s", "59 s", "1 min 00 s", "59 min 59 s"]


def test_this_python_is_found_and_one_that_is_not_there_is_said_not_to_be() -> None:
    assert find("{}.{}".format(*sys.version_info)) == Path(sys.executable)
    with pytest.raises(NoEnvironment, match=r"no Python 3\.99 here"):
        environment("3.99")


def test_other_pythons_get_what_the_library_needs_and_the_tools() -> None:
    names = {requirement.split(">")[0].split("[")[0] for requirement in needed()}
    assert {"msgspec", "SQLAlchemy", "pytest", "hypothesis"} <= names
    assert "ray" not in names
