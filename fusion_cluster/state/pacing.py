"""When the next update of a `ComputedState` is due: what is shown is out of date, and the delay is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from fusion_cluster.catalogue.options import ComputeOptions
from fusion_cluster.errors import FusionError
from fusion_cluster.failures.exits import in_words, reraise_outside
from fusion_cluster.failures.printing import printable
from fusion_cluster.runtime import is_being_cancelled
from fusion_cluster.state.pause import Pause
from fusion_cluster.state.snapshot import StateSnapshot
from fusion_cluster.state.update_delayer import UpdateDelayer

log = logging.getLogger(__name__)

FALLBACK_DELAY_S: Final = 1.0
"""The delay when the delayer fails."""

MIN_RETRY_DELAY_S: Final = 0.05
"""The least delay of a retry, so that a delayer which waits for nothing keeps no processor busy with a cached error."""


class Pacing:
    """The waits between the updates of one state; they happen in one task.

    Attributes:
        update_delayer: gives the delays.
        name: of the state, for messages.
        is_transient: tells which errors are tried again without having been invalidated.
        is_hurried: the next update must not wait for anything but its being needed.
    """

    __slots__ = ("_delay", "_standing", "is_hurried", "is_transient", "name", "update_delayer")

    def __init__(self, update_delayer: UpdateDelayer, *, name: str, is_transient: Callable[[Exception], bool]) -> None:
        self.update_delayer = update_delayer
        self.name = name
        self.is_transient = is_transient
        self.is_hurried = False
        self._standing = Pause()
        """The time for which an error stands that is not invalidated by itself."""
        self._delay = Pause()

    def retries(self, error: Exception) -> bool:
        """Tell whether an update that ended with `error` is tried again by itself."""
        try:
            return self.is_transient(error)
        except BaseException as raised:
            reraise_outside(raised)
            told = printable(raised)
            log.error("%s takes %s for transient: the classifier failed", self.name, in_words(error), exc_info=told)
            return True

    async def until_due(self, snapshot: StateSnapshot[Any], is_shown: Callable[[StateSnapshot[Any]], bool]) -> None:
        """Wait until the update that follows `snapshot` is due, or `is_shown(snapshot)` is no longer true.

        A value stands until it is invalidated, an error that is kept as a result too; an error that is not kept, for
        its own `retry_after_s` or the default of compute methods. A retry is due without invalidation, but not before
        the error's own `retry_after_s`. The delayer's delay comes on top.
        """
        loop = asyncio.get_running_loop()
        standing_s = _standing_s(snapshot)
        if standing_s is None and snapshot.computed is not None:
            await snapshot.computed.when_invalidated()
        elif standing_s and not self.is_hurried:
            await self._standing.hold(asyncio.sleep(standing_s))
        if self.is_hurried or not is_shown(snapshot):
            return
        earliest_s = loop.time() + MIN_RETRY_DELAY_S if snapshot.retry_count else 0.0
        await self._delay.hold(self._wait_for_delayer(snapshot.retry_count))
        if earliest_s > loop.time() and not self.is_hurried and is_shown(snapshot):
            await self._delay.hold(asyncio.sleep(earliest_s - loop.time()))

    def hurry(self) -> None:
        """End the wait in progress and skip those that the next update would have to wait for."""
        self.is_hurried = True
        self.interrupt()

    def interrupt(self) -> None:
        """End the wait in progress."""
        self._standing.end()
        self._delay.end()

    def end_standing(self) -> None:
        """Treat the error that stands as invalidated, if there is one."""
        self._standing.end()

    async def _wait_for_delayer(self, retry_count: int) -> None:
        try:
            await self.update_delayer.delay(retry_count)
            return
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            log.exception("the delayer of %s was cancelled from within", self.name)
        except BaseException as raised:
            reraise_outside(raised)
            log.exception("the delayer of %s failed", self.name)
        await asyncio.sleep(FALLBACK_DELAY_S)


def _standing_s(snapshot: StateSnapshot[Any]) -> float | None:
    """Return the seconds for which what is shown stands; None says: until it is invalidated."""
    error = None if snapshot.computed is None else snapshot.computed.error
    if snapshot.retry_count:
        return _own_retry_delay_s(error) or 0.0
    if not isinstance(error, FusionError) or error.is_memoized:
        return None
    own_s = _own_retry_delay_s(error)
    return ComputeOptions().error_delay if own_s is None else own_s


def _own_retry_delay_s(error: Exception | None) -> float | None:
    """Return the delay that an error carries itself, if it does."""
    try:
        own: object = getattr(error, "retry_after_s", None)
    except BaseException as raised:
        reraise_outside(raised)
        return None
    return float(own) if isinstance(own, int | float) and own >= 0 else None
