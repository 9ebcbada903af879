"""The database: sessions to read with, operations to write with, look-ups in batches, the operation log."""

from fusion_cluster.database.batch_loader import BatchLoader
from fusion_cluster.database.database import Database
from fusion_cluster.database.operation_log import LogOptions

__all__ = ["BatchLoader", "Database", "LogOptions"]
