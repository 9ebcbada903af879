"""Slots: the hash buckets that keys fall into.

A key's slot is the same in every process, Python version and restart: xxh3 over bytes, never Python's `hash()`.
"""

from __future__ import annotations

from typing import Final

import xxhash

SLOT_COUNT: Final = 16_384
"""Number of hash buckets that keys fall into."""


def slot_of(shard_group: str, shard_key: bytes = b"") -> int:
    """Return the slot of a key.

    Args:
        shard_group: the service's shard group; services of one group keep what concerns one entity together.
        shard_key: canonical encoding of the argument that decides (the first one, unless `shard_by` says otherwise);
            empty for a method without arguments.

    Returns:
        A number in `range(SLOT_COUNT)`.
    """
    return xxhash.xxh3_64_intdigest(prefix_of(shard_group) + shard_key) % SLOT_COUNT


def prefix_of(shard_group: str) -> bytes:
    """Return what is hashed before the shard keys of a group."""
    return shard_group.encode() + b"\0"
