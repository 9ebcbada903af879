"""The database: sessions to read, operations to write, look-ups in batches, the operation log, the outbox."""

from fusion_cluster.database.batch_loader import BatchLoader
from fusion_cluster.database.database import Database
from fusion_cluster.database.event_store import EventState, EventStore, StoredEvent
from fusion_cluster.database.operation_log import LogOptions

__all__ = ["BatchLoader", "Database", "EventState", "EventStore", "LogOptions", "StoredEvent"]
