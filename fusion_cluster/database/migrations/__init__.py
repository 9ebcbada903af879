"""The library's tables (`fusion_cluster.database.schema`), made and upgraded by the library."""

from fusion_cluster.database.migrations.upgrading import NEWEST, VERSION_TABLE, Upgrade, find_revision, upgrade

__all__ = ["NEWEST", "VERSION_TABLE", "Upgrade", "find_revision", "upgrade"]
