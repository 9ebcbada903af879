"""Members of a cluster in processes of their own, made by forking one that has imported all they need.

`python -m tests.processes.member_process` takes the description of a member from each line of its standard input, and
forks. A member speaks with `tests.processes.process_cluster` in lines of JSON over a Unix socket, and ends when that is
closed. Everything else in it is as in a shard, or a gateway, that Ray runs.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fusion_cluster.host import Host
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.tcp import dial_tcp
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_router.entrances import Entrance, LinkEntrance
from fusion_router.gateway import GatewayEntrance
from fusion_router.host import ClusterHost
from fusion_router.member import Member, Step
from tests.apps.bank import bank_app
from tests.faults.crash_points import arm

SECRET = b"the secret of the test"


@dataclass(frozen=True)
class Description:
    """What a member is to be.

    Attributes:
        role: what it serves.
        member_id: its number among its kind.
        epoch: its incarnation.
        url: of the bank's database.
        control: path of the socket over which it is told what to do.
        read_lease_s: how long replicas may be served without hearing from their owner.
        call_timeout_s: how long a call may take.
        address: where a gateway is to listen.
        follows_log: whether it reads the operation log.
        crash_point: where it dies, from its start on; "": nowhere.
    """

    role: Literal["shard", "gateway"]
    member_id: int
    epoch: int
    url: str
    control: str
    read_lease_s: float
    call_timeout_s: float
    address: str = "127.0.0.1:0"
    follows_log: bool = True
    crash_point: str = ""

    @property
    def name(self) -> str:
        """Names the process to others."""
        return f"{self.role}-{self.member_id}.{self.epoch}"

    def encode(self) -> bytes:
        """The description as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


async def dial(address: ShardAddress) -> Carrier:
    """Open a link to a shard."""
    return await dial_tcp(address.host, address.port)


def cached(host: Host) -> list[tuple[str, list[Any], Any, str | None]]:
    """All that a read of this process would be served without asking anybody: method, arguments, value, error."""
    return [
        (
            name,
            list(node.arguments),
            node.value if node.error is None else None,
            None if node.error is None else f"{type(node.error).__name__}: {node.error}",
        )
        for name, function in host.graph.functions.items()
        for node in function.all_nodes()
        if node.is_consistent
    ]


class MemberInProcess:
    """The member of the cluster that this process is."""

    def __init__(self, description: Description) -> None:
        self._description = description
        is_shard = description.role == "shard"
        self._host = ClusterHost(
            bank_app(description.url, follows_log=description.follows_log),
            dial=dial,
            peer_id=description.name,
            secret=SECRET,
            shard_id=description.member_id if is_shard else None,
            epoch=description.epoch,
            read_lease_s=description.read_lease_s,
            call_timeout_s=description.call_timeout_s,
        )
        self._entrance: Entrance = (
            LinkEntrance(self._host, secret=SECRET)
            if is_shard
            else GatewayEntrance(self._host, address=description.address)
        )
        self._member = Member(self._host, entrances=[self._entrance], on_step=self._on_step)

    def _on_step(self, step: Step) -> None:
        if step is Step.LINKS_ENTRANCE and self._description.crash_point:
            arm(self._description.crash_point)  # now that the host has started

    async def run(self) -> None:
        """Serve, and do what one is told, until the other end closes the socket."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._description.control, limit=2**26)
        except OSError:
            return  # the test is over

        def say(**what: Any) -> None:
            writer.write(json.dumps(what).encode() + b"\n")

        who = self._description
        say(role=who.role, member_id=who.member_id, epoch=who.epoch, pid=os.getpid())
        await self._member.start()
        say(address=self._member.address)
        while line := await reader.readline():
            say(answer=await self._do(**json.loads(line)))

    async def _do(self, what: str, argument: Any) -> Any:
        if what == "slot map":
            self._host.set_slot_map(SlotMap.decode(base64.b64decode(argument)))
        elif what == "cached":
            return cached(self._host)
        elif what == "follower":
            follower = None if self._host.log is None else self._host.log.follower
            return None if follower is None else [follower.read_count, follower.entry_count]
        elif what == "pragma":
            database = self._host.app.database
            assert database is not None
            async with database.engines().writing.connect() as connection:
                raw: Any = await connection.get_raw_connection()
                async with raw.driver_connection.execute(f"PRAGMA {argument}") as cursor:
                    await cursor.fetchall()
        elif what == "limit file size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (argument, resource.RLIM_INFINITY))
        elif what == "arm":
            arm(argument)
        elif what == "arm to stop":
            arm(argument, stops=True)
        elif what == "finish commands":
            await self._entrance.drain(argument)
        else:
            raise ValueError(what)
        return None


async def be_member(description: Description) -> None:
    """Be a member, to the end."""
    await MemberInProcess(description).run()


def main(lines: Iterable[str]) -> None:
    """Fork a member for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in lines:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                asyncio.run(be_member(Description(**json.loads(line))))
            except Exception:
                traceback.print_exc()
            finally:
                logging.shutdown()
                os._exit(0)


if __name__ == "__main__":
    logging.basicConfig(
        level=os.environ.get("FUSION_LOG_LEVEL", "ERROR"), format="%(asctime)s %(process)d %(name)s: %(message)s"
    )
    main(sys.stdin)
