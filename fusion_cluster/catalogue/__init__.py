"""Services and their methods, worked out once for an app: signatures, codecs, shard keys, options, injection."""
