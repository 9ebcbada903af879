"""The two ends of the graph: values set by hand, and live values for those who look at them."""

from fusion_cluster.state.computed_state import ComputedState
from fusion_cluster.state.mutable_state import MutableState
from fusion_cluster.state.update_delayer import FixedDelayer, UpdateDelayer

__all__ = ["ComputedState", "FixedDelayer", "MutableState", "UpdateDelayer"]
