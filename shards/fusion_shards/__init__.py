"""The Ray side of fusion-cluster: shard, gateway and coordinator actors, and their launch."""
