"""The database: sessions to read with, operations to write with, look-ups in batches."""

from fusion_cluster.database.batch_loader import BatchLoader
from fusion_cluster.database.database import Database

__all__ = ["BatchLoader", "Database"]
