"""The router: finds the shard of a call, keeps replicas, the freshness barrier, and the gateway."""
