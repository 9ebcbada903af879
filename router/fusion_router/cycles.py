"""Finds cycles across shards: this process's part in edge chasing (`fusion_cluster.protocol.edge_chasing`).

A cycle across shards is closed by a read that begins, or by a computation that joins another one here. Both are checked
after a few milliseconds; waits that still last are probed. Nothing is sent for reads that are answered before that.

Invariant: `_reads` holds exactly the replicas that wait for their owners now; `_known` has more about those that a
probe has reached or left. Most reads are answered before that: they cost an entry and a place in a list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextvars import Context
from typing import Any, Final

import xxhash
from msgspec import Struct

from fusion_cluster.graph import Computed
from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.computing.rank import HIGHEST_RANK, rank
from fusion_cluster.graph.computing.waiting import refuse, waits_between
from fusion_cluster.graph.core.hot_path import Node
from fusion_cluster.graph.core.key import key_of
from fusion_cluster.graph.why.abridged import abridged_arguments
from fusion_cluster.link.peer_call import PeerCall
from fusion_cluster.protocol.edge_chasing import Break, Probe, Way, in_words, numbered, on_arrival, probe_from

LOOK_S: Final = 0.003
"""How often new waits are checked, in seconds: each is probed when it is one to two times as old."""

CROWD: Final = 16
"""If more waits than this are to be probed at once, the process is busy: they get more time first."""

LONGEST_LOOK_S: Final = 0.05
"""The longest interval between two checks, used when there is a crowd of waits."""

LONG_S: Final = 1.0
"""After how many seconds reads that still wait are probed again; the time doubles after each probe.

It replaces probes that were lost with links, and finds the endless chains that no cycle closes.
"""

MAX_SEEN: Final = 1024
"""How many probes that went along a read are remembered."""


class _Read(Struct, eq=False):
    """A replica that waits for its owner.

    Attributes:
        wait: the number of this wait in the cluster.
        call: the call to its owner.
        sent: how many probes began here.
        age: how often `LONG_S` has passed since.
        seen: the probes that were sent along it: of which wait, and their numbers.
    """

    wait: int
    call: PeerCall
    sent: int = 0
    age: int = 0
    seen: set[tuple[int, int]] | None = None


class CycleWatch:
    """The waits between computations that one member knows, and the probes that it sends and passes on.

    Args:
        peer_id: the name of this process; numbers of waits are made from it.
    """

    def __init__(self, peer_id: str) -> None:
        self._peer_id = peer_id
        self._reads: dict[Node[Any], PeerCall] = {}
        self._known: dict[Node[Any], _Read] = {}
        self._count = 0
        # Nodes with new waits since the last check, and since the one before.
        self._new: list[Node[Any]] = []
        self._due: list[Node[Any]] = []
        self._pause_s = LOOK_S
        self._timer: asyncio.TimerHandle | None = None
        self._long_timer: asyncio.TimerHandle | None = None
        self._context = Context()

    @property
    def waiting_count(self) -> int:
        """How many replicas wait for their owners."""
        return len(self._reads)

    @property
    def is_quiet(self) -> bool:
        """Whether every wait has been checked."""
        return self._timer is None

    # -- waits ---------------------------------------------------------------------------------------------------------
    def began(self, node: Computed[Any], call: PeerCall) -> None:
        """Note that a replica waits for its owner's answer to `call`."""
        self._reads[node] = call
        self._new.append(node)
        if self._timer is None:
            self._start_timer()
        if self._long_timer is None:
            self._long_timer = asyncio.get_running_loop().call_later(LONG_S, self._look_long, context=self._context)

    def ended(self, node: Computed[Any]) -> None:
        """Note that a replica does not wait any more."""
        self._reads.pop(node, None)
        if self._known:
            self._known.pop(node, None)

    def joined(self, node: Node[Any]) -> None:
        """Note that one more computation waits for `node`, which is computing or waiting for its owner."""
        if node in self._reads or (node._computation is not None and node._computation.is_waiting):
            self._suspect(node)

    def reopened(self, peer: object) -> None:
        """Probe the waits on a link that was lost: earlier probes were lost with it."""
        for node, call in self._reads.items():
            if call.peer is peer:
                self._suspect(node)

    def close(self) -> None:
        """Stop checking."""
        for timer in (self._timer, self._long_timer):
            if timer is not None:
                timer.cancel()

    # -- probes --------------------------------------------------------------------------------------------------------
    def arrived(self, node: Node[Any], probe: Probe) -> None:
        """Take a probe that came along a read of `node`, which is computing: pass it on, or refuse a wait here."""
        reads: dict[int, _Read] = {}
        paths: dict[int, list[Node[Any]]] = {}
        reach: dict[int, Way] = {}
        for read, path in self._reach(node):
            reads[read.wait] = read
            paths[read.wait] = path
            keys = [_numbered(path[0]), *map(_text, path[1:-1])]
            reach[read.wait] = Way(keys, min(map(rank, path[1:]), default=HIGHEST_RANK))
        for decision in on_arrival(probe, reach):
            if isinstance(decision, Break):
                self._break(decision, paths[decision.wait], reach[decision.wait].keys)
                self._suspect(node)  # it may be part of other cycles
                return
            onward = decision.probe
            read = reads[onward.travels_along]
            if onward.confirmed or _is_first(read, onward):
                read.call.peer.probe(read.call, onward)

    # -- inside --------------------------------------------------------------------------------------------------------
    @staticmethod
    def _break(decision: Break, path: list[Node[Any]], keys: Sequence[str]) -> None:
        index = len(path) - 1
        if decision.rank is not None:
            index = next((index for index in range(1, len(path)) if rank(path[index]) == decision.rank), 0)
        if not index:
            return  # the requested key has moved: it is read from its new owner
        text = in_words(keys, decision.beyond, index - 1)
        for waiter in waits_between(path[index - 1], path[index]):
            refuse(waiter, text)

    def _suspect(self, node: Node[Any]) -> None:
        self._new.append(node)
        if self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._look, context=self._context)

    def _look(self) -> None:
        self._timer = None
        due = [node for node in self._due if node in self._reads or node._computation is not None]
        if len(due) > CROWD and self._pause_s < LONGEST_LOOK_S:
            self._pause_s *= 2
            self._due = due + self._new
        else:
            self._pause_s = LOOK_S
            self._due = self._new
            probed: set[int] = set()
            for node in due:
                for read, _path in self._reach(node):
                    if read.wait not in probed:
                        probed.add(read.wait)
                        _probe(read)
        self._new = []
        if self._due:
            self._start_timer()

    def _look_long(self) -> None:
        self._long_timer = None
        for node, call in self._reads.items():
            read = self._read(node, call)
            read.age += 1
            if not read.age & (read.age - 1):
                _probe(read)
        if self._reads:
            self._long_timer = asyncio.get_running_loop().call_later(LONG_S, self._look_long, context=self._context)

    def _read(self, node: Node[Any], call: PeerCall) -> _Read:
        read = self._known.get(node)
        if read is None or read.call is not call:
            self._count += 1
            number = xxhash.xxh3_64_intdigest(f"{self._peer_id}/{self._count}".encode())
            read = self._known[node] = _Read(number, call)
        return read

    def _reach(self, start: Node[Any]) -> Iterator[tuple[_Read, list[Any]]]:
        """Yield the reads that `start` waits for, itself or through others here, with the nodes on the way.

        The last of the nodes is the replica that reads.
        """
        came_from: dict[Any, Node[Any] | None] = {start: None}
        pending: list[Node[Any]] = [start]
        while pending:
            node = pending.pop()
            call = self._reads.get(node)
            if call is not None:
                path: list[Any] = []
                step: Any = node
                while step is not None:
                    path.append(step)
                    step = came_from[step]
                yield self._read(node, call), path[::-1]
            elif node._computation is not None:
                for awaited in node._computation.waits():
                    if awaited not in came_from:
                        came_from[awaited] = node
                        pending.append(awaited)


def _text(node: Node[Any]) -> str:
    key = key_of(node)
    return f"{key.service}.{key.method}({abridged_arguments(key.arguments)})"


def _numbered(node: Node[Any]) -> str:
    """Return the key of a computation that another process has asked for, so that its arguments can be encoded."""
    function: Function[Any] = node.function
    return numbered(_text(node), xxhash.xxh3_64_intdigest(function.method.arguments.encode(node.arguments)))


def _probe(read: _Read) -> None:
    read.sent += 1
    read.call.peer.probe(read.call, probe_from(read.wait, read.sent))


def _is_first(read: _Read, probe: Probe) -> bool:
    """Tell whether no probe of the same origin went along this read before: each read of a crowd is probed once."""
    if read.seen is None or len(read.seen) > MAX_SEEN:
        read.seen = set()
    origin = (probe.hops[0].wait, probe.number)
    if origin in read.seen:
        return False
    read.seen.add(origin)
    return True
