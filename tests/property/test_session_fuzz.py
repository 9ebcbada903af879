"""C.9: whatever a peer sends, a session raises a protocol error or goes on; no other exception, at either end."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from fusion_cluster.errors import HandshakeRefused, RemoteProtocolError
from fusion_cluster.protocol import FrameReader, OwnerHandshake, with_length
from fusion_cluster.protocol.states import CallerLink
from fusion_cluster.v1.session_pb2 import (
    Call,
    Challenge,
    ClientFrame,
    Error,
    GoAway,
    Hello,
    Invalidate,
    KeyReference,
    Moved,
    Ping,
    Pong,
    Probe,
    Result,
    ServerFrame,
    Welcome,
)
from tests.session_pair import SessionPair, command_call, invalidation_call, read_call

M = TypeVar("M", bound=Message)

# Few enough ids that frames hit the calls that exist.
ids = st.integers(min_value=0, max_value=8) | st.integers(min_value=0, max_value=2**64 - 1)
small = st.integers(min_value=0, max_value=2**32 - 1)
nonces = st.sampled_from([b"", b"n" * 15, b"c" * 16, b"token 1".ljust(16)])
texts = st.sampled_from(["", "Carts.total", "x" * 100])
barriers = st.integers(min_value=0, max_value=3)

hellos = st.builds(
    Hello,
    protocol_version=st.integers(min_value=0, max_value=2),
    peer_id=texts,
    nonce=nonces,
    proof=nonces,
    resume_token=nonces,
)
calls = st.builds(
    Call,
    id=ids,
    kind=st.sampled_from([0, 1]) | st.integers(min_value=-(2**31), max_value=2**31 - 1),
    method=texts,
    arguments=st.binary(max_size=20),
    timeout_ms=small,
    baggage=st.dictionaries(texts, texts, max_size=2),
)
requests = st.builds(
    Invalidate, id=ids, keys=st.lists(st.builds(KeyReference, method=texts), max_size=2), barrier=barriers
)
hops = st.builds(Probe.Hop, wait=ids, keys=st.lists(texts, max_size=2))
probes = st.builds(Probe, id=ids, number=ids, hops=st.lists(hops, max_size=4), confirmed=small | st.integers(0, 9))
client_frames = st.builds(
    ClientFrame,
    hello=st.none() | st.none() | hellos,
    calls=st.lists(calls, max_size=4),
    cancelled=st.lists(ids, max_size=3),
    unsubscribed=st.lists(ids, max_size=3),
    received=st.lists(ids, max_size=3),
    invalidations=st.lists(requests, max_size=3),
    settled_barriers=st.lists(barriers, max_size=3),
    joined_barriers=st.lists(barriers, max_size=2),
    leaving=st.booleans(),
    ping=st.none() | st.builds(Ping, sequence=ids),
    probes=st.lists(probes, max_size=3),
)
errors = st.builds(Error, code=st.integers(min_value=-5, max_value=50), type=texts, transient=st.booleans())
results = st.builds(Result, id=ids, version=ids, value=st.binary(max_size=9), varies=st.booleans()) | st.builds(
    Result, id=ids, error=errors
)
welcomes = st.builds(
    Welcome,
    protocol_version=st.integers(min_value=0, max_value=2),
    peer_id=texts,
    epoch=ids,
    proof=nonces,
    resume_token=nonces,
    resumed=st.booleans(),
    read_lease_ms=small,
)
server_frames = st.builds(
    ServerFrame,
    challenge=st.none() | st.none() | st.builds(Challenge, protocol_version=st.sampled_from([2, 2, 1]), nonce=nonces),
    welcome=st.none() | st.none() | welcomes,
    results=st.lists(results, max_size=4),
    invalidated=st.lists(ids, max_size=4),
    barriers=st.lists(barriers, max_size=3),
    moved=st.lists(st.builds(Moved, id=ids, slot_map_version=ids), max_size=3),
    pong=st.none() | st.builds(Pong, sequence=ids),
    go_away=st.none() | st.none() | st.builds(GoAway, error=st.none() | errors),
)


def as_bytes(frames: st.SearchStrategy[M]) -> st.SearchStrategy[bytes]:
    """Frames, frames with something broken in them, and noise."""
    whole = frames.map(lambda frame: frame.SerializeToString())
    cut = st.tuples(whole, st.integers(min_value=0, max_value=200)).map(lambda pair: pair[0][: pair[1]])
    joined = st.tuples(whole, st.binary(max_size=20)).map(lambda pair: pair[0] + pair[1])
    return whole | whole | cut | joined | st.binary(max_size=60)


def open_pair() -> SessionPair:
    """A session with a call in every state."""
    pair = SessionPair(secret=None)
    pair.connect()
    for call in (read_call(), read_call(), command_call(), command_call(), invalidation_call("A.b"), read_call()):
        pair.caller.start(call)
    pair.exchange()
    assert pair.owner is not None
    pair.owner.send_result(1, 1, b"subscribed", subscribed=True)
    pair.owner.send_result(4, 0, b"kept", subscribed=False)
    pair.owner.send_invalidated(6)
    pair.owner.send_barrier(1)
    return pair


@given(frames=st.lists(as_bytes(client_frames), max_size=8))
def test_an_owners_session_survives_whatever_a_caller_sends(frames: list[bytes]) -> None:
    pair = open_pair()
    owner = pair.owner
    assert owner is not None
    for frame in frames:
        try:
            owner.receive(frame, pair.now_s)
        except RemoteProtocolError:
            owner.detach()
            owner.lose()
            assert owner.in_flight_count == owner.subscription_count == 0
            return
        assert owner.in_flight_count >= 0
        assert owner.subscription_count >= 0
        if owner.has_output:
            for out in owner.take_frames():
                ServerFrame.FromString(out)


@given(frames=st.lists(as_bytes(server_frames), max_size=8), is_open=st.booleans())
def test_a_callers_session_survives_whatever_an_owner_sends(frames: list[bytes], is_open: bool) -> None:
    if is_open:
        pair = open_pair()
        pair.exchange()
    else:
        pair = SessionPair(secret=None)
        pair.caller.attach(b"c" * 16, pair.now_s)
    caller = pair.caller
    for frame in frames:
        try:
            caller.receive(frame, pair.now_s)
            caller.tick(pair.now_s)
            for out in caller.take_frames(pair.now_s):
                ClientFrame.FromString(out)
        except (RemoteProtocolError, HandshakeRefused):
            break
        if caller.state is CallerLink.DETACHED:
            break
    caller.void()
    caller.detach(0.0)
    caller.close()
    assert caller.pending_count == caller.subscription_count == 0


@given(frame=as_bytes(client_frames), secret=st.sampled_from([None, b"secret"]))
def test_a_handshake_survives_whatever_a_stranger_sends(frame: bytes, secret: bytes | None) -> None:
    handshake = OwnerHandshake(peer_id="owner", secret=secret, nonce=b"o" * 16)
    try:
        hello = handshake.receive(frame)
    except (RemoteProtocolError, HandshakeRefused):
        return
    assert secret is None
    assert hello.peer_id


@given(chunks=st.lists(st.binary(max_size=40) | st.binary(max_size=40).map(with_length), max_size=10))
def test_a_frame_reader_survives_whatever_a_stream_brings(chunks: list[bytes]) -> None:
    reader = FrameReader(max_frame_size=64)
    try:
        for chunk in chunks:
            assert all(len(frame) <= 64 for frame in reader.feed(chunk))
        reader.end()
    except RemoteProtocolError:
        return
