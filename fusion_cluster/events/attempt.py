"""One attempt to deliver an event, and its verdict."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from fusion_cluster.commands.time_limit import TimeLimits, within
from fusion_cluster.errors import CommandResultLost, UnknownMethod
from fusion_cluster.events.claims import ClaimedEvent, Verdict
from fusion_cluster.events.options import EventOptions, exponential_backoff
from fusion_cluster.events.subscriptions import Subscription
from fusion_cluster.failures.exits import as_body_exited, body_exited, reraise_outside
from fusion_cluster.failures.printing import printable
from fusion_cluster.quantities import as_finite_delay
from fusion_cluster.runtime import Entropy, is_being_cancelled
from fusion_cluster.runtime.baggage import arrive_with_event

if TYPE_CHECKING:
    from fusion_cluster.events.handler import BoundEventHandler

logger = logging.getLogger(__name__)

Deliver = Callable[["BoundEventHandler", Any, str], Awaitable[object]]
"""Runs a handler with an event, as a command of the id given."""

ABANDONED: Final = "the process ended, or was not heard any more, while it was delivering this"

MAX_ERROR_CHARACTERS: Final = 2_000


async def attempt(
    event: ClaimedEvent, subscription: Subscription, deliver: Deliver, *, timeout_s: float, limits: TimeLimits
) -> dict[str, Exception]:
    """Call the handlers of an event that have still to succeed, one after the other, even if some fail.

    The context of the caller, which must be its own, gets the event's baggage.

    Each handler runs under one id in all attempts, so a handler that has succeeded before does not run again.

    Returns:
        The errors of the handlers that have failed, by name.
    """
    failures: dict[str, Exception] = {}
    for name in _due_handlers(event, subscription):
        try:
            handler = subscription.handlers.get(name)
            if handler is None:
                raise UnknownMethod(f"there is no event handler {name!r} in the app any more")
            arrive_with_event(event.baggage)  # for each handler: the one before may have changed the context
            # Each handler gets its own event, which it may change.
            call = deliver(handler, subscription.decode(event.payload), f"{event.event_id}/{name}")
            if not await within(timeout_s, call, limits):
                failures[name] = TimeoutError(f"it took longer than {timeout_s:g} s and was cancelled")
        except CommandResultLost:
            pass  # it has run
        except Exception as error:
            failures[name] = error
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            failures[name] = as_body_exited(name, error)
        except BaseException as error:  # of the event's class, when it was made
            failures[name] = body_exited(name, error)
    return failures


def judged(
    event: ClaimedEvent,
    subscription: Subscription,
    failures: Mapping[str, Exception],
    options: EventOptions,
    now: float,
    entropy: Entropy,
) -> Verdict:
    """Return the verdict on an event after an attempt in which handlers have failed.

    Args:
        event: the event.
        subscription: its handlers.
        failures: their errors.
        options: the number of attempts and their pauses.
        now: the time in seconds since the epoch.
        entropy: gives the jitter of the pause.
    """
    has_succeeded = len(failures) < len(_due_handlers(event, subscription))
    own_s = max((_own_pause_s(error) for error in failures.values()), default=0.0)
    error = "; ".join(f"{name}: {_in_words(error)}" for name, error in failures.items())
    verdict = _verdict(
        event, error, options, now, own_s, tuple(failures) if has_succeeded else event.remaining, entropy
    )
    level = logging.ERROR if verdict.is_dead else logging.WARNING
    for name, failure in failures.items():
        logger.log(level, "%s", _told(event, verdict, name), exc_info=printable(failure))
    return verdict


def judged_abandoned(event: ClaimedEvent, options: EventOptions, now: float, entropy: Entropy) -> Verdict:
    """Return the verdict on an event whose host ended while delivering it: the event might be the cause."""
    verdict = _verdict(event, ABANDONED, options, now, 0.0, event.remaining, entropy)
    logger.warning("%s: %s", _told(event, verdict, "its host"), ABANDONED)
    return verdict


def _due_handlers(event: ClaimedEvent, subscription: Subscription) -> tuple[str, ...]:
    return tuple(subscription.handlers) if event.remaining is None else event.remaining


def _verdict(
    event: ClaimedEvent,
    error: str,
    options: EventOptions,
    now: float,
    own_pause_s: float,
    remaining: tuple[str, ...] | None,
    entropy: Entropy,
) -> Verdict:
    attempts = event.attempts + 1
    is_dead = attempts >= options.max_attempts
    pause_s = 0.0 if is_dead else max(_backoff_s(options, attempts, entropy), own_pause_s)
    return Verdict(attempts, now + pause_s, is_dead, remaining, _storable(error))


def _backoff_s(options: EventOptions, failed: int, entropy: Entropy) -> float:
    if options.backoff is exponential_backoff:
        return exponential_backoff(failed, entropy)
    try:
        pause_s = float(options.backoff(failed))
        if pause_s < math.inf:
            return pause_s
        raise ValueError(f"a pause of {pause_s} seconds")
    except BaseException as raised:  # an error of the app must not stop the delivery of this event and all others
        reraise_outside(raised)
        logger.exception("EventOptions.backoff failed")
        return exponential_backoff(failed, entropy)


def _own_pause_s(error: Exception) -> float:
    try:
        return as_finite_delay("retry_after_s", getattr(error, "retry_after_s", None))
    except Exception:  # it gives no pause, or one that is not a valid time
        return 0.0


def _in_words(error: Exception) -> str:
    try:
        text = str(error)
    except BaseException as raised:
        reraise_outside(raised)
        text = "its message cannot be shown"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _storable(text: str) -> str:
    """Return a text that every database accepts: not too long, without zeros and lone surrogates."""
    return text[:MAX_ERROR_CHARACTERS].replace("\0", "\\0").encode(errors="backslashreplace").decode()


def _told(event: ClaimedEvent, verdict: Verdict, who: str) -> str:
    what = "is a dead letter now" if verdict.is_dead else "will be tried again"
    return f"{who} has failed with the {event.type} {event.event_id}, which {what}; attempt {verdict.attempts}"
