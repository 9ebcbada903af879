"""Those who use the graph of the property test: who waits for a value, and who observes a computed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fusion_cluster.graph import Computed, Waiter


class Refused(Exception):
    """What comparisons, observers and estimates of sizes raise when they are told to."""


@dataclass(eq=False)
class Read:
    """Somebody waits for a value, by a task or as a host does."""

    name: str
    at_least: dict[str, int]
    task: asyncio.Task[Any] | None = None
    waiter: Waiter | None = None
    told: list[Any] = field(default_factory=list)
    is_cancelled: bool = False

    @property
    def is_done(self) -> bool:
        return bool(self.told) if self.task is None else self.task.done()

    @property
    def may_be_cancelled(self) -> bool:
        return self.is_cancelled or "quitter" in self.name

    def on_done(self, node: Computed[Any]) -> None:
        self.told.append(output_of(node) if node.has_output else None)

    def outcome(self) -> Any:
        """Return the value, the class of the error, or None if it was cancelled."""
        if self.task is None:
            return self.told[0]
        if self.task.cancelled():
            return None
        error = self.task.exception()
        return self.task.result() if error is None else type(error)


@dataclass(eq=False)
class Observation:
    computed: Computed[Any]
    action: Callable[[], object]
    told: Counter[str] = field(default_factory=Counter)

    def observer(self, computed: Computed[Any]) -> None:
        self.told["times"] += 1
        assert computed is self.computed
        self.action()


def output_of(node: Computed[Any]) -> Any:
    return node.value if node.error is None else type(node.error)
