"""The slot map: which shard owns which slot.

The map is an immutable value with a version; only the coordinator makes new ones.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from fusion_cluster.catalogue.slots import SLOT_COUNT


class ShardAddress(msgspec.Struct, frozen=True, array_like=True):
    """Where a shard listens, and in which incarnation."""

    shard_id: int
    host: str
    port: int
    epoch: int


@dataclass(frozen=True)
class SlotMap:
    """Slot → shard, with a version number.

    Attributes:
        version: rises with each change.
        owners: for each slot, the id of the shard that owns it.
        shards: the shards that serve at present, by id. A shard that is down is missing; its slots stay its own.
    """

    version: int
    owners: array[int]
    shards: Mapping[int, ShardAddress]

    @classmethod
    def even(cls, shard_ids: Iterable[int], *, version: int = 1) -> SlotMap:
        """Make the first map: equal ranges of slots, no shard serving yet."""
        ids = sorted(shard_ids)
        owners = array("H")
        for index, shard_id in enumerate(ids, 1):
            owners.extend(array("H", [shard_id]) * (-(-index * SLOT_COUNT // len(ids)) - len(owners)))
        return cls(version, owners, {})

    def with_shard(self, address: ShardAddress) -> SlotMap:
        """Return the next map, in which this shard serves at this address."""
        return replace(self, version=self.version + 1, shards={**self.shards, address.shard_id: address})

    def without_shard(self, shard_id: int) -> SlotMap:
        """Return the next map, in which this shard does not serve."""
        shards = {i: address for i, address in self.shards.items() if i != shard_id}
        return replace(self, version=self.version + 1, shards=shards)

    def mask_of(self, shard_id: int) -> bytes:
        """Return a byte for each slot: 1 if this shard owns it, else 0."""
        return bytes(owner == shard_id for owner in self.owners) or bytes(SLOT_COUNT)

    def slots_of(self, shard_id: int) -> int:
        """Return how many slots a shard owns."""
        return self.owners.count(shard_id)

    def encode(self) -> bytes:
        """Return the map as msgpack, for the control plane."""
        return _ENCODER.encode(_Encoded(self.version, self.owners.tobytes(), list(self.shards.values())))

    @classmethod
    def decode(cls, data: bytes) -> SlotMap:
        """Decode a map: the inverse of `encode`."""
        encoded = _DECODER.decode(data)
        owners = array("H")
        owners.frombytes(encoded.owners)
        return cls(encoded.version, owners, {address.shard_id: address for address in encoded.shards})


class _Encoded(msgspec.Struct, array_like=True):
    version: int
    owners: bytes
    shards: list[ShardAddress]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Encoded)
