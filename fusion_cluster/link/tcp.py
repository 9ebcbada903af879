"""The TCP carrier: length-delimited frames on one connection, on asyncio's or uvloop's protocols and transports."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from fusion_cluster.errors import RemoteProtocolError
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.protocol.framing import FrameReader, with_length

WRITE_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""The carrier is not writable while more bytes than this wait to be sent."""

CLOSE_GRACE_S: Final = 1.0
"""How long a closed carrier may take to send what waits, before the connection is reset."""


class CarrierAcceptor(Protocol):
    """Takes the carriers that callers have dialled (`link.acceptor.SessionAcceptor`)."""

    def accept(self, carrier: Carrier) -> None:
        """Take a new carrier."""
        ...


class TcpCarrier(Carrier, asyncio.Protocol):
    """One end of a TCP connection."""

    def __init__(self, acceptor: CarrierAcceptor | None = None) -> None:
        super().__init__()
        self._acceptor = acceptor
        self._reader = FrameReader()
        self._transport: asyncio.Transport
        self._abort: asyncio.TimerHandle | None = None
        self._is_writable = True
        self._is_closed = False
        self._has_told = False

    # -- Carrier ------------------------------------------------------------------------------------------------------
    @property
    def is_writable(self) -> bool:
        """Whether the transport can take more frames."""
        return self._is_writable

    def send(self, frame: bytes) -> None:
        """Send one frame."""
        if not self._is_closed:
            self._transport.write(with_length(frame))

    def close(self) -> None:
        """Send what waits, for `CLOSE_GRACE_S` at most, then close the connection."""
        if not self._is_closed:
            self._is_closed = True
            self._transport.close()
            loop = asyncio.get_running_loop()
            self._abort = loop.call_later(CLOSE_GRACE_S, self._transport.abort)

    def pause_reading(self) -> None:
        """Leave what the other end sends in the kernel's buffers, so that it has to wait."""
        if not self._is_closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._is_closed:
            self._transport.resume_reading()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to use the connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if self._acceptor is not None:
            self._acceptor.accept(self)

    def data_received(self, data: bytes) -> None:
        """Deliver the frames that these bytes complete."""
        reader = self._reader
        reader.max_frame_size = self.max_frame_size
        try:
            frames = reader.feed(data)
        except RemoteProtocolError as error:
            self._fail(error)
            return
        for frame in frames:
            if self._is_closed:
                return
            self.on_frame(frame)

    def eof_received(self) -> None:
        """Check that the other end has not stopped within a frame."""
        try:
            self._reader.end()
        except RemoteProtocolError as error:
            self._fail(error)

    def pause_writing(self) -> None:
        """Note that the transport's buffer is full."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Note that the transport's buffer has drained."""
        self._is_writable = True
        self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._is_closed = True
        if self._abort is not None:
            self._abort.cancel()
        self._tell(exc)

    def _fail(self, error: RemoteProtocolError) -> None:
        self._tell(error)
        self.close()

    def _tell(self, error: Exception | None) -> None:
        if not self._has_told:
            self._has_told = True
            self.on_closed(error)


class TcpListener:
    """A listening socket. Closing it does not end the carriers that it has accepted.

    Attributes:
        address: host and port.
    """

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        host, port = server.sockets[0].getsockname()[:2]
        self.address: tuple[str, int] = (host, port)

    async def close(self) -> None:
        """Stop listening."""
        self._server.close()


async def listen_tcp(acceptor: CarrierAcceptor, host: str = "127.0.0.1", port: int = 0) -> TcpListener:
    """Give each connection to `host` and `port` (0: any free one) to the acceptor."""
    server = await asyncio.get_running_loop().create_server(lambda: TcpCarrier(acceptor), host, port)
    return TcpListener(server)


async def dial_tcp(host: str, port: int) -> Carrier:
    """Connect to a listener.

    Raises:
        OSError: the connection failed, for example because no process listens there.
    """
    _, carrier = await asyncio.get_running_loop().create_connection(TcpCarrier, host, port)
    return carrier
