"""Finds out what answers at an address where a gateway should, from gRPC's error and from a look at the socket.

gRPC gives the reason only in words. They do not distinguish an HTTP server from a server that wants TLS; so this module
talks to the socket as clients of both kinds would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from fusion_cluster.addresses import Address
from fusion_cluster.client.channel import uses_proxies
from fusion_cluster.wire.status import status_from_metadata

LOOK_S: Final = 0.5
"""How long one look at a socket may take."""

PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables that name gRPC's proxy; the first that is set counts."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The reason why no gateway answers.

    Attributes:
        words: describe what is there instead.
        is_lasting: waiting does not help.
    """

    words: str
    is_lasting: bool = False


SILENCE: Final = Trouble("no answer came")
HTTP: Final = Trouble("an HTTP server answers there, which does not speak gRPC", is_lasting=True)
OTHER_GRPC: Final = Trouble("a gRPC server answers there that is not a gateway of fusion-cluster", is_lasting=True)
TLS: Final = Trouble("a server that wants TLS answers there, and gateways speak gRPC without TLS", is_lasting=True)
NO_GRPC: Final = Trouble("a server answers there that does not speak gRPC", is_lasting=True)
CLOSES: Final = Trouble("a server there ends each connection at once")

_IN_THE_WORDS_OF_GRPC: Final = (
    (r"resolving|resolution|lookup", Trouble("the name is not known", is_lasting=True)),
    (r"[Rr]efused", Trouble("nobody listens there")),
    (r"No such file", Trouble("there is no such socket")),
    (r"Permission denied", Trouble("the socket may not be opened: permission denied", is_lasting=True)),
    (r"unreachable|No route", Trouble("there is no way to it in this network")),
    (r"parsing HTTP/2|http1", NO_GRPC),
    (r"SETTINGS", Trouble("a server accepts connections there, but says nothing")),
    (r"[Cc]losed|[Rr]eset|[Bb]roken pipe", CLOSES),
    (r"handshaker shutdown|[Tt]imed out|[Tt]imeout", SILENCE),
)
"""The first pattern that matches gRPC's message counts; a test checks them against servers of each kind."""


async def trouble_of(error: grpc.aio.AioRpcError, addresses: Sequence[Address]) -> Trouble | None:
    """Return why a call that any gateway answers has failed; None: a gateway, or something on its behalf, answered."""
    if status_from_metadata(error.trailing_metadata()) is not None:
        return None
    code, said = error.code(), error.details() or ""
    if "http2 header" in said:
        return HTTP if code is not grpc.StatusCode.UNAVAILABLE else Trouble(f"an HTTP server answers there: {said}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return OTHER_GRPC
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return SILENCE
    if code is not grpc.StatusCode.UNAVAILABLE:
        return None
    trouble = next((known for words, known in _IN_THE_WORDS_OF_GRPC if re.search(words, said)), Trouble(said))
    if uses_proxies(addresses):
        proxy = next((name for name in PROXIES if os.environ.get(name)), None)
        if proxy is not None:
            return Trouble(f"{trouble.words} (behind the proxy that {proxy} names; set no_proxy to connect without it)")
    if trouble in (NO_GRPC, CLOSES):
        return await _look(addresses[-1]) or trouble
    return trouble


async def _look(address: Address) -> Trouble | None:
    """Recognize an HTTP server and a server that wants TLS; None: it is another server."""
    with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
        async with asyncio.timeout(LOOK_S):
            answer = await _answer_to(b"GET / HTTP/1.0\r\n\r\n", address)
        if answer.startswith((b"HTTP/", b"<")):
            return HTTP
    with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
        async with asyncio.timeout(LOOK_S):
            await _answer_to(b"", address, tls=_any_tls())
        return TLS
    return None


async def _answer_to(words: bytes, address: Address, tls: ssl.SSLContext | None = None) -> bytes:
    if address.path:
        reader, writer = await asyncio.open_unix_connection(address.path, ssl=tls, server_hostname=tls and "")
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    try:
        if not words:
            return b""
        writer.write(words)
        return await reader.read(16)
    finally:
        writer.transport.abort()


def _any_tls() -> ssl.SSLContext:
    """Return a context that accepts any certificate: nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context
