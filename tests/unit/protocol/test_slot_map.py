"""Slots and the slot map."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from fusion_cluster.catalogue.slots import SLOT_COUNT, slot_of
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap


def test_a_key_has_the_same_slot_in_every_process() -> None:
    code = "from fusion_cluster.catalogue.slots import slot_of; print(slot_of('Carts', b'c1'), slot_of('Network'))"
    seen = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(2)}
    assert seen == {f"{slot_of('Carts', b'c1')} {slot_of('Network')}\n"}


def test_slots_do_not_change_between_releases() -> None:
    assert [slot_of("Carts", b"c1"), slot_of("Carts", b"c2"), slot_of("Network")] == [12992, 11245, 8495]


def test_a_group_and_a_key_do_not_run_into_each_other() -> None:
    assert slot_of("ab", b"c") != slot_of("a", b"bc")


def test_keys_spread_evenly_over_slots() -> None:
    slot_map = SlotMap.even(range(4))
    shards = Counter(slot_map.owners[slot_of("Carts", str(i).encode())] for i in range(40_000))
    assert max(shards.values()) < 1.05 * min(shards.values())


def test_an_even_map_gives_every_shard_its_share() -> None:
    slot_map = SlotMap.even(range(3))
    assert len(slot_map.owners) == SLOT_COUNT
    assert {slot_map.slots_of(shard) for shard in range(3)} <= {SLOT_COUNT // 3, SLOT_COUNT // 3 + 1}


def test_a_map_survives_its_encoding() -> None:
    slot_map = SlotMap.even(range(3), version=7).with_shard(ShardAddress(1, "127.0.0.1", 4000, 2))
    assert SlotMap.decode(slot_map.encode()) == slot_map


def test_each_change_is_a_new_version() -> None:
    first = SlotMap.even([0, 1])
    up = first.with_shard(ShardAddress(0, "h", 1, 1))
    down = up.without_shard(0)
    assert [first.version, up.version, down.version] == [1, 2, 3]
    assert not first.shards
    assert not down.shards
    assert list(up.shards) == [0]
