"""The operation log as one host follows it: applies what was committed elsewhere, and trims what is old.

Invariant: an operation's keys are invalidated once here, whoever tells of it first, a push or the log.
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
        database: whose log it is.
        methods: those of the app, by full name.
        graph: what the log tells of is invalidated in it.
        applied: the operations whose invalidations are applied here, by whoever told of them.
        owns: tells whether a key is owned here. The others are left to their owners, who tell whoever has a replica.
        function: gives a compute method by its full name.
        peer_id: names this host in the log.
        on_others: called when others have committed something: they may have emitted events.

    Attributes:
        follower: reads the log; None before `start`, and where the database's options say that it is not followed.
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
        """Begin: what is committed after this has returned will be applied.

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
        """Stop; also what has begun of a start that failed."""
        if self.follower is not None:
            await self.follower.close()
        if self._trimmer is not None:
            await self._trimmer.close()

    def apply(self, entries: Sequence[LogEntry]) -> None:
        """Apply operations that the log tells of, if no push has applied them."""
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
        """Invalidate everything: nobody can tell any more what has changed."""
        self._graph.invalidate_all(MISSED)
