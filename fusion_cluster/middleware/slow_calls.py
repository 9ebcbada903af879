"""Logs the calls that took long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from fusion_cluster.middleware.call import Call, Next
from fusion_cluster.quantities import as_count, as_delay
from fusion_cluster.runtime import SYSTEM_CLOCK

LOGGER: Final = logging.getLogger("fusion_cluster.slow_calls")


class SlowCalls:
    """Middleware that logs each call whose body took long, when it has ended: which call, how long, how it ended.

    The text shows the arguments, long ones cut; `arguments=False` leaves them out where they must stay private. A body
    that waits for a slow dependency is slow as well, so both are logged.

    Args:
        threshold_s: calls that take so long, or longer, are logged.
        arguments: whether to log the arguments.
        logger: the logger; "fusion_cluster.slow_calls" by default.
        level: the level of the messages.
        clock: returns seconds, and never goes back.

    Raises:
        UsageError: the threshold is negative.
    """

    def __init__(
        self,
        threshold_s: float = 1.0,
        *,
        arguments: bool = True,
        logger: logging.Logger = LOGGER,
        level: int = logging.WARNING,
        clock: Callable[[], float] = SYSTEM_CLOCK.precise,
    ) -> None:
        self._threshold_s = as_delay("threshold_s", threshold_s)
        self._arguments = arguments
        self._logger = logger
        self._level = as_count("level", level, least=0)
        self._clock = clock

    async def __call__(self, call: Call, next: Next, /) -> Any:
        """Let the call through, and log it if it took long."""
        began_s = self._clock()
        ending = "returned"
        try:
            return await next(call)
        except asyncio.CancelledError:
            ending = "was cancelled"
            raise
        except BaseException as error:
            ending = f"raised {type(error).__name__}"
            raise
        finally:
            duration_s = self._clock() - began_s
            if duration_s >= self._threshold_s:
                what = str(call) if self._arguments else call.name
                of = f" (command {call.command_id})" if call.command_id else ""
                self._logger.log(self._level, "%s%s took %.3f s and %s", what, of, duration_s, ending)
