"""The steps of the scripts of `test_graph_twins`: what they do to one of the cores, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from fusion_cluster.graph.core.pure.states import COMPUTING, CONSISTENT, INVALIDATED, OUTDATED
from fusion_cluster.wire.codec import EncodedArguments
from tests.property.graph_twin import Twin


class Colliding:
    """Keys that are all of one hash."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Colliding) and self.name == other.name


def keys() -> list[Hashable]:
    """Return what nodes are looked up by: equal ones, ones of equal hashes, the same ones as other objects."""
    return [
        *range(-3, 12),
        *(float(number) / 2 for number in range(1, 4, 2)),  # none that equals one of another class
        *(2**61 - 1, 2**61, 2**64, 10**30, -(2**61)),
        *(None, "a", "b", "ab", "".join(["a", "b"]), "é", "日本", "\U0001f600", b"ab", (1, 2), frozenset({1})),
        *(Colliding(name) for name in "pqpr"),
    ]


def tuples() -> list[tuple[Hashable, ...]]:
    some = keys()
    return [
        (),
        *((key,) for key in some),
        *zip(some, some[3:], strict=False),
        *zip(some, some[1:], some[2:], strict=False),
    ]


def encoded() -> list[EncodedArguments]:
    """Return keys that are told apart by their bytes."""
    return [EncodedArguments(key, repr(len(key)).encode()) for key in tuples()]


ALL_KEYS: Final = (keys(), tuples(), encoded(), keys())

Step = Callable[[Twin, int, int], Any]


def _node(twin: Twin, number: int, *states: int) -> Any:
    """Return a node in one of the states, or None."""
    nodes = [node for node in twin.nodes if node is not None and node._state in states]
    return nodes[number % len(nodes)] if nodes else None


def lookup(twin: Twin, which: int, key: int) -> Any:
    table = which % 4
    return twin.label(twin.tables[table].lookup(ALL_KEYS[table][key % len(ALL_KEYS[table])]))


def hit(twin: Twin, which: int, key: int) -> Any:
    table = which % 4
    known = (keys, tuples, encoded, keys)[table]()  # other objects than those that nodes were made with
    return twin.label(twin.tables[table].hit(known[key % len(known)]))


def hit_unhashable(twin: Twin, which: int, key: int) -> Any:
    return twin.tables[which % 4].hit([key] if which % 4 in (0, 3) else ([key],))


def enter(twin: Twin, which: int, key: int) -> Any:
    table = which % 4
    node = twin.core.Node(twin.tables[table], ALL_KEYS[table][key % len(ALL_KEYS[table])])
    return twin.label(twin.tables[table].enter(node))


def begin(twin: Twin, number: int, _: int) -> None:
    node = _node(twin, number, COMPUTING)
    if node is not None:
        node._computation = "computation"


def succeed(twin: Twin, number: int, value: int) -> Any:
    node = _node(twin, number, COMPUTING, COMPUTING, OUTDATED, CONSISTENT)
    return None if node is None else twin.registry.succeed(node, value)


def fail(twin: Twin, number: int, error: int) -> None:
    node = _node(twin, number, COMPUTING)
    if node is not None:
        node._failure = f"error {error}"
        node._computation = None
        node.version = twin.registry.next_version()
        node._state = CONSISTENT
        twin.registry.completed(node, "KeyError")


def end_outdated(twin: Twin, number: int, value: int) -> None:
    node = _node(twin, number, OUTDATED)
    if node is not None:
        node._computation = None
        node._value = value
        node._state = INVALIDATED


def link(twin: Twin, number: int, other: int) -> Any:
    dependent, node = _node(twin, number, COMPUTING), _node(twin, other, COMPUTING, CONSISTENT)
    return None if dependent is None or dependent is node else twin.core.link(dependent, node)


def unlink(twin: Twin, number: int, other: int) -> None:
    dependent, node = _node(twin, number, COMPUTING, CONSISTENT), _node(twin, other, COMPUTING, CONSISTENT)
    if dependent is not None:
        twin.core.unlink(dependent, node)


def unlink_one(twin: Twin, number: int, other: int) -> None:
    dependent = _node(twin, number, COMPUTING, CONSISTENT)
    if dependent is not None:
        dependencies = sorted(twin.core.dependencies_of(dependent), key=lambda node: twin.labels[id(node)])
        if dependencies:
            twin.core.unlink(dependent, dependencies[other % len(dependencies)])


def capture(twin: Twin, number: int, other: int) -> None:
    states = (COMPUTING, CONSISTENT, OUTDATED, INVALIDATED)
    dependent, node = _node(twin, number, COMPUTING, *states), _node(twin, other, *states)
    if dependent is not None:
        twin.core.capture(dependent, node)


def mark(twin: Twin, number: int, cause: int) -> Any:
    node = _node(twin, number, COMPUTING, CONSISTENT, *([INVALIDATED] if cause > 35 else []))
    touched = None if node is None else twin.mark(node, f"cause {cause % 3}")
    return None if touched is None else [sorted(twin.labels[id(node)] for node in nodes) for nodes in touched]


def observe(twin: Twin, number: int, other: int) -> None:
    node = _node(twin, number, COMPUTING, CONSISTENT)
    if node is not None:
        node._observers = None if node._observers is not None else f"observer {other}"
        twin.registry.loosened(node)


def set_timer(twin: Twin, number: int, other: int) -> None:
    node = _node(twin, number, CONSISTENT)
    if node is not None:
        node._expiry = "timer" if other % 4 else None


def weigh(twin: Twin, number: int, weight: int) -> None:
    node = _node(twin, number, COMPUTING, CONSISTENT)
    if node is not None:
        twin.registry.weigh(node, 100 * weight)


def page_out(twin: Twin, number: int, _: int) -> None:
    node = _node(twin, number, CONSISTENT)
    if node is not None and hasattr(node, "_value"):
        twin.registry.page_out(node)


def page_in(twin: Twin, number: int, value: int) -> None:
    paged_out = [node for node in twin.nodes if node is not None and node._is_paged_out and node._state == CONSISTENT]
    if paged_out:
        twin.registry.page_in(paged_out[number % len(paged_out)], value)


def retain(twin: Twin, number: int, _: int) -> None:
    node = _node(twin, number, COMPUTING, CONSISTENT)
    if node is not None:
        twin.registry.retain(node)


def release(twin: Twin, number: int, _: int) -> None:
    retained = [node for node in twin.nodes if node is not None and node._is_retained]
    if retained:
        twin.registry.release(retained[number % len(retained)])


def forget(twin: Twin, number: int, _: int) -> None:
    if twin.nodes:
        twin.forget(number % len(twin.nodes))


def bound(twin: Twin, max_nodes: int, _: int) -> None:
    twin.registry.max_nodes = 1 + max_nodes


def refuse(twin: Twin, _: int, __: int) -> None:
    twin.refuses = True


def clear_history(twin: Twin, _: int, __: int) -> None:
    twin.clear_history()


def last_invalidation(twin: Twin, number: int, _: int) -> Any:
    node = _node(twin, number, COMPUTING, CONSISTENT, INVALIDATED)
    return None if node is None else twin.cause_of(node)


def net(twin: Twin, used: int, users: int) -> Any:
    """Link many with many, twice: beyond the number of edges that are searched one by one."""
    room = twin.registry.max_nodes
    twin.registry.max_nodes = 1000
    table = twin.tables[0]
    below = [table.lookup(f"used {number}") for number in range(used)]
    above = [table.lookup(f"user {number}") for number in range(users)]
    labels = [twin.label(node) for node in (*below, *above)]
    added = [
        twin.core.link(user, node) for _ in range(2) for user in above if user._state == COMPUTING for node in below
    ]
    twin.registry.max_nodes = room
    return labels, added


def victim(twin: Twin, _: int, __: int) -> Any:
    return twin.label(twin.victim())


def heaviest_victim(twin: Twin, _: int, __: int) -> Any:
    return twin.label(twin.victim(is_heaviest=True))


def evict(twin: Twin, _: int, __: int) -> Any:
    node = twin.victim()
    if node is not None:
        twin.mark(node, "evicted")
    return twin.label(node)


CHOOSING: Final[tuple[Step, ...]] = (victim, heaviest_victim, evict)
"""Steps whose effect hangs on the order of the queues."""
