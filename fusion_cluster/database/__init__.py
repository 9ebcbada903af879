"""The database: sessions to read with, operations to write with."""

from fusion_cluster.database.database import Database

__all__ = ["Database"]
