"""Services and their methods, derived once for an app: signatures, codecs, shard keys, options, injection."""
