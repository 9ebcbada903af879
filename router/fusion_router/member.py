"""A member of a cluster: a host with its entrances and links, and one start and one stop.

Shards, gateways and drivers are members that differ in their entrances: a shard has one for links, a gateway one for
clients, a driver none. The reasons for the order of the steps are in docs/adr (the order of a member's start and stop).

Invariant: `stop` undoes whatever `start` has begun, however far it came, in the order of `STOP_ORDER`; a step that
fails, or is cut off by a cancellation, does not prevent the later ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Protocol, Self

from fusion_cluster.database import Database
from fusion_cluster.errors import ShardUnavailable, UsageError
from fusion_cluster.protocol.slot_map import SlotMap
from fusion_router.entrances import Entrance
from fusion_router.host import ClusterHost

logger = logging.getLogger(__name__)

GRACE_S = 2.0
"""How long calls and commands in flight may go on when a member stops."""


class Step(Enum):
    """A part of a member that starts or stops in one step."""

    HOST = "host"
    """(start) Prepare the database, follow the operation log, deliver events."""
    LINKS_ENTRANCE = "entrance for links"
    """(start) Listen, to get an address to register."""
    SLOT_MAP = "slot map"
    """(start) Join: get the first slot map, and follow the newest one. (stop) Stop following it."""
    CLIENTS_ENTRANCE = "entrance for clients"
    """(start) Listen."""
    ENTRANCES = "entrances"
    """(stop) Admit no new callers."""
    EVENTS = "events"
    """(stop) Deliver no more events; running handlers are cancelled, and their committed changes are published."""
    COMMANDS = "commands"
    """(stop) Let the running commands end."""
    SESSIONS = "sessions"
    """(stop) Notify the subscribers that no invalidations will follow."""
    LINKS = "links"
    """(stop) Give up unsent invalidations, and notify the owners that this member leaves."""
    LOG = "log"
    """(stop) Stop following the operation log."""
    GRAPH = "graph"
    """(stop) Cancel running computations."""
    DATABASE = "database"
    """(stop) Close the connections to the database."""


START_ORDER = (Step.HOST, Step.LINKS_ENTRANCE, Step.SLOT_MAP, Step.CLIENTS_ENTRANCE)
"""The steps of a start."""

STOP_ORDER = (
    Step.ENTRANCES,
    Step.EVENTS,
    Step.COMMANDS,
    Step.SESSIONS,
    Step.SLOT_MAP,
    Step.LINKS,
    Step.LOG,
    Step.GRAPH,
    Step.DATABASE,
)
"""The steps of a stop. All of them run, also after a start that has failed half way."""


class SlotMapSource(Protocol):
    """The source of a member's slot maps: the coordinator, as it is reached from here."""

    async def join(self, address: str) -> SlotMap:
        """Return the newest slot map, with this member in it if it is a shard.

        Args:
            address: where it listens for links; "": it does not listen.
        """
        ...

    async def follow(self, host: ClusterHost) -> None:
        """Give the host each newer slot map, until cancelled."""
        ...


class Member:
    """One member.

    Args:
        host: its services.
        entrances: its entrances for callers.
        slot_maps: gives its slot maps; None: its maker sets them.
        database: the database to dispose of at the end; None: the database is shared.
        grace_s: how long running commands may take to end when it stops, in seconds.
        on_step: called with each step as it begins.

    Attributes:
        host: as given.
        address: the address of its first entrance; "" before the start, or if there is none.
    """

    def __init__(
        self,
        host: ClusterHost,
        *,
        entrances: Sequence[Entrance] = (),
        slot_maps: SlotMapSource | None = None,
        database: Database | None = None,
        grace_s: float = GRACE_S,
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        self.host = host
        self.address = ""
        self._entrances = tuple(entrances)
        self._slot_maps = slot_maps
        self._database = database
        self._grace_s = grace_s
        self._on_step = on_step or (lambda step: None)
        self._runtime = host.runtime
        # Both run to their ends, even if their waiters are cancelled.
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        # Set when the stop does not wait for running commands any more.
        self._is_hurried = asyncio.Event()

    async def start(self) -> None:
        """Start it. If that fails or is cancelled, the started parts are stopped before the error is raised.

        Raises:
            UsageError: it was started or stopped before, or cannot listen on its address.
            ShardUnavailable: it was stopped while it started.
            Exception: the database or the coordinator cannot be reached.
        """
        if self._starting is not None or self._stopping is not None:
            raise UsageError("a member is started once: make another one")
        starting = self._starting = self._runtime.create_task(self._start(), name=f"start {self.host.peer_id}")
        try:
            await asyncio.wait([starting])
        except asyncio.CancelledError:
            await self._stopped_quietly()
            raise
        if starting.cancelled():
            await self._stopped_quietly()
            raise ShardUnavailable(f"{self.host.peer_id} was stopped while it started")
        if (error := starting.exception()) is not None:
            await self._stopped_quietly()
            raise error

    async def stop(self) -> None:
        """Stop it. A start in progress is cut off. A second call waits for the same stop.

        A cancellation ends the wait for running commands. The stop goes on to its end all the same, and the
        cancellation is raised after it.

        Raises:
            Exception: the error of the first step that failed; the other steps have run.
        """
        if self.host.graph.is_forked:
            return  # a copy, in a forked process, stops nothing
        if self._stopping is None:
            self._stopping = self._runtime.create_task(self._stop(), name=f"stop {self.host.peer_id}")
        cancellation: asyncio.CancelledError | None = None
        while not self._stopping.done():
            try:
                await asyncio.wait([self._stopping])
            except asyncio.CancelledError as error:
                cancellation = error
                self._is_hurried.set()
        if cancellation is not None:
            raise cancellation
        self._stopping.result()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- starting ------------------------------------------------------------------------------------------------------
    async def _start(self) -> None:
        for step in START_ORDER:
            self._on_step(step)
            await self._start_step(step)

    async def _stopped_quietly(self) -> None:
        """Stop after a start that has failed; the caller gets the error of the start."""
        try:
            await self.stop()
        except Exception:
            logger.warning("%s could not be stopped in good order", self.host.peer_id, exc_info=True)

    async def _start_step(self, step: Step) -> None:
        match step:
            case Step.HOST:
                await self.host.start()
            case Step.LINKS_ENTRANCE:
                await self._open(for_members=True)
            case Step.CLIENTS_ENTRANCE:
                await self._open(for_members=False)
            case Step.SLOT_MAP if self._slot_maps is not None:
                self.host.set_slot_map(await self._slot_maps.join(self.address))
                self._following = self._runtime.create_task(
                    self._slot_maps.follow(self.host), name=f"follow the slot map for {self.host.peer_id}"
                )

    async def _open(self, *, for_members: bool) -> None:
        for entrance in self._entrances:
            if entrance.is_for_members == for_members:
                address = await entrance.open()
                self.address = self.address or address

    # -- stopping ------------------------------------------------------------------------------------------------------
    async def _stop(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        failure: BaseException | None = None
        for step in STOP_ORDER:
            try:
                self._on_step(step)
                await self._stop_step(step)
            except BaseException as error:  # also a cancellation: the event loop ends, and the rest must be closed
                logger.debug("%s: stopping its %s: %r", self.host.peer_id, step.value, error)
                failure = failure or error
        if failure is not None:
            raise failure

    async def _stop_step(self, step: Step) -> None:
        host = self.host
        match step:
            case Step.ENTRANCES:
                await self._of_all(lambda entrance: entrance.leave())
            case Step.EVENTS:
                await host.stop_delivering()
            case Step.COMMANDS:
                await self._drain()
            case Step.SESSIONS:
                await self._of_all(lambda entrance: entrance.close())
            case Step.SLOT_MAP if self._following is not None:
                self._following.cancel()
                await asyncio.wait([self._following])
            case Step.LINKS:
                await host.leave()
                await self._of_all(lambda entrance: entrance.ended())
            case Step.LOG:
                await host.stop_following()
            case Step.GRAPH:
                await host.close_graph()
            case Step.DATABASE if self._database is not None:
                await self._database.dispose()

    async def _drain(self) -> None:
        """Give running commands their time, unless the stop was cancelled."""
        drain = self._of_all(lambda entrance: entrance.drain(self._grace_s))
        drains = self._runtime.create_task(drain, name="drain the entrances")
        hurry = self._runtime.create_task(self._is_hurried.wait(), name="hear of a hurry")
        try:
            await asyncio.wait([drains, hurry], return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            drains.cancel()
            await asyncio.wait([drains, hurry])
        if not drains.cancelled():
            drains.result()

    async def _of_all(self, action: Callable[[Entrance], Coroutine[Any, Any, None]]) -> None:
        """Run an action on all entrances at once, and raise the first failure when all are done."""
        await self._runtime.gather((action(entrance) for entrance in self._entrances), name="all entrances")
