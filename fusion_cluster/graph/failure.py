"""Errors as results: how one is kept, and for how long."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from fusion_cluster.errors import FusionError, UsageError

TransientClassifier = Callable[[Exception], bool]
"""Tells whether computing again soon may end better."""

_Rule = type[Exception] | Callable[[Exception], bool]

_TRANSIENT: Final = (ConnectionError, TimeoutError, InterruptedError, BlockingIOError)

_DATABASE_ERRORS: Final = frozenset({"OperationalError", "InterfaceError", "TimeoutError", "DisconnectionError"})
"""Classes of SQLAlchemy: the connection, the pool, a lock."""

_SQL_STATES: Final = ("08", "40", "53", "57P", "55P03")
"""Of PostgreSQL: connection, rolled back for another transaction's sake, resources, shutdown, lock not available."""


class Failure:
    """The error that a computation ended with.

    The traceback is kept beside it because each `raise` of one exception object adds to that object's own.
    """

    __slots__ = ("error", "traceback")

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.traceback: TracebackType | None = error.__traceback__

    @classmethod
    def caught(cls, error: Exception) -> Failure:
        """Keep an error without the frame that caught it: that knows the node, which an error must not hold."""
        if error.__traceback__ is not None:
            error.__traceback__ = error.__traceback__.tb_next
        return cls(error)

    def to_raise(self) -> Exception:
        """Return the error with its traceback as it was when the computation ended."""
        return self.error.with_traceback(self.traceback)


def error_name(failure: Failure | None) -> str | None:
    """Return the name of the error's class; None where nothing has failed."""
    return None if failure is None else type(failure.error).__name__


def is_transient(error: Exception) -> bool:
    """Default classifier: what the error says of itself (`is_transient`), else what is known of its class.

    Known are connections and time-outs, and what SQLAlchemy raises when a database was lost, busy, or gave up a
    transaction for another one's sake.
    """
    says: Any = getattr(error, "is_transient", None)
    if says is not None:
        return bool(says() if callable(says) else says)
    return isinstance(error, _TRANSIENT) or _is_of_database(error)


def _is_of_database(error: Exception) -> bool:
    """Tell whether SQLAlchemy says that the database may do better next time. Nothing is imported for it."""
    names = {cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "sqlalchemy.exc"}
    if not names:
        return False
    if names & _DATABASE_ERRORS or getattr(error, "connection_invalidated", False):
        return True
    original = getattr(error, "orig", None)
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return isinstance(state, str) and state.startswith(_SQL_STATES)


class Transiency:
    """A classifier that knows what the default one knows, and what it is told besides.

    What was told last is asked first; the default knowledge comes last.

    >>> App("shop", services=[...], is_transient=Transiency().add(RateLimited, lambda error: "try again" in str(error)))
    """

    def __init__(self) -> None:
        self._rules: list[tuple[_Rule, bool]] = []

    def __repr__(self) -> str:
        return f"<Transiency with {len(self._rules)} rules>"

    def add(self, *kinds: type[Exception] | Callable[[Exception], bool]) -> Self:
        """Take errors of these classes, or for which these functions are true, for transient; return self.

        Raises:
            UsageError: one is neither a class of exceptions nor a function.
        """
        return self._add(kinds, verdict=True)

    def exclude(self, *kinds: type[Exception] | Callable[[Exception], bool]) -> Self:
        """Take errors of these classes, or for which these functions are true, for permanent; return self.

        Raises:
            UsageError: one is neither a class of exceptions nor a function.
        """
        return self._add(kinds, verdict=False)

    def __call__(self, error: Exception) -> bool:
        """Tell whether computing again soon may end better."""
        for rule, verdict in reversed(self._rules):
            if isinstance(error, rule) if isinstance(rule, type) else rule(error):
                return verdict
        return is_transient(error)

    def _add(self, kinds: tuple[_Rule, ...], *, verdict: bool) -> Self:
        for kind in kinds:
            if not (issubclass(kind, Exception) if isinstance(kind, type) else callable(kind)):
                raise UsageError(f"{kind!r} is neither a class of exceptions nor a function", field="is_transient")
        self._rules += [(kind, verdict) for kind in kinds]
        return self


def is_memoized(error: Exception) -> bool:
    """Tell whether an error is kept as a result at all."""
    return error.is_memoized if isinstance(error, FusionError) else True


def retry_delay_s(
    error: Exception, *, transient_error_delay: float, error_delay: float, classifier: TransientClassifier
) -> float:
    """Return the seconds after which `error` is computed anew (see `retry_rule`)."""
    rule = retry_rule(
        error, transient_error_delay=transient_error_delay, error_delay=error_delay, classifier=classifier
    )
    return rule[0]


def retry_rule(
    error: Exception, *, transient_error_delay: float, error_delay: float, classifier: TransientClassifier
) -> tuple[float, str]:
    """Return the seconds after which `error` is computed anew, and the name of what says so.

    The error's own `retry_after_s` wins, if it is a number. A classifier that raises means transient: a doubt costs one
    computation, not a wrong answer for half a minute.
    """
    transient = transient_error_delay, "transient_error_delay"
    try:
        own: float | None = getattr(error, "retry_after_s", None)
        if own is not None:
            delay_s = float(own)
            return transient if math.isnan(delay_s) else (max(delay_s, 0.0), "retry_after_s")
    except Exception:
        return transient
    try:
        is_transient = classifier(error)
    except Exception:
        is_transient = True
    return transient if is_transient else (error_delay, "error_delay")
