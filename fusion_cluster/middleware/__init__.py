"""Middleware: code around the bodies of commands, compute methods and event handlers.

The built-in middleware also serves as examples.
"""

from fusion_cluster.middleware.authorization import (
    Authorization,
    CommandRule,
    ComputationRule,
    acting_as,
    anybody,
    signed_in,
)
from fusion_cluster.middleware.call import Call, CallKind, Middleware, Next
from fusion_cluster.middleware.retries import Retries
from fusion_cluster.middleware.slow_calls import SlowCalls
from fusion_cluster.middleware.timing import MethodTimes, Timing
from fusion_cluster.middleware.tracing import Tracing
from fusion_cluster.runtime.baggage import carrying, current_principal

__all__ = [
    "Authorization",
    "Call",
    "CallKind",
    "CommandRule",
    "ComputationRule",
    "MethodTimes",
    "Middleware",
    "Next",
    "Retries",
    "SlowCalls",
    "Timing",
    "Tracing",
    "acting_as",
    "anybody",
    "carrying",
    "current_principal",
    "signed_in",
]
