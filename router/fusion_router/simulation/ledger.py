"""What was called in a run, and what the answers must be: the checkers of single calls.

- A read gives no less than what commands had confirmed before it began, and no more than what was stored when it ended.
- A change takes effect once at most; once exactly if its command was confirmed.
- A call ends in its time, with a value or with an error that its caller can act on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from fusion_cluster.errors import ClusterError, CommandOutcomeUnknown
from fusion_router.simulation.counters import COUNTERS, Store, members_of

EXPECTED: Final = (ClusterError, CommandOutcomeUnknown)
"""The errors that a call may end with while machines and links fail."""


class Ledger:
    """The calls of a run.

    Args:
        store: the data.
        note: adds a line to the trace.

    Attributes:
        violations: what was wrong, in words.
        reads: how many reads were checked.
        changes: how many commands were confirmed.
        failures: how many calls ended with an expected error.
    """

    def __init__(self, store: Store, note: Callable[[str], None]) -> None:
        self.violations: list[str] = []
        self.reads = self.changes = self.failures = 0
        self._store = store
        self._note = note
        self._confirmed = [0] * COUNTERS
        self._confirmed_changes: list[str] = []

    def violated(self, what: str) -> None:
        """Note that something was wrong."""
        self._note(f"violation: {what}")
        self.violations.append(what)

    def least(self, method: str, argument: int) -> int:
        """Return the least value that a read may give that begins now."""
        return sum(self._confirmed[counter] for counter in members_of(method, argument))

    def stored(self, method: str, argument: int) -> int:
        """Return the value that the store has now."""
        return sum(self._store.values[counter] for counter in members_of(method, argument))

    def was_read(
        self, what: str, method: str, argument: int, least: int, value: int, *, is_quiet: bool = False
    ) -> None:
        """Check what a read gave that has just ended.

        Args:
            what: names the call.
            method: what was read.
            argument: the counter that it is read for.
            least: the least value that was allowed when it began.
            value: what it gave.
            is_quiet: nothing is under way any more.
        """
        self.reads += 1
        self._note(f"{what} gave {value}")
        if value < least and is_quiet:
            self.violated(f"lost invalidation: {what} gave {value}, and {least} is stored")
        elif value < least:
            self.violated(f"stale: {what} gave {value} although {least} was confirmed before it began")
        elif value > (most := self.stored(method, argument)):
            self.violated(f"invented: {what} gave {value} although no more than {most} is stored")

    def was_changed(self, what: str, number: str, counter: int) -> None:
        """Note that a command was confirmed."""
        self.changes += 1
        self._note(f"{what} confirmed")
        self._confirmed[counter] += 1
        self._confirmed_changes.append(number)

    def has_failed(self, what: str, error: BaseException) -> None:
        """Check the error of a call."""
        self._note(f"{what} failed: {type(error).__name__}")
        if isinstance(error, EXPECTED):
            self.failures += 1
        else:
            self.violated(f"unexpected error: {what} raised {error!r}")

    def check_changes(self) -> None:
        """Check that no change took effect twice, and that none that was confirmed is missing."""
        for number, times in self._store.changes.items():
            if times > 1:
                self.violated(f"not once: the change {number} took effect {times} times")
        for number in self._confirmed_changes:
            if number not in self._store.changes:
                self.violated(f"lost: the change {number} was confirmed and is not in the store")

    def check_ended(self, running: Sequence[str]) -> None:
        """Check that no call runs that should have ended."""
        for what in running:
            self.violated(f"endless: {what} has not ended")
