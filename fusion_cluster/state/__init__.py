"""The two ends of the graph: values set by hand, and live values for those who watch them."""

from fusion_cluster.state.computed_state import ComputedState
from fusion_cluster.state.mutable_state import MutableState
from fusion_cluster.state.snapshot import StateSnapshot
from fusion_cluster.state.update_delayer import BackoffDelayer, FixedDelayer, UpdateDelayer
from fusion_cluster.state.user_actions import CutShortDelayer, UserActions

__all__ = [
    "BackoffDelayer",
    "ComputedState",
    "CutShortDelayer",
    "FixedDelayer",
    "MutableState",
    "StateSnapshot",
    "UpdateDelayer",
    "UserActions",
]
