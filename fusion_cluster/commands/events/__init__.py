"""Events: what commands emit with their commit, and what the event handlers of services are called with.

The modules are imported by their own names: operations know of events, and event handlers are commands, which know of
operations.
"""
