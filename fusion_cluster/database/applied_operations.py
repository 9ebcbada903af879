"""Remembers the committed operations that are applied here, so that a second report of one invalidates nothing.

An operation is reported by a push and by the operation log, and its keys may have been computed anew in between. A push
names the keys that the receiver owns, as far as the sender knows. So pushed keys are remembered one by one: if the
sender's slot map was out of date, the log still invalidates the keys that the push has missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fusion_cluster.commands.outcomes import LoggedKey

Reference = tuple[str, bytes]
"""A key as processes name it to each other: the method's full name and the encoded arguments."""

_ALL: Final[frozenset[Reference]] = frozenset()
"""Stands for all the keys of an operation."""


class AppliedOperations:
    """Operations whose keys have been invalidated here, by a push or from the log: the latest of them.

    Forgetting one costs a second computation of its keys and nothing else.

    Args:
        limit: how many are remembered.
        reference_limit: how many keys are remembered in total, of operations that are not applied as a whole.
    """

    def __init__(self, limit: int = 10_000, reference_limit: int = 100_000) -> None:
        self._limit = limit
        self._reference_limit = reference_limit
        # Operation id -> the keys that are invalidated; `_ALL` itself: all of its keys.
        self._applied: dict[str, frozenset[Reference] | set[Reference]] = {}
        self._reference_count = 0

    def __len__(self) -> int:
        return len(self._applied)

    def __contains__(self, operation_id: str) -> bool:
        """Whether all keys of an operation are applied here."""
        return self._applied.get(operation_id) is _ALL

    def missing(self, operation_id: str, keys: Iterable[LoggedKey]) -> list[LoggedKey]:
        """Return the keys of an operation that are not applied here yet."""
        applied = self._applied.get(operation_id)
        if applied is _ALL:
            return []
        return [key for key in keys if not applied or key[:2] not in applied]

    def add(self, operation_id: str) -> None:
        """Remember an operation, now that all its keys are invalidated; "" is not an operation."""
        if operation_id:
            self._reference_count -= len(self._applied.get(operation_id, ()))
            self._applied[operation_id] = _ALL
            self._forget()

    def add_some(self, operation_id: str, references: Iterable[Reference]) -> None:
        """Remember that some of an operation's keys are invalidated; "" is not an operation."""
        applied = self._applied.get(operation_id)
        if not operation_id or applied is _ALL:
            return
        if not isinstance(applied, set):
            applied = self._applied[operation_id] = set()
        self._reference_count -= len(applied)
        applied.update(references)
        self._reference_count += len(applied)
        self._forget()

    def _forget(self) -> None:
        while len(self._applied) > self._limit or self._reference_count > self._reference_limit:
            self._reference_count -= len(self._applied.pop(next(iter(self._applied))))
