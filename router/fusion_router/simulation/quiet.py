"""What must not disturb a run from outside, and what it must not say: garbage collection and logs."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect garbage at the end only: finalizers must not run in the midst of a run."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        if is_enabled:
            gc.enable()


class _Collector(logging.Handler):
    """Keeps the texts of log records."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        error = record.exc_info[1] if record.exc_info else None
        self.texts.append(record.getMessage() + (f": {error!r}" if error is not None else ""))


@contextmanager
def errors_of_logs() -> Iterator[list[str]]:
    """Give what the library and the router log as errors in the block."""
    collector = _Collector()
    loggers = [logging.getLogger(name) for name in ("fusion_cluster", "fusion_router")]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(collector)
        logger.propagate = False
    try:
        yield collector.texts
    finally:
        for logger, propagates in zip(loggers, before, strict=True):
            logger.removeHandler(collector)
            logger.propagate = propagates
