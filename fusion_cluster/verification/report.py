"""What a verification has found: figures by method, and the violations in words that say what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from fusion_cluster.verification.looks import Verdict

MAX_VIOLATIONS: Final = 100
"""How many violations a report describes; it counts all of them."""


class Violation(Struct, frozen=True):
    """A cached value that differs from what it should be, for longer than the bound.

    Attributes:
        key: the key, as people write it: "Products.get(3)".
        method: the full name of its compute method.
        member: the name of the member that serves the value.
        kind: the verdict: "stale", "replica differs" or "outlived".
        cached: the cached value, abridged; "" if it depends on who asks.
        fresh: the value, or the error, that the owner has computed; "" likewise.
        difference: where the two differ, in words; "" likewise.
        lasted_s: for how long the difference has been observed, at least.
        command: the command that has changed the key lately; "": the key was chosen at random.
    """

    key: str
    method: str
    member: str
    kind: Verdict
    cached: str
    fresh: str
    difference: str
    lasted_s: float
    command: str = ""

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.kind == Verdict.STALE:
            return (
                f"what {self.method} reads has changed, and {self.method} was not invalidated. Most often a command "
                f"changes a row and does not call {self.method}.invalidate(...), or a row was changed by another "
                "program. If the body reads the time or another service, say for how long its results stand: "
                "auto_invalidation_delay, expire_after"
            )
        if self.kind == Verdict.REPLICA_DIFFERS:
            return (
                f"{self.member} has the owner's version of it with another value: look for code there that changes "
                "a result which it has read (strict hosts find that), else report a fault of fusion-cluster"
            )
        return (
            f"the owner has invalidated it, and {self.member} still serves it: this is a fault of fusion-cluster; "
            f"please report it with the stories of the key on both members"
        )

    def __str__(self) -> str:
        values = f": {self.cached or 'a value'} is cached, and {self.fresh or 'another one'} is right"
        if self.kind == Verdict.OUTLIVED:
            values = f": {self.cached or 'a value'} is cached, and its owner has invalidated it"
        if self.kind == Verdict.REPLICA_DIFFERS:
            values = f": {self.cached or 'a value'} is cached, and its owner has {self.fresh or 'another one'}"
        where = f" ({self.difference})" if self.difference else ""
        after = f", after {self.command}" if self.command else ""
        return f"{self.key} at {self.member} is {self.kind} for {self.lasted_s:.1f} s{after}{values}{where}"


class MethodReport(Struct, frozen=True):
    """The figures of one method.

    Attributes:
        method: its full name.
        compared: how many values were compared to the end.
        late: how many of them differed for a moment, and were invalidated within the bound.
        violations: how many of them differed for longer.
        skipped: how many others there were that could not be compared, by the reason.
    """

    method: str
    compared: int = 0
    late: int = 0
    violations: int = 0
    skipped: dict[str, int] = {}


class VerificationReport(Struct, frozen=True):
    """What was found, by one member or by several.

    Attributes:
        app: the name of the app.
        members: the names of the members that have looked at their caches.
        seconds: for how long.
        bound_s: how long a difference may last.
        commands: how many changes by commands were followed to the keys that they have invalidated.
        methods: the figures of each method of which there was a value.
        excluded: the methods that are not verified, each with the reason.
        violations: the violations; at most `MAX_VIOLATIONS` for each member.
    """

    app: str
    members: tuple[str, ...] = ()
    seconds: float = 0.0
    bound_s: float = 0.0
    commands: int = 0
    methods: tuple[MethodReport, ...] = ()
    excluded: dict[str, str] = {}
    violations: tuple[Violation, ...] = ()

    @property
    def compared(self) -> int:
        """How many values were compared to the end."""
        return sum(method.compared for method in self.methods)

    @property
    def violation_count(self) -> int:
        """How many of them differ."""
        return sum(method.violations for method in self.methods)

    @property
    def consistency(self) -> float:
        """The share of the compared values that do not differ, from 0 to 1; 1 if none was compared."""
        return 1.0 - self.violation_count / self.compared if self.compared else 1.0

    @property
    def figure(self) -> str:
        """The result in a few words: "0 of 12,340 values differ"."""
        return f"{self.violation_count:,} of {self.compared:,} values differ"


def merged(reports: Sequence[VerificationReport]) -> VerificationReport:
    """Return the reports of several members of one app as one."""
    methods: dict[str, list[MethodReport]] = {}
    for report in reports:
        for method in report.methods:
            methods.setdefault(method.method, []).append(method)
    return VerificationReport(
        app=reports[0].app,
        members=tuple(sorted(name for report in reports for name in report.members)),
        seconds=max(report.seconds for report in reports),
        bound_s=max(report.bound_s for report in reports),
        commands=sum(report.commands for report in reports),
        methods=tuple(_sum(methods[name]) for name in sorted(methods)),
        excluded={name: reason for report in reports for name, reason in sorted(report.excluded.items())},
        violations=tuple(violation for report in reports for violation in report.violations),
    )


def _sum(reports: Iterable[MethodReport]) -> MethodReport:
    several = list(reports)
    skipped: Counter[str] = Counter()
    for report in several:
        skipped.update(report.skipped)
    return MethodReport(
        several[0].method,
        sum(report.compared for report in several),
        sum(report.late for report in several),
        sum(report.violations for report in several),
        dict(sorted(skipped.items())),
    )
