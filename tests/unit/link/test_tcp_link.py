from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from fusion_cluster.link import AcceptorLimits, Carrier, Peer, SessionAcceptor, TcpListener, dial_tcp, listen_tcp
from fusion_cluster.link.tcp import WRITE_BUFFER_BYTES, TcpCarrier
from fusion_cluster.protocol.limits import MAX_FRAME_SIZE, MAX_HANDSHAKE_FRAME_SIZE
from fusion_cluster.v1.session_pb2 import ClientFrame, ServerFrame
from tests.invocations import a_read
from tests.owners import RecordingHandler
from tests.waiting import until


class Served:
    def __init__(self, acceptor: SessionAcceptor, listener: TcpListener, handler: RecordingHandler) -> None:
        self.acceptor = acceptor
        self.listener = listener
        self.handler = handler

    async def dial(self) -> Carrier:
        return await dial_tcp(*self.listener.address)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    handler = RecordingHandler(echoes=True)
    # A long lease: one test stops reading, and megabytes take long on a busy machine.
    acceptor = SessionAcceptor(handler, peer_id="owner", secret=b"secret", read_lease_s=30.0)
    listener = await listen_tcp(acceptor)
    yield Served(acceptor, listener, handler)
    await listener.close()
    await acceptor.close()


@pytest.fixture
async def peer(served: Served) -> AsyncIterator[Peer]:
    peer = Peer(served.dial, peer_id="caller", secret=b"secret")
    yield peer
    await peer.close()


def ignore(call_id: int) -> None:
    pass


async def test_it_listens_on_loopback_on_any_free_port(served: Served) -> None:
    host, port = served.listener.address
    assert host == "127.0.0.1"
    assert port > 0


async def test_calls_of_many_callers_are_answered(peer: Peer) -> None:
    async def caller(number: int) -> None:
        for step in range(20):
            arguments = f"{number} {step}".encode()
            call = peer.read(a_read("Echo.same", timeout_s=10), arguments, on_invalidated=ignore)
            assert (await call).value == arguments
            peer.unsubscribe(call.id)

    await asyncio.gather(*(caller(number) for number in range(50)))
    assert peer.pending_count == peer.subscription_count == 0


async def test_one_burst_of_calls_in_one_turn_leaves_in_one_write(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    await peer.connect(5)
    writes: list[bytes] = []
    send = TcpCarrier.send

    def recording(carrier: TcpCarrier, frame: bytes) -> None:
        writes.append(frame)
        send(carrier, frame)

    monkeypatch.setattr(TcpCarrier, "send", recording)
    calls = [peer.read(a_read("Echo.same", timeout_s=10), b"x", on_invalidated=ignore) for _ in range(300)]
    await asyncio.gather(*(asyncio.ensure_future(call) for call in calls))
    from_peer = [frame for frame in writes if ClientFrame.FromString(frame).calls]
    from_owner = [frame for frame in writes if ServerFrame.FromString(frame).results]
    assert [len(ClientFrame.FromString(frame).calls) for frame in from_peer] == [300]
    assert sum(len(ServerFrame.FromString(frame).results) for frame in from_owner) == 300
    assert len(from_owner) <= 2


async def test_large_arguments_and_values_pass(peer: Peer) -> None:
    value = bytes(range(256)) * 40_000
    call = peer.read(a_read("Echo.same", timeout_s=10), value, on_invalidated=ignore)
    assert (await call).value == value


async def test_a_reset_connection_is_redialled_at_once(served: Served, peer: Peer) -> None:
    await peer.connect(5)
    gone: list[Peer] = []
    peer.on_disconnected = gone.append
    carrier = next(iter(served.acceptor._carriers))
    assert isinstance(carrier, TcpCarrier)
    carrier._transport.abort()
    await until(lambda: gone)
    call = peer.read(a_read("Echo.same", timeout_s=5), b"again", on_invalidated=ignore)
    assert (await call).value == b"again"
    assert len(served.handler.sessions) == 1


async def test_closing_an_acceptor_closes_its_connections(served: Served, peer: Peer) -> None:
    await peer.connect(5)
    await served.listener.close()
    await served.acceptor.close()
    await until(lambda: not peer.is_connected)
    assert len(served.handler.lost) == 1


# -- C.9 --------------------------------------------------------------------------------------------------------------
async def raw_connection(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*served.listener.address)
    await read_frame(reader)  # the challenge
    return reader, writer


async def read_frame(reader: asyncio.StreamReader) -> ServerFrame:
    (size,) = struct.unpack(">I", await reader.readexactly(4))
    return ServerFrame.FromString(await reader.readexactly(size))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack(">I", MAX_HANDSHAKE_FRAME_SIZE + 1), id="too long before the handshake"),
        pytest.param(struct.pack(">I", 0xFFFFFFFF), id="far too long"),
        pytest.param(struct.pack(">I", 5) + b"\xff\xff\xff\xff\xff", id="no frame at all"),
        pytest.param(struct.pack(">I", 0), id="an empty frame"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
    ],
)
async def test_a_connection_that_does_not_keep_to_the_protocol_is_told_so_and_closed(
    served: Served, peer: Peer, data: bytes
) -> None:
    await peer.connect(5)
    reader, writer = await raw_connection(served)
    writer.write(data)
    frame = await read_frame(reader)
    assert frame.go_away.error.type == "RemoteProtocolError"
    assert await reader.read() == b""
    writer.close()
    assert peer.is_connected
    assert served.handler.lost == []


async def test_a_connection_that_ends_in_the_middle_of_a_frame_is_a_protocol_error(served: Served) -> None:
    reader, writer = await raw_connection(served)
    writer.write(struct.pack(">I", 100) + b"abc")
    writer.write_eof()
    assert (await read_frame(reader)).go_away.error.type == "RemoteProtocolError"
    assert await reader.read() == b""
    writer.close()


async def test_an_open_session_that_sends_a_frame_that_is_too_long_is_told_so_and_lost(
    served: Served, peer: Peer
) -> None:
    await peer.connect(5)
    session = served.handler.session
    carrier = peer._carrier
    assert isinstance(carrier, TcpCarrier)
    carrier._transport.write(struct.pack(">I", 17 * 2**20))
    await until(lambda: session.is_lost)
    await until(lambda: len(served.handler.sessions) == 2)


async def test_an_owner_that_does_not_keep_to_the_protocol_is_hung_up_on_and_redialled() -> None:
    connections: list[socket.socket] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    loop = asyncio.get_running_loop()

    async def serve() -> None:
        while len(connections) < 3:
            connection, _ = await loop.sock_accept(server)
            connections.append(connection)
            await loop.sock_sendall(connection, struct.pack(">I", 3) + b"\xff\xff\xff")

    serving = asyncio.ensure_future(serve())
    peer = Peer(lambda: dial_tcp(*server.getsockname()), peer_id="caller")
    call = asyncio.ensure_future(peer.read(a_read("Echo.same", timeout_s=30), b"", on_invalidated=ignore))
    await asyncio.wait_for(serving, 10)
    assert not call.done()
    await peer.close()
    with pytest.raises(Exception, match="closed"):
        await call
    for connection in [*connections, server]:
        connection.close()


async def test_a_connection_that_never_says_hello_is_closed_after_a_while() -> None:
    acceptor = SessionAcceptor(RecordingHandler(), peer_id="owner", limits=AcceptorLimits(handshake_s=0.1))
    listener = await listen_tcp(acceptor)
    reader, writer = await asyncio.open_connection(*listener.address)
    await read_frame(reader)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await listener.close()
    await acceptor.close()


# -- towards C.11 -----------------------------------------------------------------------------------------------------
async def test_a_caller_that_does_not_read_is_not_written_to_without_end(served: Served, peer: Peer) -> None:
    await peer.connect(5)
    callers_end = peer._carrier
    (owners_end,) = served.acceptor._carriers
    assert isinstance(callers_end, TcpCarrier)
    assert isinstance(owners_end, TcpCarrier)
    callers_end.pause_reading()
    calls = [peer.read(a_read("Echo.same", timeout_s=30), bytes(2**20), on_invalidated=ignore) for _ in range(40)]
    waiters = [asyncio.ensure_future(call) for call in calls]
    await until(lambda: not owners_end.is_writable)
    assert owners_end._transport.get_write_buffer_size() <= WRITE_BUFFER_BYTES + MAX_FRAME_SIZE
    callers_end.resume_reading()
    results = await asyncio.gather(*waiters)
    assert all(len(result.value) == 2**20 for result in results)
