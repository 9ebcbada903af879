"""The library's tables (`fusion_cluster.database.schema`), made and upgraded by the library."""

from fusion_cluster.database.migrations.upgrading import NEWEST, Upgrade, find_revision, upgrade
from fusion_cluster.database.schema import VERSION_TABLE

__all__ = ["NEWEST", "VERSION_TABLE", "Upgrade", "find_revision", "upgrade"]
