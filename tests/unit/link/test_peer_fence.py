"""What was read over a link and may be served no longer is reported at once, also when a reader is before the timer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from fusion_cluster import runtime
from fusion_cluster.commands import Invocation
from fusion_cluster.link import Peer
from fusion_cluster.runtime import Runtime
from fusion_cluster.v1.session_pb2 import ServerFrame
from tests.owners import Owner
from tests.rented_replicas import Clock
from tests.waiting import until

READ_LEASE_S = 3.0


@pytest.fixture
async def owner() -> AsyncIterator[Owner]:
    owner = Owner(read_lease_s=READ_LEASE_S)
    yield owner
    await owner.acceptor.close()


class Caller:
    """A peer whose clock stands still, with what it was told."""

    def __init__(self, owner: Owner) -> None:
        self.clock = Clock()
        self.owner = owner
        self.peer = Peer(owner.dial, peer_id="caller", secret=b"secret", runtime=Runtime(runtime.Clock(self.clock)))
        self.fences_s: list[float] = []
        self.peer.on_fence = self.fences_s.append
        self.outdated: list[int] = []

    async def read(self) -> int:
        """A read that has its result."""
        invocation = Invocation("Carts.total", deadline_s=self.clock.now_s + 5)
        call = self.peer.read(invocation, b"\x90", on_invalidated=self.on_invalidated)
        await until(lambda: call.id in self.owner.handler.called_ids)
        self.owner.handler.answer(call.id, b"v")
        await call
        return call.id

    def on_invalidated(self, call_id: int) -> None:
        self.outdated.append(call_id)

    def expire(self) -> None:
        self.peer.expire(self.clock.now_s)


@pytest.fixture
async def caller(owner: Owner) -> AsyncIterator[Caller]:
    caller = Caller(owner)
    yield caller
    await caller.peer.close()


async def test_the_fence_is_told_when_the_first_read_leaves_and_not_for_those_that_follow(caller: Caller) -> None:
    await caller.peer.connect()
    assert caller.fences_s == []
    assert caller.peer.fence_s == math.inf
    await caller.read()
    await caller.read()
    assert caller.fences_s == [caller.peer.fence_s] == [caller.peer.lease_until_s]


async def test_what_has_expired_is_reported_before_expire_returns_and_the_owner_hears_of_it(caller: Caller) -> None:
    first, second = await caller.read(), await caller.read()
    caller.clock.now_s += READ_LEASE_S
    caller.expire()
    assert caller.outdated == [first, second]
    assert caller.peer.fence_s == math.inf
    await until(lambda: caller.owner.handler.unsubscribed == [first, second])


async def test_nothing_is_reported_while_the_lease_runs(caller: Caller) -> None:
    await caller.read()
    caller.clock.now_s += READ_LEASE_S / 2
    caller.expire()
    assert caller.outdated == []
    assert caller.peer.fence_s == caller.peer.lease_until_s


async def test_the_fence_is_told_again_after_everything_has_expired_and_something_is_read(caller: Caller) -> None:
    await caller.read()
    caller.clock.now_s += READ_LEASE_S
    caller.expire()
    await until(lambda: caller.peer.lease_until_s > caller.clock.now_s)
    await caller.read()
    assert caller.fences_s[1:] == [caller.peer.lease_until_s]


async def test_a_shorter_lease_of_the_next_connection_is_told(caller: Caller) -> None:
    await caller.read()
    caller.owner._read_lease_s = READ_LEASE_S / 3
    await caller.owner.restart(caller.owner.handler)
    await until(lambda: caller.owner.dial_count == 2 and caller.peer.is_connected)
    await caller.read()
    assert caller.peer.fence_s == caller.peer.lease_until_s < caller.fences_s[0]
    assert caller.fences_s[-1] <= caller.peer.fence_s


@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_report_in_the_midst_of_others_is_followed_by_them_if_need_be(caller: Caller, is_cut: bool) -> None:
    seen: list[int] = []

    def stop_and_serve(call_id: int) -> None:
        """The process is stopped here for longer than the lease; what it serves next must not be old."""
        caller.outdated.append(call_id)
        if len(caller.outdated) == 1:
            caller.clock.now_s += READ_LEASE_S
            caller.expire()
            seen.extend(caller.outdated)

    caller.on_invalidated = stop_and_serve  # type: ignore[method-assign]
    reads = [await caller.read() for _ in range(4)]
    for call_id in reads:
        caller.owner.handler.session.send_invalidated(call_id)
    if is_cut:
        caller.owner.cut()
    await until(lambda: seen)
    assert seen == reads
    await until(lambda: caller.peer.subscription_count == 0)
    assert caller.outdated == reads


def test_a_peer_whose_loop_is_closed_still_reports_what_has_expired() -> None:
    async def serve() -> Caller:
        owner = Owner()
        caller = Caller(owner)
        await caller.read()
        return caller

    with asyncio.Runner() as runner:
        caller = runner.run(serve())
    caller.clock.now_s += READ_LEASE_S
    caller.expire()
    assert caller.outdated == [1]


async def test_what_is_invalidated_before_sending_leaves_in_the_frame_that_is_sent(caller: Caller) -> None:
    """Else a pong, say, would let the caller serve on what the owner's end may not serve itself."""
    first = await caller.read()
    carrier = caller.owner.carriers[-1]
    frames: list[ServerFrame] = []
    on_frame = carrier.on_frame

    def note(frame: bytes) -> None:
        frames.append(ServerFrame.FromString(frame))
        on_frame(frame)

    carrier.on_frame = note
    session = caller.owner.handler.session
    session.before_sending = lambda: session.send_invalidated(first)
    second = await caller.read()
    assert [result.id for result in frames[0].results] == [second]
    assert list(frames[0].invalidated) == [first]
    assert caller.outdated == [first]
