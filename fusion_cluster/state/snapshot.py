"""What a state shows at one moment, and how it came to that."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Computed, isolated

T = TypeVar("T")


class Absent(enum.Enum):
    """Class of the mark that says: no initial value."""

    ABSENT = "ABSENT"


class NextUpdate:
    """What those wait for who have seen all there is: the next update of a state, or its end."""

    __slots__ = ("_event", "_is_called_off")

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._is_called_off = False

    def announce(self) -> None:
        """Wake those who wait: it has come."""
        self._event.set()

    def call_off(self) -> None:
        """Wake those who wait: it will not come."""
        self._is_called_off = True
        self._event.set()

    async def has_come(self) -> bool:
        """Wait for it; False says that there will be none."""
        await self._event.wait()
        return not self._is_called_off


@dataclass(frozen=True)
class StateSnapshot(Generic[T]):
    """What a `ComputedState` or a `MutableState` shows at one moment.

    Attributes:
        computed: the latest computed that has an output, which may be out of date; None before the first. Of a
            `ComputedState` with an initial value it is, before the first computation, an invalidated one with that.
        last_successful: the latest whose output was not an error; None before the first.
        update_count: how many computeds a `ComputedState` has shown, how often a `MutableState` was changed; the
            initial value does not count.
        error_count: how many of these were errors.
        retry_count: how many computations in a row, this one included, ended with a transient error or were cancelled
            from within; 0 again after any other outcome. Always 0 for a `MutableState`.
    """

    computed: Computed[T] | None = None
    last_successful: Computed[T] | None = None
    update_count: int = 0
    error_count: int = 0
    retry_count: int = 0
    next_update: NextUpdate = field(default_factory=NextUpdate, repr=False, compare=False)

    @property
    def is_initial(self) -> bool:
        """Whether nothing has been computed, or set, yet."""
        return self.update_count == 0

    @property
    def last_value(self) -> T:
        """The value, or, if there is an error now, the last one before it.

        Inside a computation this makes the latest computed a dependency, error or not.

        Raises:
            UsageError: there has been no value yet.
        """
        if self.last_successful is None or self.computed is None:
            raise UsageError("this state has had no value yet")
        _ = self.computed.error
        with isolated():
            return self.last_successful.value

    async def when_updated(self) -> None:
        """Wait until the state has a later computed than this; returns at once if it has one already.

        Raises:
            UsageError: the state was closed before.
        """
        if not await self.next_update.has_come():
            raise UsageError("the state was closed before it was updated")

    def followed_by(self, computed: Computed[T], *, is_retried: bool) -> StateSnapshot[T]:
        """Return the snapshot that has `computed`, whose error, if it has one, is transient if `is_retried`."""
        with isolated():
            is_error = computed.error is not None
        return StateSnapshot(
            computed=computed,
            last_successful=self.last_successful if is_error else computed,
            update_count=self.update_count + 1,
            error_count=self.error_count + is_error,
            retry_count=self.retry_count + 1 if is_retried else 0,
        )

    def retried(self) -> StateSnapshot[T]:
        """Return the snapshot after a computation that has left nothing to show."""
        return replace(self, retry_count=self.retry_count + 1)
