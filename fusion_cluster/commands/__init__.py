"""Commands: methods that change data, and the operations in which they change it."""

from fusion_cluster.commands.command import BoundCommand, Command, command
from fusion_cluster.commands.context import Publisher, collect_publication, running_command
from fusion_cluster.commands.invocation import Invocation
from fusion_cluster.commands.operation import Operation, record_invalidation, running_operation
from fusion_cluster.commands.outcomes import CommandResult, LoggedKey
from fusion_cluster.commands.pipeline import run_command
from fusion_cluster.commands.returning import UnrecordedResult
from fusion_cluster.commands.time_limit import TimeLimits
from fusion_cluster.commands.turns import Turns

__all__ = [
    "BoundCommand",
    "Command",
    "CommandResult",
    "Invocation",
    "LoggedKey",
    "Operation",
    "Publisher",
    "TimeLimits",
    "Turns",
    "UnrecordedResult",
    "collect_publication",
    "command",
    "record_invalidation",
    "run_command",
    "running_command",
    "running_operation",
]
