from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from fusion_cluster.errors import RemoteProtocolError
from fusion_cluster.link import grpc_stream
from fusion_cluster.link.grpc_stream import (
    MERGED_BYTES,
    UNMERGED_FROM_CALLER,
    UNMERGED_FROM_OWNER,
    WRITABLE_BYTES,
    GrpcStreamCarrier,
)
from fusion_cluster.v1.session_pb2 import Call, Challenge, ClientFrame, GoAway, Hello, Result, ServerFrame, Welcome
from tests.session_pair import SessionPair, read_call
from tests.waiting import until

EOF = object()


class Stream:
    """A gRPC call as the carrier sees it: what is written, and what there is to read."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.incoming: asyncio.Queue[object] = asyncio.Queue()
        self.taken = 0
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.write_error: Exception | None = None

    async def write(self, message: bytes) -> None:
        await self.may_write.wait()
        if self.write_error is not None:
            raise self.write_error
        self.written.append(message)

    async def read(self) -> object:
        message = await self.incoming.get()
        self.taken += 1
        if isinstance(message, Exception):
            raise message
        return message


class User:
    """Whoever uses the carrier."""

    def __init__(self, carrier: GrpcStreamCarrier) -> None:
        self.frames: list[bytes] = []
        self.closed: list[Exception | None] = []
        self.writable = 0
        carrier.start(on_frame=self.frames.append, on_closed=self.closed.append, on_writable=self._on_writable)

    def _on_writable(self) -> None:
        self.writable += 1


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
async def carrier(stream: Stream) -> AsyncIterator[GrpcStreamCarrier]:
    carrier = GrpcStreamCarrier(UNMERGED_FROM_OWNER)
    pumps = [
        asyncio.create_task(carrier.read_from(stream.read)),
        asyncio.create_task(carrier.write_to(stream.write)),
    ]
    yield carrier
    carrier.close()
    stream.may_write.set()
    stream.incoming.put_nowait(EOF)
    await asyncio.gather(*pumps, return_exceptions=True)


async def test_frames_arrive_in_order(carrier: GrpcStreamCarrier, stream: Stream) -> None:
    user = User(carrier)
    for frame in (b"a", b"b", b"c"):
        stream.incoming.put_nowait(frame)
    await until(lambda: user.frames == [b"a", b"b", b"c"])


async def test_a_frame_that_came_before_the_user_is_delivered_to_it(carrier: GrpcStreamCarrier, stream: Stream) -> None:
    stream.incoming.put_nowait(b"early")
    await until(lambda: stream.taken == 1)
    assert User(carrier).frames == [b"early"]


async def test_frames_that_wait_for_a_write_leave_together_in_order(carrier: GrpcStreamCarrier, stream: Stream) -> None:
    User(carrier)
    stream.may_write.clear()
    carrier.send(b"first")
    await asyncio.sleep(0)
    for frame in (b"second", b"third", b"fourth"):
        carrier.send(frame)
    stream.may_write.set()
    await until(lambda: b"".join(stream.written) == b"firstsecondthirdfourth")
    assert len(stream.written) <= 2


async def test_merged_messages_stay_small(carrier: GrpcStreamCarrier, stream: Stream) -> None:
    frames = [bytes([0x22]) * (MERGED_BYTES // 3 + 1) for _ in range(10)]
    for frame in frames:
        carrier.send(frame)
    await until(lambda: b"".join(stream.written) == b"".join(frames))
    assert max(map(len, stream.written)) <= MERGED_BYTES
    assert len(stream.written) == 5


@pytest.mark.parametrize(
    "frame",
    [
        ServerFrame(challenge=Challenge(nonce=b"n")),
        ServerFrame(welcome=Welcome(epoch=1)),
        ServerFrame(go_away=GoAway()),
    ],
)
async def test_frames_that_open_or_end_a_session_travel_alone(
    carrier: GrpcStreamCarrier, stream: Stream, frame: ServerFrame
) -> None:
    batch = ServerFrame(results=[Result(id=1)]).SerializeToString()
    for sent in (batch, frame.SerializeToString(), batch, batch):
        carrier.send(sent)
    await until(lambda: sum(map(len, stream.written)) == 3 * len(batch) + frame.ByteSize())
    assert frame.SerializeToString() in stream.written


def test_a_hello_travels_alone_and_calls_do_not() -> None:
    hello = ClientFrame(hello=Hello(protocol_version=2)).SerializeToString()
    calls = ClientFrame(calls=[Call(id=1)]).SerializeToString()
    assert hello[0] in UNMERGED_FROM_CALLER
    assert calls[0] not in UNMERGED_FROM_CALLER


def test_a_pong_travels_alone() -> None:
    pair = SessionPair()
    pair.connect()
    assert pair.owner is not None
    read = read_call()
    pair.caller.start(read)
    pair.advance(1.0)
    pair.flush_caller()
    pair.deliver_to_owner()
    pair.owner.send_result(read.id, 1, b"v", subscribed=True)
    result, pong = pair.owner.take_frames()
    assert [field.name for field, _ in ServerFrame.FromString(pong).ListFields()] == ["pong"]
    assert ServerFrame.FromString(pong).pong.holdings.count == 1
    assert pong[0] in UNMERGED_FROM_OWNER
    assert result[0] not in UNMERGED_FROM_OWNER


def test_merged_frames_are_the_frame_of_both() -> None:
    one, other = ServerFrame(results=[Result(id=1)], invalidated=[1]), ServerFrame(results=[Result(id=2)], barriers=[9])
    merged = ServerFrame.FromString(one.SerializeToString() + other.SerializeToString())
    assert merged == ServerFrame(results=[Result(id=1), Result(id=2)], invalidated=[1], barriers=[9])


async def test_a_carrier_that_is_full_says_when_it_is_writable_again(
    carrier: GrpcStreamCarrier, stream: Stream
) -> None:
    user = User(carrier)
    stream.may_write.clear()
    assert carrier.is_writable
    for _ in range(3):
        carrier.send(b"\x22" * (WRITABLE_BYTES // 2))
    await asyncio.sleep(0)
    carrier.send(b"\x22" * (WRITABLE_BYTES // 2))
    assert not carrier.is_writable
    assert user.writable == 0
    stream.may_write.set()
    await until(lambda: user.writable == 1)
    assert carrier.is_writable


async def test_a_paused_carrier_reads_at_most_one_frame_further(carrier: GrpcStreamCarrier, stream: Stream) -> None:
    user = User(carrier)
    await asyncio.sleep(0)
    carrier.pause_reading()
    for frame in (b"a", b"b", b"c"):
        stream.incoming.put_nowait(frame)
    await until(lambda: stream.taken == 1)
    await asyncio.sleep(0)
    assert stream.taken == 1, "one read was under way"
    carrier.resume_reading()
    await until(lambda: user.frames == [b"a", b"b", b"c"])


async def test_a_frame_that_is_too_long_is_a_protocol_error(carrier: GrpcStreamCarrier, stream: Stream) -> None:
    user = User(carrier)
    carrier.max_frame_size = 10
    stream.incoming.put_nowait(b"x" * 11)
    await until(lambda: len(user.closed) == 1)
    assert isinstance(user.closed[0], RemoteProtocolError)
    assert not user.frames


async def test_a_last_frame_may_be_sent_when_the_other_end_broke_the_protocol(
    carrier: GrpcStreamCarrier, stream: Stream
) -> None:
    carrier.start(on_frame=lambda frame: None, on_closed=lambda error: carrier.send(b"\x42bye"))
    carrier.max_frame_size = 1
    stream.incoming.put_nowait(b"long")
    await until(lambda: stream.written == [b"\x42bye"])


async def test_closing_sends_what_waits_and_tells_once(carrier: GrpcStreamCarrier, stream: Stream) -> None:
    user = User(carrier)
    carrier.send(b"last")
    carrier.close()
    carrier.send(b"too late")
    stream.incoming.put_nowait(b"too late, too")
    await until(lambda: user.closed == [None])
    assert stream.written == [b"last"]
    assert not user.frames
    carrier.close()
    await asyncio.sleep(0)
    assert user.closed == [None]


async def test_the_end_of_the_stream_closes_the_carrier(carrier: GrpcStreamCarrier, stream: Stream) -> None:
    user = User(carrier)
    stream.incoming.put_nowait(EOF)
    await until(lambda: user.closed == [None])
    carrier.send(b"nobody there")
    await asyncio.sleep(0)
    assert not stream.written


@pytest.mark.parametrize("is_writing", [True, False])
async def test_a_lost_stream_closes_the_carrier_with_the_reason(
    carrier: GrpcStreamCarrier, stream: Stream, is_writing: bool
) -> None:
    user = User(carrier)
    lost = grpc.aio.UsageError("the stream has ended")
    if is_writing:
        stream.write_error = lost
        carrier.send(b"frame")
    else:
        stream.incoming.put_nowait(lost)
    await until(lambda: user.closed == [lost])


async def test_a_stream_that_takes_nothing_does_not_hold_up_the_end_for_long(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_stream, "CLOSE_GRACE_S", 0.02)
    carrier = GrpcStreamCarrier(UNMERGED_FROM_OWNER)
    user = User(carrier)
    stream.may_write.clear()
    writing = asyncio.create_task(carrier.write_to(stream.write))
    carrier.send(b"frame")
    await asyncio.sleep(0)
    carrier.close()
    await asyncio.wait([writing], timeout=5)
    assert writing.cancelled()
    assert user.closed == [None]
