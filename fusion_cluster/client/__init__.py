"""The client: an app's services from outside the cluster, over gRPC."""

from fusion_cluster.client.blocking import BlockingClient, connect_blocking
from fusion_cluster.client.client import Client, Update, connect

__all__ = ["BlockingClient", "Client", "Update", "connect", "connect_blocking"]
