"""Plans of invalidations: each key is told once, to exactly its owner by the slot map of that moment."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.catalogue.slots import SLOT_COUNT
from fusion_cluster.database.applied_operations import Reference
from fusion_cluster.graph import Cause, Key
from fusion_cluster.graph.why.cause import UNKNOWN
from fusion_cluster.protocol.slot_map import SlotMap
from fusion_router.invalidation import InvalidationPlan, Sent, plan_again, plan_invalidation
from fusion_router.ownership import Ownership

SHARDS = 5


class Lists(ComputeService):
    @compute_method
    async def item(self, name: str, number: int) -> int:
        return number

    @compute_method(shard_by="number")
    async def by_number(self, name: str, number: int) -> int:
        return number

    @compute_method
    async def all(self) -> int:
        return 0


METHODS = App("lists", [Lists]).methods

names, numbers = st.sampled_from("abcdefgh"), st.integers(0, 20)
keys_strategy = st.dictionaries(
    st.one_of(
        st.builds(lambda name, number: Key("Lists", "item", (name, number)), names, numbers),
        st.builds(lambda name, number: Key("Lists", "by_number", (name, number)), names, numbers),
        st.just(Key("Lists", "all", ())),
    ),
    st.sampled_from([UNKNOWN, Cause("here", "a line"), Cause("remote", "somebody")]),
    max_size=30,
)
members = st.one_of(st.none(), st.integers(0, SHARDS - 1))
# Which shard owns the slots of a rest class; None: no map is known yet.
maps = st.lists(st.integers(0, SHARDS - 1), min_size=7, max_size=7)


def slot_map(owners: list[int], version: int = 1) -> SlotMap:
    return SlotMap(version, array("H", (owners[slot % len(owners)] for slot in range(SLOT_COUNT))), {})


def told(plan: InvalidationPlan) -> list[tuple[int, Reference, Sent]]:
    return [(owner, *item) for owner, part in plan.remote.items() for item in part.items()]


def keys_told(plan: InvalidationPlan, ownership: Ownership) -> list[Key]:
    return [ownership.key_of(reference) for _, reference, _ in told(plan)]


def check(plan: InvalidationPlan, keys: Mapping[Key, Cause], ownership: Ownership) -> None:
    """Local and remote keys together are all of them, each once, each at its owner."""
    assert sorted([*plan.local, *keys_told(plan, ownership)], key=repr) == sorted(keys, key=repr)
    assert all(ownership.owns(key) for key in plan.local)
    for owner, reference, sent in told(plan):
        key = ownership.key_of(reference)
        assert owner == ownership.owner_of(key) != ownership.shard_id
        assert sent.slot == ownership.slot(key)
    assert all(plan.remote.values()), "nobody is told of nothing"


@given(keys=keys_strategy, shard_id=members, owners=maps)
def test_a_plan_names_each_key_once_and_at_its_owner(
    keys: dict[Key, Cause], shard_id: int | None, owners: list[int]
) -> None:
    ownership = Ownership(METHODS, shard_id)
    ownership.set_slot_map(slot_map(owners))
    plan = plan_invalidation(keys, ownership)
    check(plan, keys, ownership)
    assert all(plan.local[key] is keys[key] for key in plan.local)
    for _, reference, sent in told(plan):
        assert sent.origin == str(keys[ownership.key_of(reference)])


@given(keys=keys_strategy, shard_id=members, owners=maps, later=st.lists(maps, max_size=4))
def test_keys_that_move_are_planned_again_for_their_new_owners(
    keys: dict[Key, Cause], shard_id: int | None, owners: list[int], later: list[list[int]]
) -> None:
    """Whatever is left for others after each map is told; what has become ours is applied here, and told to nobody."""
    ownership = Ownership(METHODS, shard_id)
    ownership.set_slot_map(slot_map(owners))
    plan = plan_invalidation(keys, ownership)
    for version, moved in enumerate(later, 2):
        left = dict.fromkeys(keys_told(plan, ownership), UNKNOWN)
        origins = {reference: sent.origin for _, reference, sent in told(plan)}
        ownership.set_slot_map(slot_map(moved, version))
        parts = [plan_again(part, ownership, teller="me") for part in plan.remote.values()]
        plan = InvalidationPlan()
        for part in parts:
            plan.local.update(part.local)
            for owner, references in part.remote.items():
                plan.remote.setdefault(owner, {}).update(references)
        check(plan, left, ownership)
        assert all(sent.origin == origins[reference] for _, reference, sent in told(plan))


@given(keys=keys_strategy, shard_id=members)
def test_before_the_first_slot_map_nobody_owns_anything(keys: dict[Key, Cause], shard_id: int | None) -> None:
    plan = plan_invalidation(keys, Ownership(METHODS, shard_id))
    assert not plan.local
    assert set(plan.remote) == ({-1} if keys else set())
