"""Services that come with the library. An app lists them: `App("shop", services=[KeyValueStore, Clock, Sessions])`.

They are written as users write theirs, so they also serve as examples.
"""

from fusion_cluster.services.clock import Clock
from fusion_cluster.services.key_value_store import KeyValueStore
from fusion_cluster.services.sessions import Sessions, SignIn, new_session_id

__all__ = ["Clock", "KeyValueStore", "Sessions", "SignIn", "new_session_id"]
