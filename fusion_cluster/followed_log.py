"""Follows the operation log for one host: applies operations that were committed elsewhere, and trims old entries.

Invariant: an operation's keys are invalidated once here, whether a push or the log brings it first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fusion_cluster.database.applied_operations import AppliedOperations
from fusion_cluster.database.log_follower import LogFollower
from fusion_cluster.database.log_readers import LogEntry
from fusion_cluster.database.log_trimmer import LogTrimmer
from fusion_cluster.graph import ComputeFunction, Graph, Key
from fusion_cluster.graph.why.cause import MISSED
from fusion_cluster.logged_keys import keys_of

if TYPE_CHECKING:
    from fusion_cluster.catalogue.method import Method
    from fusion_cluster.database import Database


class FollowedLog:
    """Follows the log of a database for one host.

    Args:
        database: the database that holds the log.
        methods: the methods of the app, by full name.
        graph: the graph in which keys from the log are invalidated.
        applied: the operations whose invalidations are applied here already, by a push or by the log.
        owns: returns whether a key is owned here. Other keys are left to their owners, who notify the replicas.
        function: returns a compute method by its full name.
        peer_id: names this host in the log.
        on_others: called when others have committed something; they may have emitted events.

    Attributes:
        follower: reads the log; None before `start`, and if the database's options say not to follow it.
    """

    def __init__(
        self,
        database: Database,
        *,
        methods: Mapping[str, Method],
        graph: Graph,
        applied: AppliedOperations,
        owns: Callable[[Key], bool],
        function: Callable[[str], ComputeFunction],
        peer_id: str,
        on_others: Callable[[], None],
    ) -> None:
        self._database = database
        self._methods = methods
        self._graph = graph
        self._applied = applied
        self._owns = owns
        self._function = function
        self._peer_id = peer_id
        self._on_others = on_others
        self._trimmer: LogTrimmer | None = None
        self.follower: LogFollower | None = None

    async def start(self) -> None:
        """Start. Operations that are committed after this has returned are applied.

        Raises:
            Exception: the database cannot be reached.
        """
        runtime = self._graph.runtime
        self._trimmer = LogTrimmer(self._database, runtime=runtime)
        self._trimmer.start()
        if self._database.log.options.follows:
            self.follower = LogFollower(
                self._database, on_entries=self.apply, on_missed=self._on_missed, runtime=runtime
            )
            await self.follower.start()

    async def close(self) -> None:
        """Stop, also after a start that has failed halfway."""
        if self.follower is not None:
            await self.follower.close()
        if self._trimmer is not None:
            await self._trimmer.close()

    def apply(self, entries: Sequence[LogEntry]) -> None:
        """Apply operations from the log that no push has applied."""
        for entry in entries:
            missing = self._applied.missing(entry.operation_id, entry.keys)
            keys = keys_of(missing, f"the operation log, written by {entry.host}", self._methods)
            for key, cause in keys.items():
                if self._owns(key):
                    self._function(f"{key.service}.{key.method}").invalidate(key.arguments, cause)
            self._applied.add(entry.operation_id)
        if any(entry.host != self._peer_id for entry in entries):
            self._on_others()

    def _on_missed(self) -> None:
        """Invalidate everything: it is not known any more what has changed."""
        self._graph.invalidate_all(MISSED)
