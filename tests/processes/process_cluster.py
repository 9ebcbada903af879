"""A cluster of real processes without Ray: shards and gateways, each of which can be killed and is back at once.

The supervisor lives in the test. It runs the coordination core as the coordinator does; its control plane forks
processes, and sees at the closed socket that one has died.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fusion_cluster.protocol.coordination import Coordination, Died, MemberId, Role, Served, StopAsked, Stopped
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_router.coordinating import CoordinationLoop, Report
from fusion_router.host import ClusterHost
from fusion_router.member import Member
from tests.apps.bank import ACCOUNTS, Accounts, Books, Branches, bank_app
from tests.processes.member_process import SECRET, Description, cached, dial
from tests.waiting import until, until_so

START_S = 15.0
"""How long a member may take to start, on a machine that has much to do."""

RESTART_PAUSE_S = 0.2
"""Pause before a member that could not start is started again."""


class MemberProcess:
    """A member that runs, as its supervisor knows it.

    Attributes:
        pid: its process.
        epoch: its incarnation.
        address: where it serves.
    """

    def __init__(self, pid: int, epoch: int, address: str, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.epoch = epoch
        self.address = address
        self._writer = writer
        # Who waits for the answers, in the order of the questions.
        self._asked: deque[asyncio.Future[Any]] = deque()

    def ask(self, what: str, argument: Any = None) -> asyncio.Future[Any]:
        """Let it do something; the future is done when it has, and is cancelled when it dies before."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._writer.write(json.dumps({"what": what, "argument": argument}).encode() + b"\n")
        return answer

    def on_answer(self, answer: Any) -> None:
        """It has answered the oldest question."""
        asked = self._asked.popleft()
        if not asked.done():
            asked.set_result(answer)

    def on_died(self) -> None:
        """It will not answer any more."""
        for asked in self._asked:
            asked.cancel()

    @property
    def is_stopped(self) -> bool:
        """It has been stopped, and does not go on."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        """Let it go on after it was stopped."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class ProcessCluster:
    """The bank on several shards and behind a gateway, each a process.

    Args:
        zygote: forks members.
        url: of the bank's database.
        shards: how many.
        gateways: how many.
        read_lease_s: how long replicas may be served without hearing from their owner.
        call_timeout_s: how long a call may take, retries included.
        follows_log: whether shards read the operation log.

    Attributes:
        members: those that run now.
        crash_points: where the successors of a shard are to die, in turn.
        deaths: how many have died so far.
        host: a driver in this process.
    """

    host: ClusterHost

    def __init__(
        self,
        zygote: subprocess.Popen[bytes],
        url: str,
        *,
        shards: int = 3,
        gateways: int = 0,
        read_lease_s: float = 0.5,
        call_timeout_s: float = 10.0,
        follows_log: bool = True,
    ) -> None:
        self._zygote = zygote
        self._url = url
        self._read_lease_s = read_lease_s
        self._call_timeout_s = call_timeout_s
        self._follows_log = follows_log
        self.crash_points: dict[int, list[str]] = {}
        self._shards = shards
        self._gateways = gateways
        self._coordination: CoordinationLoop
        self.members: dict[tuple[Role, int], MemberProcess] = {}
        self.deaths = 0
        # Where clients expect each gateway.
        self._addresses: dict[int, str] = {}
        self._replaced: list[MemberProcess] = []
        self._drivers: list[ClusterHost] = []
        self._folder = tempfile.TemporaryDirectory(prefix="fusion-control-")
        self._control = str(Path(self._folder.name) / "control")
        self._server: asyncio.Server
        self._conversations: set[asyncio.Task[None]] = set()
        self._is_closing = False
        # Where to report what becomes of each member.
        self._reports: dict[MemberId, Report] = {}

    def gateway_address(self, gateway_id: int = 0) -> str:
        """Where clients connect; its successors have the same."""
        return self._addresses[gateway_id]

    @property
    def slot_map(self) -> SlotMap:
        """The map in force."""
        return self._coordination.slot_map

    def shard(self, shard_id: int) -> MemberProcess:
        """A shard that runs."""
        return self.members["shard", shard_id]

    def owner(self, name: str, *arguments: object) -> int:
        """The shard that owns a key, by the method's full name."""
        return self.slot_map.owners[self.host.app.methods[name].slot(arguments)]

    async def ask_shards(self, what: str, argument: Any = None) -> None:
        """Let all shards do something."""
        await asyncio.gather(
            *(member.ask(what, argument) for (role, _), member in self.members.items() if role == "shard")
        )

    async def until_up(self) -> None:
        """Wait until all that were killed are back."""
        await until(lambda: self._coordination.coordination.is_up, timeout_s=START_S, what="the start of all members")

    async def cached(self) -> dict[str, list[Any]]:
        """All that reads would be served now without asking anybody, by process."""
        found: dict[str, list[Any]] = {
            f"{role} {member_id}": await asyncio.wait_for(member.ask("cached"), START_S)
            for (role, member_id), member in self.members.items()
        }
        found.update((driver.peer_id, cached(driver)) for driver in self._drivers)
        return found

    async def check(self, books: Books) -> int:
        """See that all cached values are what the database says; returns how many there are."""
        count = 0
        for process, entries in (await self.cached()).items():
            for method, arguments, value, error in entries:
                assert error is None, f"{process} keeps {method}{arguments} as {error}"
                expected = books.value(method, arguments)
                assert value == expected, f"{process} would serve {method}{arguments} as {value}, it is {expected}"
                count += 1
        return count

    async def until_nothing_is_stale(self, books: Books, *, within_s: float) -> None:
        """Wait until `check` succeeds."""

        async def is_so() -> bool:
            with contextlib.suppress(AssertionError):
                await self.check(books)
                return True
            return False

        with contextlib.suppress(AssertionError):
            await until_so(is_so, timeout_s=within_s)
        await self.check(books)

    async def read_all(self) -> None:
        """Have everything cached: in the driver, and at the shards that the sums and their parts live on."""
        branches, accounts = self.host.service(Branches), self.host.service(Accounts)
        await branches.all()
        for account in range(ACCOUNTS):
            await accounts.balance(account)
            await accounts.deposits(account)

    def new_driver(self, name: str) -> ClusterHost:
        """One more member without slots, in this process."""
        driver = ClusterHost(
            bank_app(self._url),
            dial=dial,
            peer_id=name,
            secret=SECRET,
            read_lease_s=self._read_lease_s,
            call_timeout_s=self._call_timeout_s,
        )

        def on_map(slot_map: SlotMap) -> bool:
            driver.set_slot_map(slot_map)
            return True

        self._coordination.follow(on_map)
        self._drivers.append(driver)
        return driver

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._on_connected, self._control, limit=2**26)
        coordination = Coordination(shards=self._shards, gateways=self._gateways, death_pause_s=RESTART_PAUSE_S)
        self._coordination = CoordinationLoop(coordination, self)
        self._coordination.begin()
        try:
            await asyncio.wait_for(self._coordination.wait_until_launched(), START_S)
        except BaseException:
            await self._close()
            raise
        self.host = self.new_driver("driver")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for driver in self._drivers:
            if error is None:
                driver.graph.validate()
            await Member(driver, database=driver.app.database).stop()
        await self._close()

    async def _close(self) -> None:
        self._coordination.report(StopAsked())
        self._coordination.close()
        for member in self._replaced:
            member.kill()
        self._server.close()
        if self._conversations:
            await asyncio.wait(self._conversations, timeout=START_S)
        self._folder.cleanup()

    # -- the control plane ---------------------------------------------------------------------------------------------
    def start(self, member: MemberId, report: Report) -> None:
        """Fork a member, in an epoch that is asked for in its name."""
        self._reports[member] = report
        self._coordination.ask_epoch(member, lambda epoch: self._fork(member, epoch))

    def kill(self, member: MemberId) -> None:
        """Never needed: a process that cannot serve ends."""
        raise AssertionError(f"{member} was not reported as one that cannot start")

    def stop(self, member: MemberId, report: Report) -> None:
        """Kill a member; one that is just starting is killed when it is there."""
        self._is_closing = True
        if (process := self.members.get(member)) is not None:
            process.kill()
        report(Stopped(member))

    def _fork(self, member: MemberId, epoch: int) -> None:
        role, member_id = member
        description = Description(
            role=role,
            member_id=member_id,
            epoch=epoch,
            url=self._url,
            control=self._control,
            read_lease_s=self._read_lease_s,
            call_timeout_s=self._call_timeout_s,
            address=self._addresses.get(member_id, "127.0.0.1:0") if role == "gateway" else "",
            follows_log=self._follows_log,
            crash_point=points.pop(0) if role == "shard" and (points := self.crash_points.get(member_id)) else "",
        )
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(description.encode())
        self._zygote.stdin.flush()

    async def _on_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        try:
            await self._converse(reader, writer)
        finally:
            self._conversations.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await _line(reader)
        if hello is None:
            return
        member, epoch = MemberId(hello["role"], hello["member_id"]), hello["epoch"]
        if (started := await _line(reader)) is not None:
            process = MemberProcess(hello["pid"], epoch, started["address"], writer)
            self._on_started(member, process)
            while (answer := await _line(reader)) is not None:
                process.on_answer(answer["answer"])
            process.on_died()
            if self.members.get(member) is not process:
                return  # it had a successor
            del self.members[member]
        self.deaths += 1
        self._reports[member](Died(member, epoch if started is not None else 0))

    def replace(self, shard_id: int) -> MemberProcess:
        """Take a shard for dead, as one that is silent: it gets a successor. Gives the process, which runs on."""
        member = MemberId("shard", shard_id)
        replaced = self.members.pop(member)
        self._replaced.append(replaced)
        self._reports[member](Died(member, replaced.epoch))
        return replaced

    def _on_started(self, member: MemberId, process: MemberProcess) -> None:
        if self._is_closing:
            process.kill()
            return
        self.members[member] = process
        address = None
        if member.role == "gateway":
            self._addresses[member.number] = process.address
        else:
            host, _, port = process.address.rpartition(":")
            address = ShardAddress(member.number, host, int(port), process.epoch)
        self._reports[member](Served(member, process.epoch, address))

        def on_map(slot_map: SlotMap) -> bool:
            if self.members.get(member) is not process:
                return False
            process.ask("slot map", base64.b64encode(slot_map.encode()).decode())
            return True

        self._coordination.follow(on_map)


async def _line(reader: asyncio.StreamReader) -> Any:
    """The next line; None: the other end is gone."""
    try:
        line = await reader.readline()
        return json.loads(line) if line.endswith(b"\n") else None
    except ConnectionError:
        return None
