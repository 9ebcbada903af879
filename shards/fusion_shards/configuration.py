"""Messages between the launcher and the actors: the configuration of an app, and the status of its members."""

from __future__ import annotations

import math
import os
import resource

import msgspec

from fusion_cluster.protocol.coordination import Role
from fusion_cluster.protocol.slot_map import ShardAddress


class AppConfiguration(msgspec.Struct, frozen=True):
    """One launched app, the same for each of its actors.

    Attributes:
        app_path: "module:attribute" to import the app from.
        app_name: the app's own name.
        namespace: the Ray namespace its actors live in.
        sys_path: folders the launcher could import from.
        folder: the launcher's current folder; members on machines that have this folder work in it too, so that a
            relative path means the same everywhere.
        environment: variables to set before the app is imported.
        secret: the cluster secret that links prove.
        shards: how many shards.
        gateways: how many gateways.
        grpc_host: address the gateways bind to.
        grpc_port: port of each gateway on a machine of its own (one that offers `fusion_gateway`), else gateway i
            listens on `grpc_port + i`; 0: any free port for each.
        insecure: gateways may bind to other than loopback addresses without credentials.
        max_nodes: bound on each member's graph.
        max_bytes: the same in bytes, by estimate.
        read_lease_s: how long replicas may be served without hearing from their owner.
        call_timeout_s: how long a read or command may take, retries included.
        verify_rate: how many cached values a second each member verifies; 0: as the app says.
        cpus_per_shard: CPUs Ray sets aside for each shard, and for each gateway.
    """

    app_path: str
    app_name: str
    namespace: str
    secret: bytes
    sys_path: tuple[str, ...] = ()
    folder: str = ""
    environment: dict[str, str] = {}
    shards: int = 2
    gateways: int = 1
    grpc_host: str = "127.0.0.1"
    grpc_port: int = 50051
    insecure: bool = False
    max_nodes: int = 1_000_000
    max_bytes: float = math.inf
    read_lease_s: float = 3.0
    call_timeout_s: float = 10.0
    verify_rate: float = 0.0
    cpus_per_shard: float = 1.0

    def gateway_port(self, gateway_id: int, *, has_own_host: bool) -> int:
        """The port that a gateway listens on; 0: any free one."""
        return self.grpc_port if has_own_host or not self.grpc_port else self.grpc_port + gateway_id


class MemberDescription(msgspec.Struct, frozen=True):
    """The description that a serving member sends to the coordinator.

    Attributes:
        epoch: its incarnation.
        address: where a shard listens; None for a gateway.
    """

    epoch: int
    address: ShardAddress | None = None


class MemberStatus(msgspec.Struct, frozen=True):
    """The status of one shard or gateway, as it reports it.

    Attributes:
        role: "shard" or "gateway".
        member_id: its number among its kind.
        epoch: its incarnation; it rises with each restart. 0 while it is down.
        address: where it listens.
        pid: its process.
        slots: slots it owns.
        nodes: cached results, replicas included.
        hits: reads answered from the graph.
        computations: bodies run and replicas fetched.
        invalidations: computeds that went out of date.
        evictions: computeds removed to keep the bound on nodes.
        subscriptions: computeds others hold replicas of.
        sessions: sessions it serves.
        memory_bytes: resident memory of its process.
    """

    role: Role
    member_id: int
    epoch: int = 0
    address: str = ""
    pid: int = 0
    slots: int = 0
    nodes: int = 0
    hits: int = 0
    computations: int = 0
    invalidations: int = 0
    evictions: int = 0
    subscriptions: int = 0
    sessions: int = 0
    memory_bytes: int = 0

    @property
    def is_up(self) -> bool:
        """Whether it answered."""
        return self.pid != 0


class ClusterStatus(msgspec.Struct, frozen=True):
    """The status of an app, as its coordinator knows it.

    Attributes:
        app_name: the app.
        slot_map_version: version of the map in force.
        members: shards, then gateways; a member that is down has only its role and number.
    """

    app_name: str
    slot_map_version: int
    members: tuple[MemberStatus, ...]

    @property
    def gateway_addresses(self) -> tuple[str, ...]:
        """The addresses of the gateways that are up."""
        return tuple(member.address for member in self.members if member.role == "gateway" and member.is_up)


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
