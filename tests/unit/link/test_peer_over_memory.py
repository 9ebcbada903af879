from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fusion_cluster.errors import (
    ClusterError,
    CommandOutcomeUnknown,
    DeadlineExceeded,
    HandshakeRefused,
    InvalidArgument,
    NotOwner,
    ShardUnavailable,
)
from fusion_cluster.link import Carrier, Peer
from fusion_cluster.v1.session_pb2 import Error, Result, ServerFrame
from tests.invocations import a_command, a_read
from tests.owners import Owner, RecordingHandler
from tests.waiting import until


@pytest.fixture
async def owner() -> AsyncIterator[Owner]:
    owner = Owner(read_lease_s=30.0)  # no test with it fails because the machine is busy
    yield owner
    await owner.acceptor.close()


@pytest.fixture
async def peer(owner: Owner) -> AsyncIterator[Peer]:
    peer = owner.peer()
    yield peer
    await peer.close()


def ignore(call_id: int) -> None:
    pass


async def read_answered(owner: Owner, peer: Peer, outdated: list[int], value: bytes = b"v") -> int:
    """A read that has its result; `outdated` gets its id when it is invalidated."""
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=outdated.append)
    await until(lambda: call.id in owner.handler.called_ids)
    owner.handler.answer(call.id, value)
    assert (await call).value == value
    return call.id


# -- reads ------------------------------------------------------------------------------------------------------------
async def test_a_read_gives_the_owners_result_and_later_its_invalidation_once(owner: Owner, peer: Peer) -> None:
    outdated: list[int] = []
    call_id = await read_answered(owner, peer, outdated)
    assert outdated == []
    owner.handler.session.send_invalidated(call_id)
    owner.handler.session.send_invalidated(call_id)
    await until(lambda: outdated)
    await peer.close()
    assert outdated == [call_id]


async def test_connect_waits_for_the_welcome_and_tells_the_epoch(owner: Owner, peer: Peer) -> None:
    assert not peer.is_connected
    await peer.connect(5)
    assert peer.is_connected
    assert peer.epoch == 1
    assert peer.owner_id == "owner"
    assert owner.handler.session.peer_id == "caller"


async def test_an_error_is_left_to_the_caller_to_decode(owner: Owner, peer: Peer) -> None:
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=ignore)
    await until(lambda: owner.handler.calls)
    owner.handler.session.send_error(call.id, 1, Error(type="ValueError", message="no"), subscribed=True)
    assert (await call).error.message == "no"


async def test_an_invalidation_that_comes_before_its_result_is_reported_at_once(owner: Owner, peer: Peer) -> None:
    outdated: list[int] = []
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=outdated.append)
    waiter = asyncio.ensure_future(call)
    await until(lambda: owner.handler.calls)
    owner.handler.session.send_invalidated(call.id)
    await until(lambda: outdated)
    owner.handler.answer(call.id, b"old", subscribed=False)
    assert (await waiter).value == b"old"
    assert outdated == [call.id]
    assert peer.subscription_count == 0
    assert owner.handler.session.subscription_count == 0


async def test_a_read_of_a_key_that_moved_raises_with_the_slot_map_to_look_at(owner: Owner, peer: Peer) -> None:
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=ignore)
    await until(lambda: owner.handler.calls)
    owner.handler.session.send_moved(call.id, 12)
    with pytest.raises(NotOwner) as raised:
        await call
    assert raised.value.slot_map_version == 12


async def test_arguments_that_fit_no_frame_are_refused_here(owner: Owner, peer: Peer) -> None:
    with pytest.raises(InvalidArgument, match="bytes of arguments"):
        await peer.read(a_read("Carts.total", timeout_s=5), bytes(17 * 2**20), on_invalidated=ignore)


async def test_a_value_that_fits_no_frame_is_an_error(owner: Owner, peer: Peer) -> None:
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=ignore)
    await until(lambda: owner.handler.calls)
    owner.handler.answer(call.id, bytes(17 * 2**20))
    assert "bytes" in (await call).error.message


async def test_large_values_of_one_turn_leave_in_several_frames(owner: Owner, peer: Peer) -> None:
    calls = [peer.read(a_read("Carts.total", timeout_s=30), b"\x90", on_invalidated=ignore) for _ in range(5)]
    await until(lambda: len(owner.handler.calls) == 5)
    for index, call in enumerate(calls):
        owner.handler.answer(call.id, bytes([index]) * (6 * 2**20))
    results = await asyncio.gather(*(_value(call) for call in calls))
    assert [value[:1] for value in results] == [bytes([index]) for index in range(5)]


async def _value(call: object) -> bytes:
    result: Result = await call  # type: ignore[misc]
    return result.value


# -- C.1 --------------------------------------------------------------------------------------------------------------
async def test_disconnected_before_send_is_executed_once(owner: Owner, peer: Peer) -> None:
    await peer.connect(5)
    owner.cut()
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=ignore)
    await until(lambda: owner.handler.calls)
    owner.handler.answer(call.id, b"v")
    assert (await call).value == b"v"
    assert owner.handler.called_ids == [call.id]


async def test_disconnected_in_mid_computation_is_not_executed_again(owner: Owner, peer: Peer) -> None:
    read = asyncio.ensure_future(peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=ignore))
    command = asyncio.ensure_future(peer.execute(a_command("Carts.clear", command_id="c", timeout_s=5), b"\x90"))
    await until(lambda: len(owner.handler.calls) == 2)
    owner.cut()
    await until(lambda: len(owner.carriers) == 2 and peer.is_connected)
    read_id, command_id = owner.handler.called_ids
    owner.handler.answer(read_id, b"read")
    owner.handler.answer(command_id, b"done", subscribed=False)
    assert (await read).value == b"read"
    assert (await command).value == b"done"
    assert len(owner.handler.calls) == 2
    assert len(owner.handler.sessions) == 1


async def test_a_result_that_was_ready_during_the_outage_is_delivered_and_so_is_its_invalidation(
    owner: Owner, peer: Peer
) -> None:
    outdated: list[int] = []
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=outdated.append)
    await until(lambda: owner.handler.calls)
    owner.is_reachable = False
    owner.cut()
    await until(lambda: not owner.handler.session.is_attached)
    owner.handler.answer(call.id, b"ready")
    owner.is_reachable = True
    assert (await call).value == b"ready"
    assert outdated == []
    owner.handler.session.send_invalidated(call.id)
    await until(lambda: outdated)
    assert owner.handler.called_ids == [call.id]


# -- never stale ------------------------------------------------------------------------------------------------------
async def test_every_answered_read_is_invalidated_when_its_session_is_not_resumed_in_time(
    owner: Owner, peer: Peer
) -> None:
    outdated: list[int] = []
    first = await read_answered(owner, peer, outdated)
    second = await read_answered(owner, peer, outdated)
    unsubscribed = await read_answered(owner, peer, outdated)
    peer.unsubscribe(unsubscribed)
    waiting = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=outdated.append)
    await until(lambda: waiting.id in owner.handler.called_ids)
    owner.is_reachable = False
    owner.cut()
    await until(lambda: not peer.is_connected)
    assert peer.is_in_doubt
    await until(lambda: outdated)
    assert not peer.is_in_doubt
    assert outdated == [first, second]
    owner.is_reachable = True
    await until(lambda: set(owner.handler.unsubscribed) == {first, second, unsubscribed})
    waiting_task = asyncio.ensure_future(waiting)
    await peer.close()
    with pytest.raises(ShardUnavailable):
        await waiting_task
    assert outdated == [first, second]


async def test_on_disconnected_is_called_after_the_replicas_are_in_doubt(owner: Owner, peer: Peer) -> None:
    log: list[str] = []
    peer.on_doubt = lambda peer: log.append("in doubt" if peer.is_in_doubt else "assured")
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=lambda _id: log.append("invalidated"))
    await until(lambda: owner.handler.calls)
    owner.handler.answer(call.id, b"v")
    await call
    peer.on_disconnected = lambda _peer: log.append("disconnected")
    owner.cut()
    await until(lambda: len(log) == 3)
    assert log == ["in doubt", "disconnected", "assured"]


# -- C.2, C.6 ---------------------------------------------------------------------------------------------------------
async def test_a_reconnect_keeps_the_replicas_and_nothing_is_asked_for_again(owner: Owner, peer: Peer) -> None:
    outdated: list[int] = []
    first = await read_answered(owner, peer, outdated)
    second = await read_answered(owner, peer, outdated)
    for _ in range(3):
        owner.cut()
        await until(lambda: not peer.is_connected)
        await until(lambda: peer.is_connected and not peer.is_in_doubt)
    assert owner.dial_count == 4
    assert outdated == []
    assert owner.handler.called_ids == [first, second]
    assert owner.handler.session.subscription_count == 2
    owner.handler.session.send_invalidated(second)
    await until(lambda: outdated)
    assert outdated == [second]


@pytest.mark.parametrize("is_lost", [False, True])
async def test_what_was_invalidated_during_an_outage_is_invalid_on_resume_and_nothing_else_is_sent(
    owner: Owner, peer: Peer, is_lost: bool
) -> None:
    outdated: list[int] = []
    reads = [await read_answered(owner, peer, outdated) for _ in range(4)]
    if is_lost:  # the invalidation leaves, and is lost with the carrier
        owner.carriers[-1].other.hold()
        owner.handler.session.send_invalidated(reads[1])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        owner.cut()
    else:
        owner.cut()
        owner.handler.session.send_invalidated(reads[1])
    await until(lambda: owner.dial_count == 2 and peer.is_connected and not peer.is_in_doubt)
    assert outdated == [reads[1]]
    assert owner.handler.called_ids == reads
    assert owner.handler.session.subscription_count == peer.subscription_count == 3


async def test_a_dropped_invalidation_is_repaired_within_a_ping_period() -> None:
    owner = Owner(read_lease_s=1.0)
    peer = owner.peer()
    outdated: list[int] = []
    reads = [await read_answered(owner, peer, outdated) for _ in range(3)]
    carrier = owner.carriers[-1]
    on_frame = carrier.on_frame
    dropped: list[bytes] = []

    def drop(frame: bytes) -> None:
        if ServerFrame.FromString(frame).invalidated and not dropped:
            dropped.append(frame)
        else:
            on_frame(frame)

    carrier.on_frame = drop
    owner.handler.session.send_invalidated(reads[1])
    await until(lambda: outdated)
    assert dropped
    assert outdated == [reads[1]]
    assert owner.handler.session.subscription_count == peer.subscription_count == 2
    await peer.close()
    await owner.acceptor.close()


async def test_every_replica_is_invalid_when_the_peer_is_back_with_another_epoch(owner: Owner, peer: Peer) -> None:
    lost: list[Peer] = []
    peer.on_lost = lost.append
    outdated: list[int] = []
    answered = await read_answered(owner, peer, outdated)
    waiting = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=outdated.append)
    waiting_task = asyncio.ensure_future(waiting)
    command = asyncio.ensure_future(peer.execute(a_command("Carts.clear", command_id="c", timeout_s=5), b"\x90"))
    await until(lambda: len(owner.handler.calls) == 3)
    await owner.restart(RecordingHandler(epoch=2))
    await until(lambda: owner.handler.calls)
    assert outdated == [answered]
    with pytest.raises(CommandOutcomeUnknown):
        await command
    assert peer.epoch == 2
    assert lost == [peer]
    assert owner.handler.called_ids == [waiting.id]
    owner.handler.answer(waiting.id, b"anew")
    assert (await waiting_task).value == b"anew"
    assert outdated == [answered]


async def test_nothing_heard_for_a_read_lease_invalidates_every_answered_read(peer: Peer) -> None:
    owner = Owner(read_lease_s=0.2)
    silent = owner.peer()
    outdated: list[int] = []
    call_id = await read_answered(owner, silent, outdated)
    owner.carriers[-1].hold()
    owner.is_reachable = False
    await until(lambda: outdated == [call_id])
    await silent.close()
    await owner.acceptor.close()


async def test_a_stopped_peer_is_noticed_and_calls_fail_with_shard_unavailable_at_their_deadline() -> None:
    owner = Owner(read_lease_s=0.2)
    peer = owner.peer()
    await peer.connect(5)
    owner.carriers[-1].hold()
    owner.carriers[-1].other.hold()
    owner.is_reachable = False
    with pytest.raises(ShardUnavailable):
        await peer.read(a_read("Carts.total", timeout_s=0.5), b"\x90", on_invalidated=ignore)
    assert not peer.is_connected
    await peer.close()
    await owner.acceptor.close()


async def test_pings_keep_an_idle_link_and_its_replicas(peer: Peer) -> None:
    owner = Owner(read_lease_s=0.2)
    idle = owner.peer()
    outdated: list[int] = []
    await read_answered(owner, idle, outdated)
    started_s = asyncio.get_running_loop().time()
    await until(lambda: asyncio.get_running_loop().time() - started_s > 0.7)
    assert outdated == []
    assert owner.dial_count == 1
    assert owner.handler.session.heard_s_ago < 0.2
    await idle.close()
    await owner.acceptor.close()


# -- C.10 -------------------------------------------------------------------------------------------------------------
async def test_a_callers_cancellation_reaches_the_owner(owner: Owner, peer: Peer) -> None:
    outdated: list[int] = []
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=outdated.append)
    waiter = asyncio.ensure_future(call)
    await until(lambda: owner.handler.calls)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await until(lambda: owner.handler.cancelled == [call.id])
    owner.handler.answer(call.id, b"late")
    assert owner.handler.session.in_flight_count == 0
    assert owner.handler.session.subscription_count == 0
    await peer.close()
    assert outdated == []


async def test_unsubscribing_leaves_no_subscription_behind(owner: Owner, peer: Peer) -> None:
    outdated: list[int] = []
    call_id = await read_answered(owner, peer, outdated)
    assert owner.handler.session.subscription_count == 1
    peer.unsubscribe(call_id)
    await until(lambda: owner.handler.unsubscribed == [call_id])
    assert owner.handler.session.subscription_count == 0
    owner.handler.session.send_invalidated(call_id)
    owner.cut()
    await until(lambda: len(owner.carriers) == 2)
    assert outdated == []


async def test_unsubscribing_inside_the_invalidation_callback_is_harmless(owner: Owner, peer: Peer) -> None:
    outdated: list[int] = []

    def on_invalidated(call_id: int) -> None:
        peer.unsubscribe(call_id)
        outdated.append(call_id)

    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=on_invalidated)
    await until(lambda: owner.handler.calls)
    owner.handler.answer(call.id, b"v")
    await call
    owner.handler.session.send_invalidated(call.id)
    await until(lambda: outdated)
    owner.cut()
    await until(lambda: len(owner.carriers) == 2 and peer.is_connected)
    assert outdated == [call.id]


async def test_a_command_that_is_cancelled_is_cancelled_at_the_owner(owner: Owner, peer: Peer) -> None:
    command = asyncio.ensure_future(peer.execute(a_command("Carts.clear", command_id="c", timeout_s=5), b"\x90"))
    await until(lambda: owner.handler.calls)
    command.cancel()
    await until(lambda: owner.handler.cancelled == owner.handler.called_ids)


# -- deadlines --------------------------------------------------------------------------------------------------------
async def test_no_result_before_the_deadline(owner: Owner, peer: Peer) -> None:
    await peer.connect(5)
    call = peer.read(a_read("Carts.total", timeout_s=0.1), b"\x90", on_invalidated=ignore)
    with pytest.raises(DeadlineExceeded):
        await call
    await until(lambda: owner.handler.cancelled == [call.id])
    assert 0 < owner.handler.calls[0].timeout_ms <= 100


async def test_no_owner_before_the_deadline(owner: Owner, peer: Peer) -> None:
    owner.is_reachable = False
    with pytest.raises(ShardUnavailable):
        await peer.read(a_read("Carts.total", timeout_s=0.1), b"\x90", on_invalidated=ignore)
    with pytest.raises(ShardUnavailable):
        await peer.execute(a_command("Carts.clear", command_id="c", timeout_s=0.1), b"\x90")
    with pytest.raises(ShardUnavailable):
        await peer.connect(0.05)


async def test_a_command_that_was_out_when_the_link_was_closed_has_an_unknown_outcome(owner: Owner, peer: Peer) -> None:
    command = asyncio.ensure_future(peer.execute(a_command("Carts.clear", command_id="c", timeout_s=5), b"\x90"))
    await until(lambda: owner.handler.calls)
    await peer.close()
    with pytest.raises(CommandOutcomeUnknown):
        await command


async def test_a_closed_peer_fails_at_once(owner: Owner, peer: Peer) -> None:
    await peer.connect(5)
    await peer.close()
    with pytest.raises(ShardUnavailable):
        await peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=ignore)
    with pytest.raises(ShardUnavailable):
        await peer.invalidate([("Carts.total", b"\x90")])
    with pytest.raises(ShardUnavailable):
        await peer.connect(5)


# -- invalidation requests and barriers -------------------------------------------------------------------------------
async def test_an_invalidation_request_is_answered(owner: Owner, peer: Peer) -> None:
    done = peer.invalidate([("Carts.total", b"\x90"), ("Carts.items", b"\x91\x01")], barrier=5)
    await until(lambda: owner.handler.requests)
    request = owner.handler.requests[0]
    assert [(key.method, key.arguments) for key in request.keys] == [
        ("Carts.total", b"\x90"),
        ("Carts.items", b"\x91\x01"),
    ]
    assert request.barrier == 5
    assert not done.done()
    owner.handler.answer(request.id, b"", subscribed=False)
    await done
    await until(lambda: owner.handler.session.in_flight_count == 0)


async def test_a_barrier_comes_after_the_invalidations_before_it_and_is_settled() -> None:
    owner = Owner()
    log: list[str] = []
    peer = owner.peer(on_barrier=lambda _peer, barrier: log.append(f"barrier {barrier}"))
    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=lambda _id: log.append("invalidated"))
    await until(lambda: owner.handler.calls)
    owner.handler.answer(call.id, b"v")
    await call
    owner.handler.session.send_invalidated(call.id)
    owner.handler.session.send_barrier(9)
    await until(lambda: len(log) == 2)
    assert log == ["invalidated", "barrier 9"]
    assert owner.handler.settled == []
    peer.settle(9)
    await until(lambda: owner.handler.settled == [9])
    await peer.close()
    await owner.acceptor.close()


async def test_a_dropped_session_starts_anew(owner: Owner, peer: Peer) -> None:
    lost: list[Peer] = []
    peer.on_lost = lost.append
    outdated: list[int] = []
    call_id = await read_answered(owner, peer, outdated)
    session = owner.handler.session
    session.drop()
    assert owner.handler.lost == [session]
    assert session.is_lost
    await until(lambda: len(owner.handler.sessions) == 2)
    await until(lambda: outdated == [call_id])
    await until(lambda: lost == [peer])
    assert owner.acceptor.sessions == [owner.handler.session]


async def test_a_caller_that_leaves_in_good_order_ends_its_session_at_once(owner: Owner) -> None:
    peer = owner.peer()
    await peer.connect(5)
    session = owner.handler.session
    await peer.close()
    await until(lambda: session.is_lost)


async def test_a_detached_session_says_so_and_is_lost_after_a_while(owner: Owner) -> None:
    peer = owner.peer()
    await peer.connect(5)
    session = owner.handler.session
    assert session.is_attached
    await peer.close(leave=False)
    await until(lambda: not session.is_attached)
    assert not session.is_lost
    assert owner.acceptor.sessions == [session]


# -- robustness -------------------------------------------------------------------------------------------------------
async def test_a_callback_that_raises_stops_no_other(
    owner: Owner, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    outdated: list[int] = []

    def raising(call_id: int) -> None:
        raise RuntimeError("a bug of the user")

    call = peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=raising)
    await until(lambda: owner.handler.calls)
    owner.handler.answer(call.id, b"v")
    await call
    second = await read_answered(owner, peer, outdated)
    owner.handler.session.send_invalidated(call.id)
    owner.handler.session.send_invalidated(second)
    await until(lambda: outdated == [second])
    assert peer.is_connected
    assert "a bug of the user" in caplog.text


async def test_a_handler_that_raises_ends_its_session_alone(
    owner: Owner, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    other = owner.peer()
    await other.connect(5)
    await peer.connect(5)
    first, second = owner.handler.sessions

    def raising(session: object, calls: object) -> None:
        raise RuntimeError("a bug of ours")

    owner.handler.on_calls = raising  # type: ignore[method-assign]
    call = asyncio.ensure_future(peer.read(a_read("Carts.total", timeout_s=0.2), b"\x90", on_invalidated=ignore))
    await until(lambda: second.is_lost)
    with pytest.raises(ClusterError):
        await call
    assert not first.is_lost
    assert other.is_connected
    assert "a bug of ours" in caplog.text
    await other.close()


async def test_a_closing_owner_lets_its_callers_go_elsewhere(owner: Owner, peer: Peer) -> None:
    await peer.connect(5)
    call = asyncio.ensure_future(peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=ignore))
    await until(lambda: owner.handler.calls)
    await owner.restart(RecordingHandler(epoch=1, echoes=True))
    assert (await call).value == b"\x90"


async def test_a_wrong_secret_ends_the_dialling_with_handshake_refused(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = owner.peer(secret=b"wrong")
    with pytest.raises(HandshakeRefused):
        await stranger.connect(5)
    with pytest.raises(HandshakeRefused):
        await stranger.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=ignore)
    assert owner.dial_count == 1
    assert owner.handler.sessions == []
    await stranger.close()


async def test_an_owner_that_does_not_know_the_secret_is_refused_too(caplog: pytest.LogCaptureFixture) -> None:
    owner = Owner(secret=None)
    peer = owner.peer(secret=b"secret")
    with pytest.raises(HandshakeRefused, match="did not prove"):
        await peer.connect(5)
    assert owner.dial_count == 1
    await peer.close()
    await owner.acceptor.close()


async def test_a_name_that_is_no_text_is_refused_here(owner: Owner, peer: Peer) -> None:
    with pytest.raises(InvalidArgument, match="command_id"):
        await peer.execute(a_command("Carts.clear", command_id="\ud800", timeout_s=5), b"\x90")
    with pytest.raises(InvalidArgument, match="method"):
        await peer.read(a_read("Carts.\udfff", timeout_s=5), b"\x90", on_invalidated=ignore)
    bad = a_read("Carts.total", timeout_s=5).replace(baggage={"tenant": "\ud800"})
    with pytest.raises(InvalidArgument, match="baggage"):
        await peer.read(bad, b"\x90", on_invalidated=ignore)
    assert peer.pending_count == 0


async def test_a_deadline_in_the_far_future_is_no_deadline_that_cannot_be_told(owner: Owner, peer: Peer) -> None:
    call = peer.read(a_read("Carts.total", timeout_s=1e9), b"\x90", on_invalidated=ignore)
    await until(lambda: owner.handler.calls)
    assert owner.handler.calls[0].timeout_ms == 2**32 - 1
    owner.handler.answer(call.id, b"v")
    await call


async def test_a_dial_that_is_refused_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    dialled = 0

    async def dial() -> Carrier:
        nonlocal dialled
        dialled += 1
        raise HandshakeRefused("no credentials")

    peer = Peer(dial, peer_id="caller")
    with pytest.raises(HandshakeRefused, match="no credentials"):
        await peer.connect(5)
    with pytest.raises(HandshakeRefused):
        await peer.read(a_read("Carts.total", timeout_s=5), b"\x90", on_invalidated=ignore)
    assert dialled == 1
    await peer.close()
