"""Faults planted into the production code: the simulator has to find each of them.

Each is a context manager. In its block the code has the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from fusion_cluster.link.peer import Peer
from fusion_cluster.protocol.caller_calls import CallerCalls
from fusion_cluster.protocol.coordination import Coordination
from fusion_cluster.protocol.lease import ReadLease
from fusion_router.barrier import Barriers
from fusion_router.links import Links
from fusion_router.publications import Publications
from fusion_router.simulation.counters import Store
from fusion_router.simulation.world import World
from fusion_router.subscriptions import Subscription

Planted = Callable[[], AbstractContextManager[None]]


@contextmanager
def replaced(owner: type, name: str, by: Callable[..., Any]) -> Iterator[None]:
    """Put a function in the place of a method."""
    original = getattr(owner, name)
    setattr(owner, name, by(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def skip_the_fence() -> AbstractContextManager[None]:
    """A member does not look at its read leases before it serves; only the timer ends them."""
    return replaced(Links, "expire", lambda _: lambda self, now_s: None)


def leases_that_last_too_long() -> AbstractContextManager[None]:
    """A subscriber serves for three read leases."""
    return replaced(ReadLease, "begin", lambda begin: lambda self, length_s: begin(self, 3 * length_s))


def acknowledge_a_barrier_early() -> AbstractContextManager[None]:
    """A member confirms a barrier for its own subscribers before they have."""

    def early(_: Any) -> Any:
        return lambda self, barrier, answer: answer(True)

    return replaced(Barriers, "reached", early)


def forget_the_barrier() -> AbstractContextManager[None]:
    """A command returns when the owners are told, whatever their subscribers serve."""

    def without(publish: Any) -> Any:
        return lambda self, keys, barrier, operation_id="": publish(self, keys, False, operation_id)

    return replaced(Publications, "publish", without)


def forget_a_subscriber() -> AbstractContextManager[None]:
    """An owner does not tell every third subscriber that a value is out of date."""

    def forgetful(tell: Any) -> Any:
        def on_invalidated(self: Subscription, node: Any) -> None:
            if self.id % 3:
                tell(self, node)
            else:
                self.subscriber.subscriptions.pop(self.id, None)

        return on_invalidated

    return replaced(Subscription, "_on_invalidated", forgetful)


def successor_that_does_not_wait() -> AbstractContextManager[None]:
    """A restarted shard does not wait for the replicas that its predecessor fed."""

    def hasty(init: Any) -> Any:
        def __init__(self: Barriers, **options: Any) -> None:  # noqa: N807 - takes the place of one
            init(self, **{**options, "succeeds": False})

        return __init__

    return replaced(Barriers, "__init__", hasty)


def keep_the_replicas_of_a_lost_link() -> AbstractContextManager[None]:
    """A member keeps what it has read over a link that was lost."""
    return replaced(
        Peer, "_on_outdated", lambda on: lambda self, event: None if self._carrier is None else on(self, event)
    )


def give_no_subscription_up() -> AbstractContextManager[None]:
    """A member does not tell owners that its replicas are gone."""
    return replaced(CallerCalls, "unsubscribe", lambda _: lambda self, call_id: None)


def change_twice() -> AbstractContextManager[None]:
    """Each fifth change takes effect twice."""

    def twice(add: Any) -> Any:
        def changes(self: Store, counter: int, number: str) -> int:
            value: int = add(self, counter, number)
            return add(self, counter, number) if int(number) % 5 == 4 else value

        return changes

    return replaced(Store, "add", twice)


def crash_with_a_living_twin() -> AbstractContextManager[None]:
    """The coordinator is told of a death that was none: two members own the same slots."""

    def only_told(_: Any) -> Any:
        def crash(self: World, name: str) -> bool:
            place = self.places[name]
            self.loop.call_on(self._coordinator, self.loop.now_s + 0.01, self._on_death, place)
            self.places[f"{name} (taken for dead)"] = place
            return True

        return crash

    return replaced(World, "crash", only_told)


def versions_that_begin_anew() -> AbstractContextManager[None]:
    """A coordinator's successor counts its maps from 1 on, as if there had been none."""

    def forgetful(init: Any) -> Any:
        def __init__(self: Coordination, **options: Any) -> None:  # noqa: N807 - takes the place of one
            init(self, **{**options, "first_version": 1})

        return __init__

    return replaced(Coordination, "__init__", forgetful)


ALL: Final[tuple[Planted, ...]] = (
    skip_the_fence,
    leases_that_last_too_long,
    acknowledge_a_barrier_early,
    forget_the_barrier,
    forget_a_subscriber,
    successor_that_does_not_wait,
    keep_the_replicas_of_a_lost_link,
    give_no_subscription_up,
    change_twice,
    crash_with_a_living_twin,
    versions_that_begin_anew,
)
