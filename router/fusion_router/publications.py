"""Publications: invalidations on their way from a command, or from plain code, to the owners of the keys.

A publication is planned (`invalidation.plan_invalidation`) and then made: here in the same turn of the event loop, and
at the other owners in the background.

Invariant: an owner is notified until it has answered, because nothing else would make its computeds fresh again; a
waiter gets an error in time if that takes too long. The owner is the shard that owns the key when it answers: keys that
have moved are sent again to their new owners.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextvars import Context, copy_context
from functools import partial

from fusion_cluster.errors import ClusterError, CommandError, FusionError, HandshakeRefused, NotOwner, ShardUnavailable
from fusion_cluster.graph import DONE
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.wire.errors import decode_error
from fusion_router.barrier import Barrier, Barriers
from fusion_router.invalidation import Invalidations, Keys, Told, plan_again, plan_invalidation
from fusion_router.links import Links
from fusion_router.ownership import Ownership
from fusion_router.pending_invalidations import PendingInvalidations, messages_of

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
"""How long to wait before an owner that could not be reached is notified again, unless a new slot map comes first."""

LONGEST_PAUSE_S = 1.0
"""The longest of these pauses; they grow."""


class Publications:
    """The publications of one process that are not over yet.

    Args:
        links: the links to the owners.
        barriers: the process's part in freshness barriers.
        invalidations: applies them here.
        ownership: tells the owners of keys.
        peer_id: the name of this process.
        timeout_s: the longest wait for a publication.
        runtime: makes the tasks that notify the owners, and their pauses.
    """

    def __init__(
        self,
        links: Links,
        barriers: Barriers,
        invalidations: Invalidations,
        ownership: Ownership,
        *,
        peer_id: str,
        timeout_s: float,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._runtime = runtime
        self._links = links
        self._barriers = barriers
        self._invalidations = invalidations
        self._ownership = ownership
        self._peer_id = peer_id
        self._timeout_s = timeout_s
        self._deliveries = runtime.scope("publications")
        # Shard id -> the plain invalidations on their way to it.
        self._pending: dict[int, PendingInvalidations] = {}
        # Publications that may have waiters.
        self._confirmations: dict[asyncio.Future[None], None] = {}
        self._has_left = False
        self._context = Context()  # of timers

    def publish(self, keys: Keys, barrier: bool, operation_id: str = "") -> Awaitable[None]:
        """Invalidate keys here, and begin to notify their other owners.

        Args:
            keys: the keys, with their causes.
            barrier: whether the publication ends only when no replica serves values that depended on the old data.
            operation_id: the logged operation that the keys belong to; "": none.

        Returns:
            Done when the owners have applied it; it may be left unawaited. It fails with ShardUnavailable when an owner
            has not confirmed in time (it is still being notified), or with the error of an owner that has refused.
            After `leave` no other owner is notified, and it fails at once.
        """
        self._invalidations.apply(keys, operation_id)
        remote = plan_invalidation(keys, self._ownership).remote
        if self._has_left:
            return self._refused() if remote or barrier else DONE
        if not remote and not (barrier and self._barriers.are_needed):
            return DONE
        if not barrier:
            return self._put_into_messages(remote, operation_id)
        # Each owner gets separate messages: the last one is answered when all its effects are settled.
        with self._barriers.begin() as begun:
            for shard_id, told in remote.items():
                begun.told()
                self._deliveries.spawn(
                    self._deliver(shard_id, told, begun, operation_id),
                    name=f"tell shard {shard_id} of invalidations",
                    context=copy_context(),
                )
        return self._bounded(begun.settled)

    def leave(self) -> None:
        """Give up: waiters get an error, and so does every later publication."""
        self._has_left = True
        self._deliveries.cancel()
        for confirmed in list(self._confirmations):
            _fail(confirmed, _left())

    async def close(self) -> None:
        """Wait until no publication is in progress."""
        for pending in self._pending.values():
            await pending.close()
        await self._deliveries.close()

    def _put_into_messages(self, remote: Mapping[int, Told], operation_id: str) -> Awaitable[None]:
        """Put the keys into the next message to each owner."""
        outstanding = {
            self._pending_for(shard_id).add(told, operation_id): shard_id for shard_id, told in remote.items()
        }
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_told(told: asyncio.Future[None]) -> None:
            outstanding.pop(told, None)
            if (refusal := told.exception()) is not None:
                _fail(confirmed, refusal)
            elif not outstanding and not confirmed.done():
                confirmed.set_result(None)

        for told in list(outstanding):
            told.add_done_callback(on_told)
        return self._bounded(confirmed)

    def _refused(self) -> Awaitable[None]:
        """Return a publication that has failed, because this member has left."""
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _fail(confirmed, _left())
        return self._bounded(confirmed)

    def _pending_for(self, shard_id: int) -> PendingInvalidations:
        pending = self._pending.get(shard_id)
        if pending is None:
            pending = self._pending[shard_id] = PendingInvalidations(
                partial(self._tell_plainly, shard_id), runtime=self._runtime
            )
        return pending

    async def _tell_plainly(self, shard_id: int, told: Told, operation_id: str) -> Exception | None:
        return await self._tell_all(shard_id, told, None, operation_id)

    async def _deliver(self, shard_id: int, told: Told, barrier: Barrier, operation_id: str) -> None:
        """Notify an owner until it has confirmed, or refused for good: then the barrier fails with that error."""
        refusal = await self._tell_all(shard_id, told, barrier, operation_id)
        if self._links.is_closed:
            return  # neither this nor the barrier has a waiter any more
        if refusal is not None:
            _fail(barrier.settled, refusal)
        barrier.answered()

    async def _tell_all(
        self, shard_id: int, told: Told, barrier: Barrier | None, operation_id: str
    ) -> Exception | None:
        """Send keys to an owner, in as many messages as needed, and to other owners if some have moved.

        Returns:
            The error of an owner that refuses.
        """
        messages = messages_of(told)
        refusal: Exception | None = None
        for message in messages:
            # The barrier goes with the last one: it settles the effects of the others, too.
            number = barrier.number if barrier is not None and message is messages[-1] else 0
            failure = await self._tell(shard_id, message, number, operation_id)
            if isinstance(failure, NotOwner):
                return await self._tell_again(told, barrier, operation_id)
            if failure is not None:
                if self._links.is_closed:
                    return failure
                logger.error("shard %d refused an invalidation: %s", shard_id, failure)
                refusal = refusal or failure
        return refusal

    async def _tell_again(self, told: Told, barrier: Barrier | None, operation_id: str) -> Exception | None:
        """Send keys to their present owners; this is a part of the one answer that the barrier waits for.

        All of the keys are sent: with several messages, some that the former owner confirmed came without the barrier.
        """
        plan = plan_again(told, self._ownership, teller=self._peer_id)
        self._invalidations.apply(plan.local)
        if barrier is not None:
            barrier.invalidated_more()
        parts = [
            self._deliveries.start(
                self._tell_all(shard_id, part, barrier, operation_id), name=f"tell shard {shard_id} of moved keys"
            )
            for shard_id, part in plan.remote.items()
        ]
        refusals = [await part for part in parts]
        return next((refusal for refusal in refusals if refusal is not None), None)

    async def _tell(self, shard_id: int, told: Told, barrier: int, operation_id: str) -> Exception | None:
        """Send one message to an owner, until it is answered or the links are closed.

        Returns:
            The error of an owner that refuses; NotOwner if other shards own some of the keys, by the newest slot map;
            or the error that this member has left, which waiters have got already.
        """
        keys, origins = list(told), [sent.origin for sent in told.values()]
        pauses = self._runtime.backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        # The version of the slot map by which this shard owns all of them.
        checked_by = -1
        while not self._links.is_closed:
            version = self._ownership.slot_map.version
            asked_for_s = 0.0
            peer = self._links.peer(shard_id)
            if peer is not None:
                try:
                    result = await peer.invalidate(keys, barrier=barrier, origins=origins, operation_id=operation_id)
                except (ClusterError, CommandError, HandshakeRefused) as error:
                    logger.debug("shard %d: %s; trying again", shard_id, error)
                except FusionError as error:
                    return error
                else:
                    if result.WhichOneof("outcome") != "error":
                        return None
                    if not result.error.transient:
                        return decode_error(result.error)
                    asked_for_s = result.error.retry_after_ms / 1000
            if version == self._ownership.slot_map.version:
                await self._links.changed(pauses.next_s(least_s=asked_for_s))
            version = self._ownership.slot_map.version
            if version != checked_by:
                if any(self._ownership.owner_of_slot(sent.slot) != shard_id for sent in told.values()):
                    return NotOwner(f"shard {shard_id} does not own all of the keys", slot_map_version=version)
                checked_by = version
        return _left()

    def _bounded(self, confirmed: asyncio.Future[None]) -> asyncio.Future[None]:
        """Return a future for "all owners have confirmed", with a time limit; it may be left unawaited."""
        if confirmed.done():
            confirmed.exception()
            return confirmed
        late = ShardUnavailable("the change is made, but not every owner has confirmed its invalidation in time")
        timer = asyncio.get_running_loop().call_later(  # not in a command's context, which the timer would keep
            self._timeout_s, partial(_fail, confirmed, late), context=self._context
        )

        def on_done(future: asyncio.Future[None]) -> None:
            timer.cancel()
            self._confirmations.pop(future, None)
            if not future.cancelled():
                future.exception()

        self._confirmations[confirmed] = None
        confirmed.add_done_callback(on_done)
        return confirmed


def _left() -> ShardUnavailable:
    return ShardUnavailable("the change is made, but this member left before all owners have confirmed it")


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
