"""What counts, what is looked at again and when, and what is a violation: decisions without a cluster."""

from __future__ import annotations

import pytest

from fusion_cluster.verification.findings import MAX_SUSPECTS, Findings
from fusion_cluster.verification.looks import Answer, CachedKey, Look, Verdict
from fusion_cluster.verification.report import MethodReport, VerificationReport, Violation, merged

BOUND_S = 5.0
STALE = Answer(Verdict.STALE, "2", "it was 1 and is 2")
SAME = Answer(Verdict.SAME)


class Watched:
    """Findings, and what they have reported."""

    def __init__(self) -> None:
        self.told: list[Violation] = []
        self.counted: list[tuple[str, str, bool]] = []
        self.findings = Findings(
            "app",
            "here",
            bound_s=BOUND_S,
            in_words=lambda key: f"{key.method}(…)",
            on_violation=self.told.append,
            count=lambda *what: self.counted.append(what),
        )

    @property
    def report(self) -> VerificationReport:
        return self.findings.report(1.0, {})


@pytest.fixture
def watched() -> Watched:
    return Watched()


def look(name: str = "S.m", version: int = 1, member: str = "here", key: bytes = b"") -> Look:
    return Look(CachedKey(name, key), member, -1, version, b"digest", "1")


def test_a_value_that_is_the_same_is_counted(watched: Watched) -> None:
    watched.findings.take(look(), SAME, 0.0)
    assert watched.report.figure == "0 of 1 values differ"
    assert watched.report.consistency == 1.0
    assert watched.counted == [("S.m", "same", False)]


def test_a_value_that_differs_is_looked_at_again_when_the_bound_is_over(watched: Watched) -> None:
    watched.findings.take(look(), STALE, 10.0)
    assert watched.report.compared == 0
    assert watched.findings.due(14.9) == []
    (suspect,) = watched.findings.due(15.0)
    assert not watched.findings.has_suspects
    watched.findings.settle(suspect, STALE, 15.0)
    assert watched.report.figure == "1 of 1 values differ"
    (violation,) = watched.told
    assert violation.lasted_s == BOUND_S
    assert (violation.cached, violation.fresh) == ("1", "2")
    assert "S.m was not invalidated" in violation.advice
    assert watched.report.violations == (violation,)


def test_the_lag_of_a_method_is_added_to_the_bound(watched: Watched) -> None:
    watched.findings.take(look(), Answer(Verdict.STALE, lag_s=7.0), 0.0)
    assert watched.findings.next_due_s == BOUND_S + 7.0


@pytest.mark.parametrize("answer", [None, Answer(Verdict.OVERTAKEN)])
def test_a_value_that_is_invalidated_within_the_bound_is_late_and_no_violation(
    watched: Watched, answer: Answer | None
) -> None:
    watched.findings.take(look(), STALE, 0.0)
    (suspect,) = watched.findings.due(BOUND_S)
    watched.findings.settle(suspect, answer, BOUND_S)
    assert not watched.told
    assert watched.report.methods == (MethodReport("S.m", compared=1, late=1),)


def test_a_value_that_is_the_same_again_is_no_violation(watched: Watched) -> None:
    watched.findings.take(look(), STALE, 0.0)
    (suspect,) = watched.findings.due(BOUND_S)
    watched.findings.settle(suspect, SAME, BOUND_S)
    assert watched.report.figure == "0 of 1 values differ"


def test_what_cannot_be_compared_is_told_by_the_reason_and_not_counted(watched: Watched) -> None:
    for verdict in (Verdict.TIMED, Verdict.UNCOMPUTED, Verdict.UNCOMPUTED):
        watched.findings.take(look(), Answer(verdict), 0.0)
    assert watched.report.compared == 0
    assert watched.report.methods[0].skipped == {"has a time of its own": 1, "could not be computed": 2}


def test_a_violation_is_told_once_for_each_version_and_member(watched: Watched) -> None:
    for version, member in ((1, "here"), (1, "here"), (1, "there"), (2, "here")):
        watched.findings.take(look(version=version, member=member), STALE, 0.0)
        for suspect in watched.findings.due(BOUND_S):
            watched.findings.settle(suspect, STALE, BOUND_S)
    assert [violation.member for violation in watched.told] == ["here", "there", "here"]
    assert watched.report.figure == "3 of 3 values differ"


def test_the_suspects_are_bounded(watched: Watched) -> None:
    for number in range(MAX_SUSPECTS + 10):
        watched.findings.take(look(key=str(number).encode()), STALE, 0.0)
    assert len(watched.findings.due(BOUND_S)) == MAX_SUSPECTS


def test_commands_are_counted_once(watched: Watched) -> None:
    for command in ("a", "b", "a"):
        watched.findings.follow(command)
    assert watched.report.commands == 2


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Verdict.OUTLIVED, "still serves it"), (Verdict.REPLICA_DIFFERS, "the owner's version of it")],
)
def test_each_kind_of_violation_says_what_to_do(kind: Verdict, words: str) -> None:
    violation = Violation("S.m(1)", "S.m", "gateway 0", kind, "", "", "", 6.0, "command S.set(1)")
    assert words in violation.advice
    assert "gateway 0" in str(violation)
    assert "after command S.set(1)" in str(violation)


def test_the_reports_of_several_members_are_one() -> None:
    reports = [
        VerificationReport("app", ("b",), 2.0, 5.0, 1, (MethodReport("S.m", 3, 1, 1, {"x": 1}),), {"S.n": "why"}),
        VerificationReport(
            "app", ("a",), 3.0, 5.0, 2, (MethodReport("S.m", 4, 0, 0, {"x": 2}), MethodReport("S.k", 1))
        ),
    ]
    whole = merged(reports)
    assert whole.members == ("a", "b")
    assert whole.seconds == 3.0
    assert whole.commands == 3
    assert whole.methods == (MethodReport("S.k", 1), MethodReport("S.m", 7, 1, 1, {"x": 3}))
    assert whole.figure == "1 of 8 values differ"
    assert whole.excluded == {"S.n": "why"}
