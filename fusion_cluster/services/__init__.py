"""Services that come with the library, to be put into an app: `App("shop", services=[KeyValueStore, Clock, Sessions])`.

They are written as users write theirs, and are there to be read.
"""

from fusion_cluster.services.clock import Clock
from fusion_cluster.services.key_value_store import KeyValueStore
from fusion_cluster.services.sessions import Sessions, SignIn, new_session_id

__all__ = ["Clock", "KeyValueStore", "Sessions", "SignIn", "new_session_id"]
