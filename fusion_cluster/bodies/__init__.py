"""Running of bodies: on the event loop, in a thread, as a Ray task; and the services that a body sees there."""
