from __future__ import annotations

import asyncio

import pytest

from fusion_cluster.link import AcceptorLimits, MemoryCarrier, Peer, SessionAcceptor, memory_pair
from fusion_cluster.protocol.handshake import hello_frame, hello_proof
from fusion_cluster.protocol.limits import PROTOCOL_VERSION, SessionLimits
from fusion_cluster.v1.session_pb2 import Call, ClientFrame, Hello, Result, ServerFrame
from tests.invocations import a_read
from tests.owners import Owner, RecordingHandler
from tests.waiting import until


class RawCaller:
    """A carrier to an acceptor, spoken to frame by frame."""

    def __init__(self, acceptor: SessionAcceptor) -> None:
        self.carrier, theirs = memory_pair()
        self.frames: list[ServerFrame] = []
        self.is_closed = False
        self.carrier.start(on_frame=self._on_frame, on_closed=self._on_closed)
        acceptor.accept(theirs)

    async def frame(self, index: int) -> ServerFrame:
        await until(lambda: len(self.frames) > index)
        return self.frames[index]

    async def hello(self, *, secret: bytes | None = b"secret", token: bytes = b"", peer_id: str = "caller") -> bytes:
        challenge = (await self.frame(0)).challenge
        frame = hello_frame(
            peer_id=peer_id,
            secret=secret,
            challenge=challenge,
            nonce=b"n" * 16,
            resume_token=token,
            slot_map_version=0,
        )
        self.carrier.send(frame)
        return frame

    def _on_frame(self, frame: bytes) -> None:
        self.frames.append(ServerFrame.FromString(frame))

    def _on_closed(self, error: Exception | None) -> None:
        self.is_closed = True


async def dial_in_memory(acceptor: SessionAcceptor) -> MemoryCarrier:
    ours, theirs = memory_pair()
    acceptor.accept(theirs)
    return ours


def ignore(call_id: int) -> None:
    pass


# -- C.8 --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["replayed", "forged", "wrong secret", "no secret", "another version", "of nobody"])
async def test_a_bad_hello_is_refused_and_does_not_disturb_the_session_in_place(kind: str) -> None:
    owner = Owner(RecordingHandler(echoes=True))
    peer = owner.peer()
    await peer.connect(5)
    outdated: list[int] = []
    call = peer.read(a_read("Carts.total", timeout_s=5), b"v", on_invalidated=outdated.append)
    await call
    session = owner.handler.session
    honest = RawCaller(owner.acceptor)
    overheard = await honest.hello(token=session.resume_token)
    # The honest one resumes the session in place of the peer's first carrier, and loses it to the peer's next one.
    await until(lambda: owner.dial_count == 2 and peer.is_connected)
    await until(lambda: not peer.is_in_doubt)
    assert outdated == []
    await peer.read(a_read("Carts.total", timeout_s=5), b"v", on_invalidated=outdated.append)

    attacker = RawCaller(owner.acceptor)
    challenge = (await attacker.frame(0)).challenge
    hello = Hello(
        protocol_version=PROTOCOL_VERSION, peer_id="caller", nonce=b"n" * 16, resume_token=session.resume_token
    )
    if kind == "replayed":
        attacker.carrier.send(overheard)
    elif kind == "wrong secret":
        await attacker.hello(secret=b"wrong", token=session.resume_token)
    else:
        if kind == "forged":
            hello.proof = hello_proof(b"secret", b"o" * 16, hello.nonce, "caller")
        elif kind == "another version":
            hello.protocol_version = 99
            hello.proof = hello_proof(b"secret", challenge.nonce, hello.nonce, "caller")
        elif kind == "of nobody":
            hello.peer_id = ""
            hello.proof = hello_proof(b"secret", challenge.nonce, hello.nonce, "")
        attacker.carrier.send(ClientFrame(hello=hello).SerializeToString())
    answer = await attacker.frame(1)
    assert answer.go_away.error.code
    assert not answer.HasField("welcome")
    await until(lambda: attacker.is_closed)

    assert session.is_attached
    assert not session.is_lost
    assert owner.dial_count == 2
    assert outdated == []
    assert (await peer.read(a_read("Carts.total", timeout_s=5), b"w", on_invalidated=ignore)).value == b"w"
    await peer.close()
    await owner.acceptor.close()


async def test_a_token_of_another_peer_opens_a_new_session() -> None:
    owner = Owner()
    peer = owner.peer()
    await peer.connect(5)
    session = owner.handler.session
    other = RawCaller(owner.acceptor)
    await other.hello(token=session.resume_token, peer_id="another")
    welcome = (await other.frame(1)).welcome
    assert not welcome.resumed
    assert welcome.resume_token != session.resume_token
    assert session.is_attached
    assert peer.is_connected
    await peer.close()
    await owner.acceptor.close()


async def test_a_resumed_session_leaves_its_old_carrier_for_the_new_one() -> None:
    owner = Owner()
    first = RawCaller(owner.acceptor)
    await first.hello()
    token = (await first.frame(1)).welcome.resume_token
    second = RawCaller(owner.acceptor)
    await second.hello(token=token)
    assert (await second.frame(1)).welcome.resumed
    await until(lambda: first.is_closed)
    assert len(owner.handler.sessions) == 1
    assert owner.handler.session.is_attached
    await owner.acceptor.close()


# -- C.9 --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\xff\xff", id="no frame"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xa2\x06\x01x", id="of unknown kind"),
        pytest.param(ClientFrame(hello=Hello(peer_id="x")).SerializeToString(), id="a second Hello"),
        pytest.param(ClientFrame(calls=[Call(method="A.b")]).SerializeToString(), id="a call without an id"),
        pytest.param(b"\x12\x04\x08\x01\x10\x09", id="a call of unknown kind"),
    ],
)
async def test_a_frame_that_is_not_allowed_closes_the_link_with_a_protocol_error(frame: bytes) -> None:
    owner = Owner()
    caller = RawCaller(owner.acceptor)
    await caller.hello()
    await caller.frame(1)
    caller.carrier.send(frame)
    assert (await caller.frame(2)).go_away.error.type == "RemoteProtocolError"
    await until(lambda: caller.is_closed)
    assert owner.handler.session.is_lost
    assert owner.handler.lost == owner.handler.sessions
    await owner.acceptor.close()


async def test_calls_before_the_hello_are_a_protocol_error() -> None:
    owner = Owner()
    caller = RawCaller(owner.acceptor)
    caller.carrier.send(ClientFrame(calls=[Call(id=1, method="A.b")]).SerializeToString())
    assert (await caller.frame(1)).go_away.error.type == "RemoteProtocolError"
    assert owner.handler.sessions == []
    await owner.acceptor.close()


# -- bounds -----------------------------------------------------------------------------------------------------------
async def test_calls_beyond_the_limit_are_answered_overloaded_at_once() -> None:
    handler = RecordingHandler()
    limits = AcceptorLimits(session=SessionLimits(max_calls=2, max_subscriptions=2, retry_after_ms=250))
    acceptor = SessionAcceptor(handler, peer_id="owner", limits=limits)
    peer = Peer(lambda: dial_in_memory(acceptor), peer_id="caller")
    outdated: list[int] = []

    async def read() -> Result:
        return await peer.read(a_read("A.b", timeout_s=5), b"", on_invalidated=outdated.append)

    waiters = [asyncio.ensure_future(read()) for _ in range(3)]
    done, pending = await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    (refused,) = done
    error = refused.result().error
    assert error.type == "Overloaded"
    assert error.transient
    assert error.retry_after_ms == 250
    assert len(outdated) == 1
    assert len(handler.calls) == 2
    for call in handler.calls:
        handler.answer(call.id, b"")
    await asyncio.wait(pending, timeout=5)
    await peer.close()
    await acceptor.close()


async def test_subscriptions_beyond_the_limit_are_answered_overloaded() -> None:
    handler = RecordingHandler(echoes=True)
    limits = AcceptorLimits(session=SessionLimits(max_calls=1, max_subscriptions=2))
    acceptor = SessionAcceptor(handler, peer_id="owner", limits=limits)
    peer = Peer(lambda: dial_in_memory(acceptor), peer_id="caller")
    errors = []
    for _ in range(5):
        result = await peer.read(a_read("A.b", timeout_s=5), b"", on_invalidated=ignore)
        errors.append(result.error.type)
    assert errors == ["", "", "", "Overloaded", "Overloaded"]
    await peer.close()
    await acceptor.close()


async def test_sessions_beyond_the_limit_are_told_to_try_later() -> None:
    acceptor = SessionAcceptor(RecordingHandler(), peer_id="owner", limits=AcceptorLimits(max_sessions=1))
    first, second = (RawCaller(acceptor) for _ in range(2))
    await first.hello(secret=None)
    await first.frame(1)
    await second.hello(secret=None)
    error = (await second.frame(1)).go_away.error
    assert error.type == "Overloaded"
    assert error.transient
    await acceptor.close()


async def test_detached_sessions_are_bounded_in_number_and_time() -> None:
    handler = RecordingHandler()
    acceptor = SessionAcceptor(handler, peer_id="owner", limits=AcceptorLimits(max_detached=2, detached_s=0.1))
    callers = [RawCaller(acceptor) for _ in range(4)]
    for caller in callers:
        await caller.hello(secret=None)
        await caller.frame(1)
    for caller in callers[:3]:
        caller.carrier.cut()
    await until(lambda: len(handler.lost) >= 1)
    assert handler.lost[0] is handler.sessions[0]
    await until(lambda: len(handler.lost) == 3)
    assert acceptor.sessions == [handler.sessions[3]]
    await acceptor.close()


async def test_a_carrier_of_a_caller_that_is_silent_for_two_leases_is_closed() -> None:
    handler = RecordingHandler()
    acceptor = SessionAcceptor(handler, peer_id="owner", read_lease_s=0.1)
    caller = RawCaller(acceptor)
    await caller.hello(secret=None)
    await until(lambda: caller.is_closed)
    assert not handler.session.is_attached
    assert not handler.session.is_lost
    await acceptor.close()


async def test_a_closed_acceptor_takes_no_carriers() -> None:
    acceptor = SessionAcceptor(RecordingHandler(), peer_id="owner")
    await acceptor.close()
    caller = RawCaller(acceptor)
    await until(lambda: caller.is_closed)
