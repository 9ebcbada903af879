"""The decisions of a verification, without IO: what counts, what is looked at again and when, what is a violation.

A cached value that differs becomes a *suspect*. It is looked at again when the bound, and the lag that its method has
by its options, is over. If the very same computed is still served, and still differs, that is a violation. If not, an
invalidation has reached it in time.

Invariant: a value is counted once, when it is decided: compared (the same, late or a violation) or skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fusion_cluster.verification.looks import Answer, CachedKey, Look, Verdict
from fusion_cluster.verification.report import MAX_VIOLATIONS, MethodReport, VerificationReport, Violation

MAX_SUSPECTS: Final = 1000
"""How many values are suspected at a time; of others that differ nothing is said."""

LATE: Final = "late"
"""The outcome of a value that was invalidated within the bound after it had been found to differ."""

VIOLATION: Final = "violation"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A cached value that differs, so far.

    Attributes:
        look: the value.
        since_s: when it was found to differ, by the runtime's clock.
        due_s: when it is looked at again.
    """

    look: Look
    since_s: float
    due_s: float


class Findings:
    """What one member has found.

    Args:
        app: the name of the app.
        member: the name of the member.
        bound_s: how long a difference may last.
        in_words: returns a key as people write it.
        on_violation: called with each violation.
        count: called with the method, the outcome, and whether it is a violation.
    """

    def __init__(
        self,
        app: str,
        member: str,
        *,
        bound_s: float,
        in_words: Callable[[CachedKey], str],
        on_violation: Callable[[Violation], None],
        count: Callable[[str, str, bool], None],
    ) -> None:
        self._app = app
        self._member = member
        self._bound_s = bound_s
        self._in_words = in_words
        self._on_violation = on_violation
        self._count = count
        self._compared: Counter[str] = Counter()
        self._late: Counter[str] = Counter()
        self._violated: Counter[str] = Counter()
        self._skipped: dict[str, Counter[str]] = {}
        self._violations: list[Violation] = []
        self._commands: set[str] = set()
        self._command_count = 0
        # Member and key -> the value that is suspected there. One for each: a newer one takes its place.
        self._suspects: dict[tuple[str, CachedKey], Suspect] = {}
        # Member and key -> the version whose violation was reported; each is reported once.
        self._told: dict[tuple[str, CachedKey], int] = {}

    @property
    def has_suspects(self) -> bool:
        """Whether something is still to be looked at again."""
        return bool(self._suspects)

    @property
    def next_due_s(self) -> float:
        """When the next suspect is looked at again; infinite if there is none."""
        return min((suspect.due_s for suspect in self._suspects.values()), default=float("inf"))

    def take(self, look: Look, answer: Answer, now_s: float) -> None:
        """Take the first comparison of a value."""
        place = (look.member, look.key)
        suspect = self._suspects.get(place)
        if suspect is not None and suspect.look.version == look.version:
            return  # it is looked at again when it is due
        if self._told.get(place) == look.version:
            return
        if not answer.verdict.differs:
            self._decide(look, answer.verdict)
        elif suspect is None and len(self._suspects) < MAX_SUSPECTS:
            due_s = now_s + self._bound_s + answer.lag_s
            self._suspects[place] = Suspect(look, now_s, due_s)

    def due(self, now_s: float) -> list[Suspect]:
        """Remove and return the suspects that are to be looked at again."""
        due = [place for place, suspect in self._suspects.items() if suspect.due_s <= now_s]
        return [self._suspects.pop(place) for place in due]

    def settle(self, suspect: Suspect, answer: Answer | None, now_s: float) -> None:
        """Take the second comparison of a suspect.

        Args:
            suspect: the suspect.
            answer: the comparison; None: the computed is not served any more.
            now_s: the time.
        """
        look = suspect.look
        if answer is None or answer.verdict == Verdict.OVERTAKEN:
            self._decide(look, LATE)
        elif not answer.verdict.differs:
            self._decide(look, answer.verdict)
        else:
            self._violate(suspect, answer, now_s)

    def follow(self, command: str) -> None:
        """Note that a command was followed to keys that it has invalidated."""
        if command not in self._commands:
            if len(self._commands) >= MAX_SUSPECTS:
                self._commands.clear()
            self._commands.add(command)
            self._command_count += 1

    def report(self, seconds: float, excluded: dict[str, str]) -> VerificationReport:
        """Return what was found so far."""
        return VerificationReport(
            app=self._app,
            members=(self._member,),
            seconds=seconds,
            bound_s=self._bound_s,
            commands=self._command_count,
            methods=tuple(
                MethodReport(
                    method,
                    self._compared[method],
                    self._late[method],
                    self._violated[method],
                    dict(self._skipped.get(method, {})),
                )
                for method in sorted({*self._compared, *self._skipped})
            ),
            excluded=excluded,
            violations=tuple(self._violations),
        )

    def _decide(self, look: Look, outcome: str) -> None:
        method = look.key.method
        self._count(method, str(outcome), False)
        if outcome in (Verdict.SAME, LATE):
            self._compared[method] += 1
            self._late[method] += outcome == LATE
        else:
            self._skipped.setdefault(method, Counter())[str(outcome)] += 1

    def _violate(self, suspect: Suspect, answer: Answer, now_s: float) -> None:
        look = suspect.look
        method = look.key.method
        if len(self._told) >= MAX_SUSPECTS:
            del self._told[next(iter(self._told))]
        self._told[look.member, look.key] = look.version
        self._compared[method] += 1
        self._violated[method] += 1
        self._count(method, VIOLATION, True)
        violation = Violation(
            key=self._in_words(look.key),
            method=method,
            member=look.member,
            kind=answer.verdict,
            cached=look.shown,
            fresh=answer.fresh,
            difference=answer.difference,
            lasted_s=now_s - suspect.since_s,
            command=look.command,
        )
        if len(self._violations) < MAX_VIOLATIONS:
            self._violations.append(violation)
        self._on_violation(violation)
