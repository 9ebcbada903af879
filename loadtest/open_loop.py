"""Latency as users see it: calls begin by the clock, whether or not those before them have been answered.

Locust's users wait for an answer before they ask again, so while the gateway pauses nobody asks, and the pause
hardly shows in the percentiles. Here a call that should have begun during the pause counts from when it
should have begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
from rich.table import Table

from fusion_cluster.addresses import parse_addresses
from fusion_cluster.client.channel import proxy_options
from fusion_cluster.v1 import gateway_pb2, gateway_pb2_grpc
from loadtest.histogram import LatencyHistogram
from loadtest.payloads import call_request, value_of
from loadtest.population import DAY, SEED, by_flights
from loadtest.summary import PERCENTILES
from loadtest.zipf import ZipfSampler

TIMEOUT_S = 10.0
MAX_IN_FLIGHT = 2_000


@dataclass
class Outcome:
    """What came of a run: the latencies of what was answered, and how many calls were not."""

    rate: float
    seconds: float
    latencies: LatencyHistogram = field(default_factory=LatencyHistogram)
    failures: int = 0

    def as_table(self) -> Table:
        """The percentiles as a person reads them."""
        title = f"open loop: Airports.totals, {self.rate:g} calls/s for {self.seconds:g} s (ms)"
        table = Table(title=title, title_justify="left")
        for column in ("answered", "failed", *(f"{percent:g}%" for percent in PERCENTILES), "slowest"):
            table.add_column(column, justify="right")
        percentiles = (f"{self.latencies.percentile_ms(percent):.2f}" for percent in PERCENTILES)
        slowest = f"{self.latencies.slowest_ms:.2f}"
        table.add_row(f"{self.latencies.count:,}", f"{self.failures:,}", *percentiles, slowest)
        return table


async def measure(address: str, *, rate: float, seconds: float) -> Outcome:
    """Read airports' totals, drawn by Zipf's law, at a fixed rate.

    Args:
        address: a gateway.
        rate: calls per second.
        seconds: for how long calls begin.
    """
    async with grpc.aio.insecure_channel(address, options=proxy_options(parse_addresses(address))) as channel:
        gateway = gateway_pb2_grpc.GatewayStub(channel)
        reply = await gateway.Call(call_request("Network.by_destination", DAY), timeout=60.0)
        by_destination = value_of(reply.value)
        assert isinstance(by_destination, dict)
        airports = ZipfSampler(by_flights(by_destination), seed=SEED)  # type: ignore[arg-type]
        requests = [call_request("Airports.totals", airports.draw(), DAY) for _ in range(round(rate * seconds))]
        return await _send(gateway, requests, Outcome(rate, seconds))


async def _send(
    gateway: gateway_pb2_grpc.GatewayAsyncStub, requests: Sequence[gateway_pb2.CallRequest], outcome: Outcome
) -> Outcome:
    clock = asyncio.get_running_loop().time

    async def call(request: gateway_pb2.CallRequest, due_s: float) -> None:
        try:
            await gateway.Call(request, timeout=TIMEOUT_S)
        except grpc.RpcError:
            outcome.failures += 1
        else:
            outcome.latencies.record(clock() - due_s)

    started_s = clock()
    async with asyncio.TaskGroup() as calls:
        in_flight: set[asyncio.Task[None]] = set()
        for number, request in enumerate(requests):
            due_s = started_s + number / outcome.rate
            if (early_s := due_s - clock()) > 0:
                await asyncio.sleep(early_s)
            if len(in_flight) >= MAX_IN_FLIGHT:
                outcome.failures += 1
                continue
            task = calls.create_task(call(request, due_s))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
    return outcome
