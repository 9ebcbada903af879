from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from examples.flights.replay.events import FlightEvent
from examples.flights.replay.replay import Replay
from fusion_cluster.errors import CommandOutcomeUnknown, InvalidArgument

DAY = [
    FlightEvent(10, 1, "depart"),
    FlightEvent(11, 2, "depart"),
    FlightEvent(12, 1, "arrive"),
    FlightEvent(13, 3, "cancel"),
    FlightEvent(14, 2, "divert"),
]


class Recorder:
    """Runs commands by writing them down; fails as it is told to."""

    def __init__(self, failures: Counter[str] | None = None) -> None:
        self.done: list[tuple[str, tuple[object, ...]]] = []
        self.ids: list[str] = []
        self.most_at_once = 0
        self._failures = failures or Counter()
        self._under_way = 0

    async def __call__(self, name: str, arguments: Sequence[object], command_id: str) -> object:
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        await asyncio.sleep(0)
        self._under_way -= 1
        self.ids.append(command_id)
        if self._failures[name] > 0:
            self._failures[name] -= 1
            raise CommandOutcomeUnknown("the shard was lost")
        self.done.append((name, tuple(arguments)))
        return None


async def test_commands_of_a_flight_keep_their_order_also_when_one_is_retried() -> None:
    execute = Recorder(Counter({"Flights.depart": 2}))
    replay = Replay(DAY, execute)
    await replay.run()
    assert Counter(execute.done) == Counter((event.command, event.arguments) for event in DAY)
    assert execute.done.index(("Flights.depart", (1, None))) < execute.done.index(("Flights.arrive", (1, None)))
    assert execute.done.index(("Flights.depart", (2, None))) < execute.done.index(("Flights.divert", (2, None)))
    assert replay.progress.confirmed == replay.progress.total == len(DAY)
    assert replay.progress.retries == 2


async def test_a_retry_has_the_id_of_the_first_try() -> None:
    execute = Recorder(Counter({"Flights.cancel": 1}))
    await Replay(DAY, execute).run()
    assert sorted(Counter(execute.ids).values()) == [1, 1, 1, 1, 2]


async def test_two_replays_have_no_command_id_in_common() -> None:
    first, second = Recorder(), Recorder()
    await Replay(DAY, first).run()
    await Replay(DAY, second).run()
    assert not set(first.ids) & set(second.ids)


async def test_no_more_commands_are_under_way_than_allowed() -> None:
    execute = Recorder()
    await Replay([FlightEvent(0, flight_id, "cancel") for flight_id in range(50)], execute, concurrency=4).run()
    assert execute.most_at_once == 4


async def test_an_error_that_no_retry_can_help_ends_the_replay() -> None:
    async def refuse(name: str, arguments: Sequence[object], command_id: str) -> object:
        raise InvalidArgument("there is no flight 1", field="flight_id")

    with pytest.raises(InvalidArgument, match="no flight 1"):
        await Replay(DAY, refuse).run()


async def test_a_command_is_not_retried_for_ever() -> None:
    with pytest.raises(CommandOutcomeUnknown):
        await Replay(DAY, Recorder(Counter({"Flights.cancel": 1_000})), retry_for_s=0.0).run()


async def test_confirmed_events_are_reported_in_the_order_of_each_flight() -> None:
    confirmed: list[FlightEvent] = []
    await Replay(DAY, Recorder(), on_confirmed=confirmed.append, concurrency=1).run()
    assert confirmed == DAY
