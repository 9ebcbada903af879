"""Errors as results: how one is kept, and for how long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from fusion_cluster.errors import FusionError, UsageError
from fusion_cluster.failures.exact_copies import (
    ARGS,
    CAUSE,
    CONTEXT,
    exact_copy,
    is_same,
    set_surroundings,
    surroundings_of,
)
from fusion_cluster.failures.exits import TRACEBACK, reraise_outside
from fusion_cluster.failures.tracebacks import let_go_of_frames

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

    Each reader is given a copy (see `exact_copies`); one that cannot be copied is given itself, as it was when the
    computation ended.

    Attributes:
        error: what was raised.
        traceback: as it was then.
    """

    __slots__ = ("_surroundings", "error")

    def __init__(self, error: Exception) -> None:
        self.error = error
        self._surroundings = surroundings_of(error)

    @classmethod
    def caught(cls, error: Exception, ambient: BaseException | None = None) -> Failure:
        """Keep an error without the frame that caught it, and without what the others hold (see `tracebacks`).

        Args:
            error: what was caught.
            ambient: what was being handled around the computation; nothing of the error's own.
        """
        traceback = TRACEBACK.__get__(error)
        if traceback is not None:
            TRACEBACK.__set__(error, traceback.tb_next)
        if ambient is not None:
            _cut_off(error, ambient)
        let_go_of_frames(error)
        return cls(error)

    @property
    def traceback(self) -> TracebackType | None:
        """The traceback as it was when the computation ended."""
        return self._surroundings[0]

    def to_raise(self) -> Exception:
        """Return what one caller is given, to raise it."""
        copy = exact_copy(self.error)
        if copy is None:
            set_surroundings(self.error, *self._surroundings)
            return self.error
        traceback, context, cause, suppresses_context = self._surroundings
        if context is None and cause is None and not suppresses_context:  # most often, and a copy is like that
            TRACEBACK.__set__(copy, traceback)
        else:
            set_surroundings(copy, *self._surroundings)
        return copy

    def throw(self) -> NoReturn:
        """Raise what one caller is given.

        What the caller handles at this moment becomes its context only if it has none of its own.
        """
        error = self.to_raise()
        context = self._surroundings[1]
        try:
            raise error
        finally:
            if context is not None:
                CONTEXT.__set__(error, context)
            del error, self  # a traceback holds this frame, which must not hold the error, nor whoever has that

    def pass_on(self, failures: Iterable[Failure | None]) -> None:
        """Stand for the very error of one of the failures, where the body has only passed on a copy of it."""
        for failure in failures:
            if failure is not None and failure.is_in(self.error) and is_same(failure.error, self.error):
                pairs = zip(self._surroundings[1:], failure._surroundings[1:], strict=True)
                if all(mine is other for mine, other in pairs):
                    self.error = failure.error
                return

    def is_in(self, error: BaseException) -> bool:
        """Tell whether `error` is what a caller was given of this failure."""
        if error is self.error:
            return True
        if type(error) is not type(self.error):
            return False
        last: TracebackType | None = None
        traceback = TRACEBACK.__get__(error)
        while traceback is not None and traceback is not self.traceback:
            last, traceback = traceback, traceback.tb_next
        if last is None or traceback is not self.traceback:
            return False
        return traceback is not None or (  # what was never raised, but set
            _is_of_throw(last) and ARGS.__get__(error) is ARGS.__get__(self.error)
        )


def _is_of_throw(traceback: TracebackType) -> bool:
    """Tell whether a traceback's frame is, or is detached from, one of `Failure.throw`."""
    code, throw = traceback.tb_frame.f_code, Failure.throw.__code__
    return (code.co_qualname, code.co_filename) == (throw.co_qualname, throw.co_filename)


def _cut_off(error: BaseException, ambient: BaseException) -> None:
    """Take `ambient` out of the chains of what `error` was raised from, or in the handling of."""
    seen = {id(error)}
    pending = [error]
    while pending:
        current = pending.pop()
        if CONTEXT.__get__(current) is ambient:
            CONTEXT.__set__(current, None)
        for linked in (CONTEXT.__get__(current), CAUSE.__get__(current)):
            if linked is not None and linked is not ambient and id(linked) not in seen:
                seen.add(id(linked))
                pending.append(linked)


def error_name(failure: Failure | None) -> str | None:
    """Return the name of the error's class; None where nothing has failed."""
    return None if failure is None else type(failure.error).__name__


def is_transient(error: Exception) -> bool:
    """Default classifier: what the error says of itself (`is_transient`), else what is known of its class.

    Known are connections and time-outs, and what SQLAlchemy raises when a database was lost, busy, or gave up a
    transaction for another one's sake.
    """
    try:
        says: Any = getattr(error, "is_transient", None)
        if says is not None:
            return bool(says() if callable(says) else says)
    except BaseException as raised:
        reraise_outside(raised)
        return True  # a doubt, see `retry_rule`
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
    """A classifier that knows what the default one knows, and what you add to it.

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
    if not issubclass(type(error), FusionError):
        return True
    try:
        return bool(error.is_memoized)  # type: ignore[attr-defined]
    except BaseException as raised:  # a subclass of users may do anything
        reraise_outside(raised)
        return False


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
        is_transient = bool(classifier(error))
    except BaseException as raised:
        reraise_outside(raised)
        return transient
    return transient if is_transient else (error_delay, "error_delay")
