"""The runtime: owns time, randomness and background tasks in a process. The system's, or one that a test makes.

Code that reads a clock, draws a random number or starts a task is given its runtime; it never finds one by itself. So
a test or a simulator decides about all three.
"""

from fusion_cluster.runtime.backoff import Backoff
from fusion_cluster.runtime.cancellation import is_being_cancelled
from fusion_cluster.runtime.clock import SYSTEM_CLOCK, Clock
from fusion_cluster.runtime.entropy import Entropy, SeededEntropy, SystemEntropy
from fusion_cluster.runtime.runtime import SYSTEM, Runtime, SystemRuntime
from fusion_cluster.runtime.task_scope import TaskScope
from fusion_cluster.runtime.virtual import LoopClock, VirtualRuntime

__all__ = [
    "SYSTEM",
    "SYSTEM_CLOCK",
    "Backoff",
    "Clock",
    "Entropy",
    "LoopClock",
    "Runtime",
    "SeededEntropy",
    "SystemEntropy",
    "SystemRuntime",
    "TaskScope",
    "VirtualRuntime",
    "is_being_cancelled",
]
