"""What the user does, and the delays that it cuts short: the effect of a click is to be seen at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import dataclass
from types import TracebackType

from fusion_cluster.quantities import as_delay
from fusion_cluster.state.pause import Pause
from fusion_cluster.state.update_delayer import UpdateDelayer


class UserActions:
    """The actions of one user, which end the delays of the states that show the effects.

    An action ends the delays in progress. While it lasts, and for a short period after it, delays are instant.

    >>> actions = UserActions()
    >>> delayer = CutShortDelayer(FixedDelayer(1.0), actions)
    >>> total = ComputedState(lambda: carts.total("c1"), update_delayer=delayer)
    >>> async with actions.acting():
    ...     await carts.put("c1", 1, 3)

    It belongs to the event loop of the states.

    Args:
        instant_period_s: how long after an action delays are instant.

    Raises:
        UsageError: the period is negative.
    """

    def __init__(self, *, instant_period_s: float = 0.3) -> None:
        self.instant_period_s = as_delay("instant_period_s", instant_period_s)
        self._running_count = 0
        self._instant_until_s = -math.inf
        self._pauses: dict[Pause, None] = {}

    def __repr__(self) -> str:
        return f"<UserActions {self._running_count} running, {len(self._pauses)} delays>"

    @property
    def are_delays_instant(self) -> bool:
        """Whether the user is acting, or has acted just now."""
        return self._running_count > 0 or asyncio.get_running_loop().time() < self._instant_until_s

    def notify(self) -> None:
        """Say that the user has just done something whose effect is there already, or will be within the period."""
        self._instant_until_s = asyncio.get_running_loop().time() + self.instant_period_s
        for pause in self._pauses:
            pause.end()

    def acting(self) -> Acting:
        """Return a context manager, `with` or `async with`, for what the user has set off: a command, say."""
        return Acting(self)

    async def cut_short(self, wait: Awaitable[None], *, min_s: float = 0.0) -> None:
        """Await `wait`, but not beyond the next action; not at all while delays are instant.

        Args:
            wait: what to wait for; it is cancelled when it is cut short. Its errors are raised.
            min_s: an action does not cut it shorter than this.
        """
        pause = Pause(min_s=as_delay("min_s", min_s))
        self._pauses[pause] = None
        try:
            await pause.hold(wait, is_ending=self.are_delays_instant)
        finally:
            del self._pauses[pause]

    def _begin(self) -> None:
        self._running_count += 1
        self.notify()

    def _end(self) -> None:
        self._running_count -= 1
        self.notify()


class Acting:
    """The user acts, from the beginning of the `with` block to its end, however it ends."""

    __slots__ = ("_actions",)

    def __init__(self, actions: UserActions) -> None:
        self._actions = actions

    def __enter__(self) -> None:
        self._actions._begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._actions._end()

    async def __aenter__(self) -> None:
        self._actions._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._actions._end()


@dataclass(frozen=True)
class CutShortDelayer:
    """Waits as another delayer does, until the user acts.

    Attributes:
        delayer: what paces the updates while the user does nothing.
        actions: what the user does; share one object among the states of one user interface.
        min_delay_s: an action cuts no delay shorter than this.
        min_retry_delay_s: the same for the delay that follows a transient error, so that what fails at once is not
            tried again and again for as long as an action lasts.

    Raises:
        UsageError: a time is negative; `field` names it.
    """

    delayer: UpdateDelayer
    actions: UserActions
    min_delay_s: float = 0.0
    min_retry_delay_s: float = 0.1

    def __post_init__(self) -> None:
        for name in ("min_delay_s", "min_retry_delay_s"):
            object.__setattr__(self, name, as_delay(name, getattr(self, name)))

    async def delay(self, retry_count: int) -> None:
        """Wait."""
        min_s = self.min_retry_delay_s if retry_count else self.min_delay_s
        await self.actions.cut_short(self.delayer.delay(retry_count), min_s=min_s)
