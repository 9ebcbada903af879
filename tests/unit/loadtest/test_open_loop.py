"""The histogram is exact enough, and a pause of the server shows in the latencies."""

from __future__ import annotations

import asyncio
import json
import random

import grpc
import pytest

from fusion_cluster.v1 import gateway_pb2
from loadtest.histogram import LatencyHistogram
from loadtest.open_loop import measure


@pytest.mark.parametrize("percent", [50, 90, 99, 99.9, 100])
def test_a_percentile_is_right_to_one_in_a_hundred(percent: float) -> None:
    rng = random.Random(1)
    latencies_ms = sorted(rng.lognormvariate(1, 1.5) for _ in range(5_000))
    histogram = LatencyHistogram()
    for latency_ms in latencies_ms:
        histogram.record(latency_ms / 1000)
    exact = latencies_ms[max(0, round(percent / 100 * len(latencies_ms)) - 1)]
    assert histogram.percentile_ms(percent) == pytest.approx(exact, rel=0.01)
    assert histogram.slowest_ms == pytest.approx(latencies_ms[-1], abs=0.001)


def test_no_latency_has_no_percentile() -> None:
    assert LatencyHistogram().percentile_ms(99) == 0


def test_a_histogram_is_small_whatever_it_counts() -> None:
    histogram = LatencyHistogram()
    for exponent in range(-6, 4):
        for step in range(1_000):
            histogram.record(10.0**exponent * (1 + step / 111))
    assert len(histogram._counts) < 4_000
    assert histogram.count == 10_000


class Pausing:
    """A gateway that answers at once, but for one pause."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s
        self.calls = 0
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def call(self, request: bytes, _context: object) -> bytes:
        asked = gateway_pb2.CallRequest.FromString(request)
        if asked.method == "by_destination":
            value: object = {"BOS": {"flights": 2}, "ORD": {"flights": 1}}
        else:
            value = {}
            self.calls += 1
            if self.calls == 20:
                self.is_open.clear()
                asyncio.get_running_loop().call_later(self.pause_s, self.is_open.set)
            await self.is_open.wait()
        reply = gateway_pb2.CallReply(value=gateway_pb2.Payload(json=json.dumps(value)))
        return reply.SerializeToString()


async def test_calls_that_were_due_in_a_pause_count_from_when_they_were_due() -> None:
    gateway = Pausing(0.4)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(gateway.call)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("fusion_cluster.v1.Gateway", {"Call": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        outcome = await measure(f"127.0.0.1:{port}", rate=200, seconds=1)
    finally:
        await server.stop(0)
    assert outcome.failures == 0
    assert outcome.latencies.count == 200
    # 80 of 200 calls fell due in the pause; a closed loop would have seen one slow call.
    assert outcome.latencies.percentile_ms(80) > 50
    assert outcome.latencies.slowest_ms > 300
