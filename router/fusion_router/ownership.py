"""The owners of keys, by the newest slot map that this process knows.

Invariant: the slot map only ever becomes newer, and nothing here is remembered from an older one.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.slots import SLOT_COUNT
from fusion_cluster.database.applied_operations import Reference
from fusion_cluster.graph import Key
from fusion_cluster.protocol.slot_map import SlotMap


class Ownership:
    """The owners of an app's keys, as one member knows them.

    Args:
        methods: the methods of the app, by full name.
        shard_id: the number of this shard; None for gateways and drivers, which own nothing.

    Attributes:
        methods: as given.
        shard_id: as given.
        slot_map: the newest one; before the first one, an empty one of version 0.
    """

    def __init__(self, methods: Mapping[str, Method], shard_id: int | None) -> None:
        self.methods = methods
        self.shard_id = shard_id
        self.slot_map = SlotMap(0, array("H"), {})
        self._owned_slots: bytes | None = None

    def set_slot_map(self, slot_map: SlotMap) -> None:
        """Take a newer slot map."""
        self.slot_map = slot_map
        self._owned_slots = None

    def slot(self, key: Key) -> int:
        """Return the slot of a key."""
        return self.methods[f"{key.service}.{key.method}"].slot(key.arguments)

    def key_of(self, reference: Reference) -> Key:
        """Return the key that other members know by this reference.

        Raises:
            InvalidArgument: the arguments are not those of the method.
        """
        name, encoded = reference
        method = self.methods[name]
        return Key(method.service_name, method.method_name, method.arguments.decode_msgpack(encoded))

    def owner_of_slot(self, slot: int) -> int:
        """Return the shard that owns a slot; -1 while no slot map is known."""
        return self.slot_map.owners[slot] if self.slot_map.owners else -1

    def owner_of(self, key: Key) -> int:
        """Return the shard that owns a key; -1 while no slot map is known."""
        return self.owner_of_slot(self.slot(key))

    def owns(self, key: Key) -> bool:
        """Tell whether this member owns a key."""
        return self.owns_slot(self.slot(key))

    def owns_slot(self, slot: int) -> bool:
        """Tell whether this member owns a slot."""
        owners = self.slot_map.owners
        return bool(owners) and owners[slot] == self.shard_id

    def owned_slots(self) -> bytes:
        """Return a byte for each slot: 1 if this member owns it, else 0."""
        if self._owned_slots is None and self.shard_id is not None:
            self._owned_slots = self.slot_map.mask_of(self.shard_id)
        return self._owned_slots or bytes(SLOT_COUNT)
