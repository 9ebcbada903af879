"""The router: which shard a call goes to, replicas of what others own, the freshness barrier, the gateway."""
