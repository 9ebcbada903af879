"""Probes on the wire: `edge_chasing.Probe` as messages, and the queue of probes that wait to be sent.

Invariant: the queue is bounded in bytes. A probe that finds no room is dropped;
the reads that go on waiting probe again.
"""

from __future__ import annotations

from typing import Final

from fusion_cluster.errors import RemoteProtocolError
from fusion_cluster.protocol import edge_chasing
from fusion_cluster.protocol.edge_chasing import MAX_HOPS
from fusion_cluster.v1.session_pb2 import ClientFrame, Probe

MAX_QUEUED_BYTES: Final = 4 * 1024 * 1024
"""How many bytes of probes wait for one carrier."""


class ProbeQueue:
    """The probes of one session that leave with its next frame."""

    __slots__ = ("_messages", "_size")

    def __init__(self) -> None:
        self._messages: list[Probe] = []
        self._size = 0

    def add(self, call_id: int, probe: edge_chasing.Probe) -> bool:
        """Queue a probe that travels along a call; tell whether there was room."""
        message = Probe(
            id=call_id,
            number=probe.number,
            hops=[Probe.Hop(wait=hop.wait, keys=hop.keys, lowest_rank=hop.lowest_rank) for hop in probe.hops],
            confirmed=probe.confirmed,
        )
        size = message.ByteSize()
        if self._size + size > MAX_QUEUED_BYTES:
            return False
        self._size += size
        self._messages.append(message)
        return True

    def clear(self) -> None:
        """Drop all probes: the carrier is gone. Reads that still wait probe again over the next one."""
        self._messages.clear()
        self._size = 0

    def write(self, frame: ClientFrame) -> None:
        """Put the queued probes into a frame that is about to leave."""
        if self._messages:
            frame.probes.extend(self._messages)
            self.clear()


def read_probe(message: Probe) -> edge_chasing.Probe:
    """Parse a probe that came.

    Raises:
        RemoteProtocolError: its path is empty or too long.
    """
    if not 0 < len(message.hops) <= MAX_HOPS or message.confirmed > 2 * len(message.hops):
        raise RemoteProtocolError(f"a probe with a path of {len(message.hops)} reads")
    hops = tuple(edge_chasing.Hop(hop.wait, tuple(hop.keys), hop.lowest_rank) for hop in message.hops)
    return edge_chasing.Probe(message.number, hops, message.confirmed)
