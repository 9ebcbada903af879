"""The users: most read boards and flights, some watch totals, a few move flights and read at once what they wrote.

Locust is a program of greenlets: gRPC is told so before any of its objects is made, stubs are synchronous, and each
user has a channel of its own, made when it starts. Airports are wanted by Zipf's law in the order of their flights; so
are flights, in an order that is the same in each run.
"""

from __future__ import annotations

import random
import time
from typing import Any

import grpc
import grpc.experimental.gevent as grpc_gevent
from locust import User, constant_pacing, events, task
from locust.env import Environment

from fusion_cluster.addresses import parse_addresses
from fusion_cluster.client.channel import proxy_options
from fusion_cluster.v1 import gateway_pb2_grpc
from loadtest.interceptor import Timing
from loadtest.payloads import Json, call_request, execute_request, value_of, watch_request
from loadtest.population import DAY, Population, population_of
from loadtest.zipf import ZipfSampler

grpc_gevent.init_gevent()

CALL_TIMEOUT_S = 10.0
WATCH_S = 8.0
WRITERS = 64
"""Flights are dealt out among so many writers; with more users than that, two share theirs and may read each other."""


class StaleReadError(Exception):
    """A read after a command did not give what the command wrote."""


@events.init.add_listener  # type: ignore[untyped-decorator]
def learn_population(environment: Environment, **_rest: object) -> None:
    """Ask the gateway once for the airports and flights, before the clock runs; it also fills the cache with boards."""
    assert environment.parsed_options is not None
    host = str(environment.parsed_options.host)
    with grpc.insecure_channel(host, options=proxy_options(parse_addresses(host))) as channel:
        gateway = gateway_pb2_grpc.GatewayStub(channel)

        def read(method: str, *arguments: Json) -> Any:
            return value_of(gateway.Call(call_request(method, *arguments), timeout=60.0).value)

        by_origin = read("Network.by_origin", DAY)
        by_destination = read("Network.by_destination", DAY)
        boards = [read("Airports.departures_board", origin, DAY) for origin in by_origin]
    FlightsUser.population = population_of(by_origin, by_destination, boards)


class FlightsUser(User):
    """Somebody with a channel to the gateway."""

    abstract = True
    population: Population

    def on_start(self) -> None:
        """Open the channel and decide what is liked."""
        self._channel = grpc.insecure_channel(
            str(self.host),
            options=(("grpc.use_local_subchannel_pool", 1), *proxy_options(parse_addresses(str(self.host)))),
        )
        timed = grpc.intercept_channel(self._channel, Timing(self.environment.events.request.fire))
        self.gateway = gateway_pb2_grpc.GatewayStub(timed)
        seed = self.population.reader_seed()
        self.random = random.Random(seed)
        self.origins = ZipfSampler(self.population.origins, seed=seed)
        self.destinations = ZipfSampler(self.population.destinations, seed=seed)
        self.flights = ZipfSampler(self.population.flight_ids, seed=seed)

    def on_stop(self) -> None:
        """Close the channel."""
        self._channel.close()

    def read(self, method: str, *arguments: Json) -> Any:
        """One read; what it fails with is in the statistics, and gives None."""
        try:
            return value_of(self.gateway.Call(call_request(method, *arguments), timeout=CALL_TIMEOUT_S).value)
        except grpc.RpcError:
            return None


class Traveller(FlightsUser):
    """Looks at boards and at flights."""

    weight = 8
    wait_time = constant_pacing(0.05)

    @task(4)
    def departures(self) -> None:
        self.read("Airports.departures_board", self.origins.draw(), DAY)

    @task(3)
    def arrivals(self) -> None:
        self.read("Airports.arrivals_board", self.destinations.draw(), DAY)

    @task(10)
    def flight(self) -> None:
        self.read("Flights.get", self.flights.draw())

    @task(2)
    def airport_totals(self) -> None:
        self.read("Airports.totals", self.destinations.draw(), DAY)

    @task(1)
    def network_totals(self) -> None:
        self.read("Network.totals", DAY)


class Board(FlightsUser):
    """A screen in a hall: shows the totals of an airport, then those of another one."""

    weight = 2
    wait_time = constant_pacing(WATCH_S)

    @task
    def watch_airport(self) -> None:
        self._watch("Airports.totals", self.destinations.draw(), DAY)

    @task
    def watch_network(self) -> None:
        self._watch("Network.totals", DAY)

    def _watch(self, method: str, *arguments: Json) -> None:
        stream = self.gateway.Watch(watch_request(method, *arguments), timeout=WATCH_S)
        deadline = time.monotonic() + WATCH_S - 1.0
        try:
            for _update in stream:
                if time.monotonic() > deadline:
                    break
        except grpc.RpcError:
            pass  # the end of the time that was asked for, or a failure that is in the statistics
        finally:
            stream.cancel()


class Tower(FlightsUser):
    """Moves flights, and reads at once what it has changed."""

    weight = 2
    wait_time = constant_pacing(0.2)

    def on_start(self) -> None:
        """Take over some flights."""
        super().on_start()
        self.own = self.population.flights_of_next_writer(WRITERS)

    @task
    def depart(self) -> None:
        flight_id = self.random.choice(self.own)
        plan = self.read("Flights.plan", flight_id)
        if plan is None:
            return
        delay_min = self.random.randrange(-10, 240)
        request = execute_request("Flights.depart", flight_id, plan["scheduled_departure"] + delay_min)
        try:
            self.gateway.Execute(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError:
            return
        line = self.read("Flights.departure", flight_id)
        if line is not None and line["delay_min"] != delay_min:
            error = StaleReadError(f"flight {flight_id}: read a delay of {line['delay_min']}, written was {delay_min}")
            self.environment.events.request.fire(
                request_type="check",
                name="read after write",
                response_time=0.0,
                response_length=0,
                response=None,
                exception=error,
                context={},
            )
