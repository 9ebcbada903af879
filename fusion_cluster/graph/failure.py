"""Errors as results: how one is kept, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final

from fusion_cluster.errors import FusionError

TransientClassifier = Callable[[Exception], bool]
"""Tells whether computing again soon may end better."""

_TRANSIENT: Final = (ConnectionError, TimeoutError, InterruptedError, BlockingIOError)


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


def is_transient(error: Exception) -> bool:
    """Default classifier: what the error says of itself (`is_transient`), else whether connection or time failed."""
    says = getattr(error, "is_transient", None)
    return isinstance(error, _TRANSIENT) if says is None else bool(says)


def is_memoized(error: Exception) -> bool:
    """Tell whether an error is kept as a result at all."""
    return error.is_memoized if isinstance(error, FusionError) else True


def retry_delay_s(
    error: Exception, *, transient_error_delay: float, error_delay: float, classifier: TransientClassifier
) -> float:
    """Return the seconds after which `error` is computed anew.

    The error's own `retry_after_s` wins. A classifier that raises means transient: a doubt costs one computation, not a
    wrong answer for half a minute.
    """
    try:
        own: float | None = getattr(error, "retry_after_s", None)
        if own is not None:
            return float(own)
    except Exception:
        return transient_error_delay
    try:
        transient = classifier(error)
    except Exception:
        transient = True
    return transient_error_delay if transient else error_delay
