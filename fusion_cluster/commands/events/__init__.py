"""Events: what commands emit with their commit, and the calls of the event handlers of services.

Import the modules by their own names: operations use events, and event handlers are commands, which use operations.
"""
