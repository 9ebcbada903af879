"""The `Session` stream against clients that do not keep to the protocol: refused, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_cluster.v1 import session_pb2
from tests.apps.shelf import app, fresh_stock
from tests.clients import Front, fronted

hellos = st.builds(
    session_pb2.Hello,
    protocol_version=st.sampled_from([2, 2, 2, 0, 1]),
    peer_id=st.sampled_from(["one", "other", ""]),
    nonce=st.binary(min_size=16, max_size=16) | st.binary(max_size=4),
    proof=st.just(b"") | st.binary(max_size=32),
    resume_token=st.just(b"") | st.binary(max_size=16),
)
calls = st.builds(
    session_pb2.Call,
    id=st.integers(0, 3),
    kind=st.sampled_from([0, 0, 1, 7]),
    method=st.sampled_from(["Shelf.count", "Shelf.put", "Shelf.nowhere", "Nowhere", ""]),
    arguments=st.just(b"\x91\xa3nut") | st.binary(max_size=10),
    timeout_ms=st.integers(0, 10),
    command_id=st.text(max_size=5),
)
invalidations = st.builds(
    session_pb2.Invalidate,
    id=st.integers(0, 3),
    keys=st.lists(st.builds(session_pb2.KeyReference, method=st.just("Shelf.count"), arguments=st.binary(max_size=5))),
    barrier=st.integers(0, 2),
)
ids = st.lists(st.integers(0, 5), max_size=3)
frames = st.one_of(
    st.binary(max_size=50),
    st.builds(session_pb2.ClientFrame, hello=hellos).map(lambda frame: frame.SerializeToString()),
    st.builds(
        session_pb2.ClientFrame,
        calls=st.lists(calls, max_size=3),
        invalidations=st.lists(invalidations, max_size=2),
        cancelled=ids,
        unsubscribed=ids,
        received=ids,
        settled_barriers=ids,
    ).map(lambda frame: frame.SerializeToString()),
)
valid_hello = session_pb2.ClientFrame(
    hello=session_pb2.Hello(protocol_version=2, peer_id="fuzz", nonce=b"n" * 16)
).SerializeToString()
sessions = st.lists(frames, max_size=5) | st.lists(frames, max_size=5).map(lambda rest: [valid_hello, *rest])


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def front(runner: asyncio.Runner) -> Iterator[Front]:
    fresh_stock()
    serving = fronted(app)
    yield runner.run(serving.__aenter__())
    runner.run(serving.__aexit__(None, None, None))


@given(sent=sessions)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_client_breaks_a_session_but_its_own(
    runner: asyncio.Runner, front: Front, caplog: pytest.LogCaptureFixture, sent: list[bytes]
) -> None:
    caplog.clear()

    async def talk() -> None:
        async with grpc.aio.insecure_channel(front.address) as channel:
            open_session: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
                "/fusion_cluster.v1.Gateway/Session"
            )
            session = open_session(timeout=10)
            for frame in sent:
                try:
                    await session.write(frame)
                except (grpc.RpcError, asyncio.InvalidStateError):
                    return  # ended by the gateway, and grpc.aio does not keep the status when a write fails
            await session.done_writing()
            while isinstance(received := await session.read(), bytes):
                session_pb2.ServerFrame.FromString(received)
            assert await session.code() is grpc.StatusCode.OK

    runner.run(talk())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not [record for record in caplog.records if "raised" in record.getMessage()]
