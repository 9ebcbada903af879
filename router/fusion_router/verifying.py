"""Verification among members in one process: each calls the others directly.

Invariant: a member that has left is not called; its peers hear that it does not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.verification import Answer, CachedKey, Look
from fusion_router.host import ClusterHost


class LocalPeers:
    """The other members in this process (a `verification.Peers`).

    Args:
        own: the host whose peers they are.
        hosts: returns the hosts of all members that run.
    """

    def __init__(self, own: ClusterHost, hosts: Callable[[], Sequence[ClusterHost]]) -> None:
        self._own = own
        self._hosts = hosts

    def members(self) -> Sequence[str]:
        """Return the names of the other members."""
        return [host.peer_id for host in self._hosts() if host is not self._own]

    async def look(self, member: str, keys: Sequence[CachedKey]) -> Sequence[Look]:
        """Return what a member has cached of some keys."""
        return self._found(lambda host: host.peer_id == member, member).verification.verifier.look(keys)

    async def answer(self, owner: int, looks: Sequence[Look]) -> Sequence[Answer]:
        """Let the owner of some keys compare them."""
        host = self._found(lambda host: host.shard_id == owner, f"shard {owner}")
        return await host.verification.verifier.answer(looks)

    def _found(self, is_meant: Callable[[ClusterHost], bool], name: str) -> ClusterHost:
        for host in self._hosts():
            if is_meant(host):
                return host
        raise ShardUnavailable(f"{name} does not run")
