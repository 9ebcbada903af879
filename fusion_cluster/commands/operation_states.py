"""The states of an operation, and the table of its transitions.

1.  An operation is open while its block runs. Its log entry and its events are written while it is open, too.
2.  It is committing from the moment at which its commit may take effect.
3.  It is committed when the commit has succeeded, and when it may have: its invalidations are published then. A
    savepoint is committed when it is handed over to the operation around it, whose transaction it shares.
4.  It is rolled back otherwise. Nothing follows either end.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class OperationState(enum.Enum):
    """State of an operation; it moves one way, from the top down."""

    OPEN = "open"
    COMMITTING = "committing"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"


class OperationEvent(enum.Enum):
    """Steps of the end of an operation."""

    COMMIT = enum.auto()
    TAKE_EFFECT = enum.auto()
    ROLL_BACK = enum.auto()


OPERATION: Final[Mapping[OperationState, Mapping[OperationEvent, OperationState]]] = {
    OperationState.OPEN: {
        OperationEvent.COMMIT: OperationState.COMMITTING,
        OperationEvent.ROLL_BACK: OperationState.ROLLED_BACK,
    },
    OperationState.COMMITTING: {
        OperationEvent.TAKE_EFFECT: OperationState.COMMITTED,
        OperationEvent.ROLL_BACK: OperationState.ROLLED_BACK,
    },
    OperationState.COMMITTED: {},
    OperationState.ROLLED_BACK: {},
}
