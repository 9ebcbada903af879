"""Event handlers: commands that are called with the events that operations have emitted, and what delivers these.

What an operation emits, and writes with its commit, is in `commands` (`emitted_event`, `outbox`), which knows nothing
of handlers.
"""

from fusion_cluster.events.handler import BoundEventHandler, EventHandler, event_handler

__all__ = ["BoundEventHandler", "EventHandler", "event_handler"]
