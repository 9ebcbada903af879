"""The client: an app's services from outside the cluster, over gRPC."""

from fusion_cluster.client.client import Client, Update, connect

__all__ = ["Client", "Update", "connect"]
