"""Distributed reactive memoization: cached async methods that know what they were computed from."""

from fusion_cluster.app import App
from fusion_cluster.commands import command
from fusion_cluster.database import Database
from fusion_cluster.errors import (
    CircularDependencyError,
    ClusterError,
    CommandError,
    CommandOutcomeUnknown,
    ComputeError,
    DeadlineExceeded,
    FusionError,
    HandshakeRefused,
    InvalidArgument,
    InvariantViolation,
    LocalProtocolError,
    NotOwner,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    RemoteError,
    RemoteProtocolError,
    ShardUnavailable,
    UnknownMethod,
    UnknownService,
    UsageError,
)
from fusion_cluster.graph import Computed, ComputeService, compute_method, gather, isolated
from fusion_cluster.state import ComputedState, MutableState

__all__ = [
    "App",
    "CircularDependencyError",
    "ClusterError",
    "CommandError",
    "CommandOutcomeUnknown",
    "ComputeError",
    "ComputeService",
    "Computed",
    "ComputedState",
    "Database",
    "DeadlineExceeded",
    "FusionError",
    "HandshakeRefused",
    "InvalidArgument",
    "InvariantViolation",
    "LocalProtocolError",
    "MutableState",
    "NotOwner",
    "Overloaded",
    "PermissionDenied",
    "ProtocolError",
    "RemoteError",
    "RemoteProtocolError",
    "ShardUnavailable",
    "UnknownMethod",
    "UnknownService",
    "UsageError",
    "command",
    "compute_method",
    "gather",
    "isolated",
]
