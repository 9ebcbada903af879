"""Services for code without an event loop: methods block and return values, from any number of threads."""

from fusion_cluster.blocking.changes import BlockingIterator, ComputedView
from fusion_cluster.blocking.host import BlockingHost, blocking

__all__ = ["BlockingHost", "BlockingIterator", "ComputedView", "blocking"]
