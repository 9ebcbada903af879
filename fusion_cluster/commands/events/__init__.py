"""Events: commands emit them with their commit, and the event handlers of services are called with them.

Import the modules by their own names: operations use events, and event handlers are commands, which use operations.
"""
