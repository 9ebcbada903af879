"""Where bodies run: on the event loop, in a thread, as a Ray task; and the services that they see there."""
