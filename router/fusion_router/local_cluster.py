"""A whole cluster in one process and event loop: shards as hosts, links in memory.

All of it is the production code except the carriers and the processes, so a test of a service's sharded behaviour runs
in milliseconds. Public as `fusion_cluster.testing.LocalCluster`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

from fusion_cluster.app import App
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.catalogue.slots import SLOT_COUNT
from fusion_cluster.errors import InvariantViolation, UsageError
from fusion_cluster.graph import DEFAULT_HISTORY
from fusion_cluster.graph.computing.retention import NODE_BYTES
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.memory import MemoryCarrier, memory_pair
from fusion_cluster.protocol.coordination import Coordination, Died, MemberId, Served, StopAsked, Stopped
from fusion_cluster.protocol.lease import as_read_lease
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_cluster.quantities import LONGEST_S, as_count, as_finite_timeout, as_number
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.strict import Strictness, choose_strict, raise_findings
from fusion_cluster.verification import VerificationReport, VerifyOptions, merged
from fusion_router.coordinating import CoordinationLoop, Report
from fusion_router.entrances import Entrance
from fusion_router.host import ClusterHost
from fusion_router.member import Member
from fusion_router.verifying import LocalPeers

S = TypeVar("S", bound=ComputeService)

SECRET = b"a local cluster has no outside"


class LocalShard:
    """One shard of a local cluster: a member whose entrance is in memory.

    Attributes:
        address: its address in the slot map.
        host: its services.
        serving: answers its callers.
        acceptor: holds their sessions.
        member: the member that it is.
    """

    def __init__(self, address: ShardAddress, host: ClusterHost) -> None:
        self.address = address
        self.host = host
        entrance = Entrance(host, secret=SECRET)
        self.serving, self.acceptor = entrance.serving, entrance.acceptor
        self.member = Member(host, entrances=[entrance], grace_s=0.0)


class HeldStarts:
    """The control plane of shards in one process: they start when `LocalCluster` starts them.

    Attributes:
        held: shards that are to start: shard id → the function that takes the reports of its life.
    """

    def __init__(self) -> None:
        self.held: dict[int, Report] = {}
        self._stopping: list[tuple[MemberId, Report]] = []

    def start(self, member: MemberId, report: Report) -> None:
        """Hold the start of a shard until `LocalCluster` starts it."""
        self.held[member.number] = report

    def kill(self, member: MemberId) -> None:
        """Never needed: a shard that cannot start raises its error in `start_shard`."""
        raise InvariantViolation(f"{member} was not reported as one that cannot start")

    def stop(self, member: MemberId, report: Report) -> None:
        """Note that a shard is to stop; `LocalCluster` closes all of them."""
        self._stopping.append((member, report))

    def report_stopped(self) -> None:
        """Report that all shards have stopped."""
        for member, report in self._stopping:
            report(Stopped(member))


class LocalCluster:
    """An app on several shards in this process.

    Args:
        app: the app; its database is shared by the shards and disposed of at the end.
        shards: how many.
        read_lease_s: how long replicas may be served without hearing from their owner.
        call_timeout_s: how long a read or command may take, retries included.
        max_nodes: bound on each member's graph.
        max_bytes: the same in bytes, by estimate.
        history: how many of its last events each member's graph keeps, for `why` and `story`.
        strict: values pass through their codecs, and must stay what they were (see `App.local`). None: what
            `FUSION_STRICT` says (0 or 1), else True.
        runtime: the clock, the random numbers and the tasks of all members. With a `VirtualRuntime`, in an event loop
            whose time jumps, hours pass in milliseconds.

    Example:
        >>> async with LocalCluster(app, shards=3) as cluster:
        ...     carts = cluster.service(Carts)
        ...     await carts.total("c1")
    """

    def __init__(
        self,
        app: App,
        *,
        shards: int = 3,
        read_lease_s: float = 3.0,
        call_timeout_s: float = 10.0,
        max_nodes: int = 1_000_000,
        max_bytes: float = math.inf,
        history: int = DEFAULT_HISTORY,
        strict: bool | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        shards = as_count("shards", shards, most=SLOT_COUNT)
        self.app = app
        self.runtime = runtime
        self.read_lease_s = as_read_lease(read_lease_s)
        self.slot_map = SlotMap.even(range(shards))
        self._call_timeout_s = as_finite_timeout("call_timeout_s", call_timeout_s)
        self._max_nodes = as_count("max_nodes", max_nodes)
        self._max_bytes = as_number("max_bytes", max_bytes, least=NODE_BYTES)
        self._history = as_count("history", history, least=0)
        self._is_strict = choose_strict(strict, default=True)
        self._strict: list[Strictness] = []
        """Of each member that there was."""
        self._shard_count = shards
        self._plane = HeldStarts()
        self._coordination: CoordinationLoop
        self._hosts: list[ClusterHost] = []
        self._links: dict[int, list[MemoryCarrier]] = {}
        # Shard id -> the shard, while it runs.
        self.shards: dict[int, LocalShard] = {}
        self._driver: ClusterHost | None = None
        self._is_open = self._was_opened = False

    @property
    def host(self) -> ClusterHost:
        """The host of the driver, a member that owns nothing.

        Raises:
            UsageError: the cluster was not opened, or is closed.
        """
        self._require_open()
        assert self._driver is not None
        return self._driver

    @property
    def hosts(self) -> Sequence[ClusterHost]:
        """The hosts of all members: of the running shards, of the driver, and from `new_host`."""
        return tuple(self._hosts)

    def service(self, service: type[S]) -> S:
        """Return a service as a driver of the cluster sees it: every call goes to the shard that owns its key."""
        return self.host.service(service)

    def owner(self, name: str, *arguments: object) -> LocalShard:
        """Return the shard that owns a key, by the method's full name ("Carts.total") and its canonical arguments.

        Raises:
            UsageError: that shard does not run now, or the cluster is not open.
        """
        self._require_open()
        shard_id = self.slot_map.owners[self.app.methods[name].slot(arguments)]
        shard = self.shards.get(shard_id)
        if shard is None:
            raise UsageError(f"shard {shard_id}, the owner of {name}{arguments!r}, does not run")
        return shard

    def new_host(self, peer_id: str, *, shard_id: int | None = None, epoch: int = 0) -> ClusterHost:
        """Add a member and return its host: for a driver or a gateway. It is closed with the cluster."""
        self._require_open()
        host = ClusterHost(
            self.app,
            dial=self._dial,
            peer_id=peer_id,
            secret=SECRET,
            shard_id=shard_id,
            epoch=epoch,
            read_lease_s=self.read_lease_s,
            call_timeout_s=self._call_timeout_s,
            max_nodes=self._max_nodes,
            max_bytes=self._max_bytes,
            history=self._history,
            strict=self._is_strict,
            runtime=self.runtime,
        )
        if host.strict is not None:
            self._strict.append(host.strict)
        host.set_slot_map(self.slot_map)
        host.verification.join(LocalPeers(host, lambda: self._hosts))
        self._hosts.append(host)
        return host

    async def start_shard(self, shard_id: int) -> None:
        """Start a shard, or start it again after `kill_shard`: with a new epoch and an empty graph."""
        self._require_open()
        report = self._plane.held.pop(shard_id, None)
        if report is None:
            raise UsageError(f"shard {shard_id!r} {self._what_runs(shard_id)}", field="shard_id")
        member = MemberId("shard", shard_id)
        host: ClusterHost | None = None
        try:
            epoch = await self._coordination.next_epoch(member)
            host = self.new_host(f"shard-{shard_id}.{epoch}", shard_id=shard_id, epoch=epoch)
            shard = LocalShard(ShardAddress(shard_id, "memory", shard_id + 1, epoch), host)
            await shard.member.start()
        except BaseException:
            self._plane.held[shard_id] = report
            if host is not None:
                self._hosts.remove(host)
            raise
        host.verification.start()
        self.shards[shard_id] = shard
        report(Served(member, shard.address.epoch, shard.address))

    async def kill_shard(self, shard_id: int) -> None:
        """Stop a shard as if its process had died: its sessions and its graph are gone."""
        self._require_open()
        if shard_id not in self.shards:
            raise UsageError(f"shard {shard_id!r} {self._what_runs(shard_id)}", field="shard_id")
        shard = self.shards.pop(shard_id)
        self.cut_links(shard_id)
        self._hosts.remove(shard.host)
        self._coordination.report(Died(MemberId("shard", shard_id), shard.address.epoch))
        await shard.member.stop()

    def cut_links(self, shard_id: int) -> None:
        """Lose all connections to a shard, and all frames in flight on them; its callers dial again."""
        for link in self._links.get(shard_id, ()):
            link.cut()

    def hold_links(self, shard_id: int) -> None:
        """Hold everything that a shard sends, as if its callers' processes were stopped."""
        for link in self._links.get(shard_id, ()):
            link.hold()

    def release_links(self, shard_id: int) -> None:
        """Deliver the held frames."""
        for link in self._links.get(shard_id, ()):
            link.release()

    async def verify(self, seconds: float | None = None, options: VerifyOptions | None = None) -> VerificationReport:
        """Compare what all members have cached with what the methods return now (see `verification.Verification.run`).

        In a test of an app, at the end of what it does: a command that changes a row and forgets to invalidate the
        method that reads it is found, if the result is cached anywhere.

        Raises:
            InvalidArgument: `seconds` is not a number, 0 or more, or is more than a hundred years.
        """
        if seconds is not None:
            seconds = as_number("seconds", seconds, most=LONGEST_S)
        runs = (host.verification.run(seconds, options) for host in self._hosts)
        return merged(await self.runtime.gather(runs, name="verify cached values"))

    async def __aenter__(self) -> Self:
        if self._was_opened:
            raise UsageError(f"{self._name} was opened before: make another one")
        self._is_open = self._was_opened = True
        self._coordination = CoordinationLoop(Coordination(shards=self._shard_count, gateways=0), self._plane)
        self._coordination.begin()
        self._coordination.follow(self._publish)
        try:
            for shard_id in range(self._shard_count):
                await self.start_shard(shard_id)
        except BaseException:
            await self._close()
            raise
        self._driver = self.new_host("driver")
        self._driver.verification.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.host.graph.is_forked:
            return  # a copy: the process was forked in the block
        try:
            if error is None:
                self.validate()
        finally:
            await self._close()
        if error is None:
            raise_findings(self._strict)

    async def _close(self) -> None:
        """Stop all members: first those that only make calls, then the shards.

        A member that fails to stop does not prevent the others.
        """
        self._is_open = False
        self._coordination.report(StopAsked())
        self._coordination.close()
        shards = {shard.host: shard for shard in self.shards.values()}
        others = [Member(host) for host in self._hosts if host not in shards]
        async with AsyncExitStack() as steps:  # the last one is made first
            if self.app.database is not None:
                steps.push_async_callback(self.app.database.dispose)
            steps.callback(self._plane.report_stopped)
            # Together: none waits for another one that is gone by then.
            stops = (shard.member.stop() for shard in shards.values())
            steps.push_async_callback(self.runtime.gather, stops, name="stop a shard")
            steps.push_async_callback(self.runtime.gather, (one.stop() for one in others), name="stop a driver")

    def validate(self) -> None:
        """Check the invariants of every member's graph."""
        for host in self._hosts:
            host.graph.validate()

    @property
    def _name(self) -> str:
        return f"the LocalCluster of the app {self.app.name!r}"

    def _require_open(self) -> None:
        if not self._is_open:
            text = (
                "is closed" if self._was_opened else "is not open: use it in `async with LocalCluster(app) as cluster`"
            )
            raise UsageError(f"{self._name} {text}")

    def _what_runs(self, shard_id: int) -> str:
        running = ", ".join(map(str, sorted(self.shards))) or "none"
        is_there = shard_id in range(self._shard_count)
        what = "runs" if shard_id in self.shards else "does not run" if is_there else "is not there"
        return f"{what}; of {self._shard_count} shards there run {running}"

    def _publish(self, slot_map: SlotMap) -> bool:
        self.slot_map = slot_map
        for host in self._hosts:
            host.set_slot_map(slot_map)
        return True

    async def _dial(self, address: ShardAddress) -> Carrier:
        shard = self.shards.get(address.shard_id)
        if shard is None or shard.address != address:
            raise ConnectionRefusedError(f"shard {address.shard_id} does not run")
        ours, theirs = memory_pair()
        shard.acceptor.accept(theirs)
        # The caller's ends of the open links to this shard.
        links = [link for link in self._links.get(address.shard_id, ()) if not link.is_closed]
        self._links[address.shard_id] = [*links, ours]
        return ours
