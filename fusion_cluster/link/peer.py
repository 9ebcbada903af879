"""The caller's end of a link: keeps one session with an owner alive over carriers that come and go.

Invariant: each `PeerCall` resolves once. The `on_invalidated` of a read is called at most once, and always if its
result went to a caller and may be out of date. A peer is a `graph.Lease`: the lease of the reads made through it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from itertools import repeat
from typing import Final, cast

from fusion_cluster.commands.invocation import Invocation
from fusion_cluster.errors import FusionError, HandshakeRefused, ProtocolError, ShardUnavailable
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.peer_call import PeerCall, deliver_results, fail_calls, fail_moved, report_outdated
from fusion_cluster.protocol.call import CallKind
from fusion_cluster.protocol.caller import CallerSession
from fusion_cluster.protocol.events import (
    Answered,
    Assured,
    BarriersReached,
    CallerEvent,
    Doubted,
    Failed,
    Leaving,
    MovedAway,
    Opened,
    Outdated,
    Refused,
    Silent,
)
from fusion_cluster.protocol.limits import NONCE_SIZE
from fusion_cluster.protocol.states import CallerLink
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.v1.session_pb2 import Caller, Invalidate, KeyReference, Result

logger = logging.getLogger(__name__)

_INFINITY: Final = float("inf")
_READ: Final = CallKind.READ

TICK_S: Final = 0.05
"""The period at which deadlines, pings and leases are checked."""

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""How long dialling, and then the handshake, may take."""

FIRST_REDIAL_S: Final = 0.02
"""Pause after the first failure to connect; it doubles with each further failure. A link that has lasted longer than
`LAST_REDIAL_S` is redialled at once."""

LAST_REDIAL_S: Final = 1.0
"""The longest pause between two attempts."""


class Peer:
    """A link to one owner. Dials when first used, and again whenever the carrier is lost.

    While the carrier is away, calls wait for it, each until its own deadline. Reads are sent again, also to a new
    incarnation of the owner. Commands are sent again only while the owner still knows the session and its calls.

    Args:
        dial: opens a carrier to the owner. If it raises HandshakeRefused, dialling again does not help; any other error
            means that the owner cannot be reached now.
        peer_id: names this process.
        secret: the cluster secret; None: the ends do not check each other.
        on_barrier: called with this peer and the number of a freshness barrier, after all the `on_invalidated` calls
            that come before it; answered with `settle`. None: barriers are settled at once.
        runtime: the clock of deadlines and leases, the jitter of redials, the task that dials.

    Attributes:
        on_lost: called when the session is lost: the owner does not know it any more, has a new epoch, or refuses us.
        on_opened: called whenever the session is open over a new carrier, after the waiting calls are queued for it.
        on_disconnected: called whenever the carrier is lost, after its replicas are in doubt or reported invalidated.
        on_doubt: called when its replicas begin to be in doubt, and when that has ended: see `is_in_doubt`.
        on_fence: called with `fence_s` when that becomes earlier; code that serves these reads calls `expire` by then.
        probe: sends a probe along a read that waits for its result (see `edge_chasing`).
        unsubscribe: takes the id of a read whose replica is gone; does nothing if the read is out of date already.
        slot_map_version: sent to the owner at the next connection.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[Carrier]],
        *,
        peer_id: str,
        secret: bytes | None = None,
        on_barrier: Callable[[Peer, int], None] | None = None,
        on_lost: Callable[[Peer], None] | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self.on_lost = on_lost
        self.on_opened: Callable[[Peer], None] | None = None
        self.on_disconnected: Callable[[Peer], None] | None = None
        self.on_doubt: Callable[[Peer], None] | None = None
        self.on_fence: Callable[[float], None] | None = None
        self._dial = dial
        self._on_barrier = on_barrier
        self._entropy = runtime.entropy
        self._clock = runtime.clock.monotonic
        self._tasks = runtime.scope("a link")
        self._pauses = runtime.backoff(first_s=FIRST_REDIAL_S, longest_s=LAST_REDIAL_S)
        self._session = CallerSession(peer_id=peer_id, secret=secret, on_output=self._schedule_flush)
        # The hot path: no call in between.
        self._start_call = self._session.start
        self.unsubscribe = self._session.unsubscribe
        self.probe = self._session.probe
        self._loop: asyncio.AbstractEventLoop | None = None
        # Belongs to the loop, which is looked up once: asking for the running loop is a system call.
        self.create_future: Callable[[], asyncio.Future[Result]]
        self._carrier: Carrier | None = None
        # Reads that are out of date, and not reported yet.
        self._outdated: deque[PeerCall] = deque()
        # The argument of the last `on_fence`, or `fence_s` at the last `expire`: `fence_s` was never earlier since.
        self._fence_s = _INFINITY
        self._is_flush_scheduled = False
        self._attached_at_s = 0.0
        # Whether the session was open: ever, and on the present carrier.
        self._has_opened = False
        self._has_opened_here = False
        self._is_closed = False
        self._refusal: FusionError | None = None
        self._last_error: BaseException | None = None
        self._runner: asyncio.Task[None] | None = None
        self._tick: asyncio.TimerHandle | None = None
        # Resolved when the present carrier is gone: with True if the session was open on it.
        self._carrier_gone: asyncio.Future[bool] | None = None
        # Resolved when the session opens.
        self._connecting: dict[asyncio.Future[None], None] = {}
        self._handlers: dict[type[CallerEvent], Callable[..., None]] = {
            Answered: deliver_results,
            Outdated: self._on_outdated,
            MovedAway: fail_moved,
            Failed: fail_calls,
            BarriersReached: self._on_barriers,
            Doubted: self._on_doubted,
            Assured: self._on_assured,
            Opened: self._on_opened,
            Refused: self._on_refused,
            Silent: self._on_silent,
            Leaving: self._on_leaving,
        }

    # -- state --------------------------------------------------------------------------------------------------------
    @property
    def epoch(self) -> int:
        """The incarnation of the owner at the last connection; 0 before the first."""
        return self._session.epoch

    @property
    def owner_id(self) -> str:
        """The owner's peer id; empty before the first connection."""
        return self._session.owner_id

    @property
    def slot_map_version(self) -> int:
        """The version of the slot map known here; it is sent to the owner at the next connection."""
        return self._session.slot_map_version

    @slot_map_version.setter
    def slot_map_version(self, version: int) -> None:
        self._session.slot_map_version = version

    @property
    def is_connected(self) -> bool:
        """Whether the session is open over a carrier."""
        return self._session.state is CallerLink.OPEN

    @property
    def is_in_doubt(self) -> bool:
        """Whether the carrier is gone, and its replicas wait for the session to be resumed.

        They must not be served then: whether they are up to date is found out over the next carrier.
        """
        return self._session.is_in_doubt

    @property
    def answered(self) -> list[PeerCall]:
        """The reads that are answered and not out of date."""
        return cast("list[PeerCall]", self._session.answered)

    @property
    def lease_until_s(self) -> float:
        """Until when, on this peer's clock, its replicas may be served if the owner is not heard before."""
        return self._session.lease_until_s

    @property
    def fence_s(self) -> float:
        """When, on this peer's clock, `expire` is due; infinite while nothing that was read here is served."""
        return self._session.fence_s

    def expire(self, now_s: float) -> None:
        """Report the reads that must not be served any more at `now_s`, also those whose report is under way.

        A timer does so too. Code that is about to serve what was read calls this, because it must not wait for the
        timer. May be called at any time in the thread of the event loop, also from an `on_invalidated`.
        """
        if self._loop is not None and self._loop.is_closed():
            self._loop = None  # nothing is left to notify
        self._handle(self._session.expire(now_s))
        report_outdated(self._outdated)
        self._fence_s = self._session.fence_s

    @property
    def pending_count(self) -> int:
        """The number of calls that wait for a result."""
        return self._session.pending_count

    @property
    def subscription_count(self) -> int:
        """The number of reads that are answered and not out of date."""
        return self._session.subscription_count

    # -- calls --------------------------------------------------------------------------------------------------------
    def read(
        self,
        invocation: Invocation,
        arguments: bytes,
        *,
        on_invalidated: Callable[[int], None] | None = None,
        latest_deadline_s: Callable[[], float] | None = None,
    ) -> PeerCall:
        """Read the value of a key, and subscribe to its invalidation.

        Args:
            invocation: the read.
            arguments: its arguments as encoded for the wire.
            on_invalidated: called with the call's id, once, at any time after this call: when the owner invalidates the
                computed, or when it cannot be relied on to do so, because the carrier is lost after the result came and
                the session is not resumed in time, or the read lease has run out. Never called after `unsubscribe`, nor
                after the call has raised or is cancelled. None: it is given to the call, before anything else is done.
            latest_deadline_s: returns the present deadline, which may be later than the invocation's.

        Returns:
            The call, to be awaited once; see `PeerCall` for its errors.
        """
        # The hot path: few arguments, none unpacked, for these cost more than all else that is done here.
        call = PeerCall(_READ, invocation.method, arguments, invocation.deadline_s, peer=self)
        if on_invalidated is not None:
            call.on_invalidated = on_invalidated
        if latest_deadline_s is not None:
            call.latest = latest_deadline_s
        if invocation.baggage:
            call.baggage = invocation.baggage
        if self._runner is None:
            self._ensure_running()
        try:
            self._start_call(call)
        except FusionError as error:
            call.fail(self._refusal or error)
        return call

    def execute(self, invocation: Invocation, arguments: bytes) -> PeerCall:
        """Run a command at the owner.

        Args:
            invocation: the command; it has an id.
            arguments: its arguments as encoded for the wire.

        Returns:
            The call, to be awaited once. Besides the errors of all calls (see `PeerCall`) it raises InvalidArgument if
            the command id is not a text that can be sent, or the baggage cannot travel; and CommandOutcomeUnknown if
            the owner was lost while it ran: retry with the same command id.
        """
        call = PeerCall(
            *(CallKind.COMMAND, invocation.method, arguments, invocation.deadline_s),
            *(invocation.command_id, invocation.is_retry, invocation.baggage),
            callers=[Caller(command_id=it.command_id, text=it.text) for it in invocation.callers]
            if invocation.callers
            else (),
            peer=self,
        )
        self._start(call)
        return call

    def invalidate(
        self,
        keys: Sequence[tuple[str, bytes]],
        *,
        barrier: int = 0,
        origins: Sequence[str] = (),
        operation_id: str = "",
    ) -> asyncio.Future[Result]:
        """Ask the owner to invalidate keys ("Service.method" and encoded arguments).

        Args:
            keys: the keys.
            barrier: the freshness barrier that asks for it; the answer then comes when it is settled there. 0: none.
            origins: the cause for each key, as a text for people.
            operation_id: the logged operation that these keys belong to; "": none, or several.

        Returns:
            Done when the owner has answered; fails with ShardUnavailable when this peer is closed before.
        """
        request = Invalidate(barrier=barrier, operation_id=operation_id)
        numbers: dict[str, int] = {"": 0}
        for (method, arguments), origin in zip(keys, origins or repeat(""), strict=False):
            number = numbers.setdefault(origin, len(numbers))
            request.keys.append(KeyReference(method=method, arguments=arguments, origin=number))
        request.origins.extend(list(numbers)[1:])
        call = PeerCall(CallKind.INVALIDATION, "", b"", invalidate=request, peer=self)
        future = call.future = asyncio.get_running_loop().create_future()
        self._start(call)
        return future

    def settle(self, barrier: int, *, confirms: bool = True) -> None:
        """Answer one `on_barrier` call: all invalidations that came before it are applied here.

        Args:
            barrier: its number.
            confirms: they are settled at this process's own subscribers too. False: the barrier came another way
                before, and the answer on that way waits for them.
        """
        self._session.settle(barrier, confirms=confirms)

    def abandon(self, call: PeerCall) -> None:
        """Give up a call whose caller has left; the owner is notified."""
        self._session.cancel(call)

    # -- lifetime -----------------------------------------------------------------------------------------------------
    async def connect(self, timeout_s: float = 5.0) -> None:
        """Wait until the session is open.

        Raises:
            ShardUnavailable: the session has not opened in time, or this peer is closed.
            HandshakeRefused: the owner refused this process, or did not prove its own identity.
        """
        self._ensure_running()
        if self.is_connected:
            return
        if self._is_closed:
            raise self._refusal or ShardUnavailable("the link is closed")
        waiter = asyncio.get_running_loop().create_future()
        self._connecting[waiter] = None
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            raise ShardUnavailable(f"no connection within {timeout_s} s") from self._last_error
        finally:
            self._connecting.pop(waiter, None)

    async def close(self, *, leave: bool = True) -> None:
        """End the session. Waiting calls fail (ShardUnavailable, CommandOutcomeUnknown); replicas are invalidated.

        Args:
            leave: notify the owner, whose changes then do not wait for this process any more. Only for a process that
                has stopped serving what it read here, also to its own subscribers.
        """
        if leave and self._carrier is not None:
            for frame in self._session.leave(self._clock()):
                self._carrier.send(frame)
        self._close(None)
        self._runner = None
        await self._tasks.close()

    def _close(self, refusal: FusionError | None) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._refusal = refusal
        if self._tick is not None:
            self._tick.cancel()
        events = self._session.close() if refusal is None else self._session.refuse(refusal)
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.close()
        self._handle(events)
        for waiter in self._connecting:
            if not waiter.done():
                waiter.set_exception(refusal or ShardUnavailable("the link was closed"))
        if self._carrier_gone is not None and not self._carrier_gone.done():
            self._carrier_gone.set_result(False)

    def _start(self, call: PeerCall) -> None:
        if self._runner is None:
            self._ensure_running()
        try:
            self._start_call(call)
        except FusionError as error:
            call.fail(self._refusal or error)

    def _ensure_running(self) -> None:
        if self._runner is None and not self._is_closed:
            self._loop = asyncio.get_running_loop()
            self.create_future = self._loop.create_future
            self._runner = self._tasks.spawn(self._keep_connected(), name="keep a link connected")
            self._tick = self._loop.call_later(TICK_S, self._on_tick, context=Context())  # not in a caller's context

    # -- carriers -----------------------------------------------------------------------------------------------------
    async def _keep_connected(self) -> None:
        while not self._is_closed:
            started_s = self._clock()
            had_opened = False
            try:
                async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                    carrier = await self._dial()
            except HandshakeRefused as error:
                self._refuse(error)
            except Exception as error:
                logger.debug("an owner could not be dialled: %s", error)
                self._last_error = error
            else:
                if self._is_closed:
                    carrier.close()
                    return
                had_opened = await self._attach(carrier)
            if self._is_closed:
                return
            if had_opened and self._clock() - started_s > LAST_REDIAL_S:
                self._pauses.reset()
                continue
            await asyncio.sleep(self._pauses.next_s())

    def _attach(self, carrier: Carrier) -> asyncio.Future[bool]:
        """Use a carrier; the future is done when the carrier is gone."""
        gone = self._carrier_gone = asyncio.get_running_loop().create_future()
        self._attached_at_s = self._clock()
        self._session.attach(self._entropy.token_bytes(NONCE_SIZE), self._attached_at_s)
        self._carrier = carrier
        self._has_opened_here = False
        carrier.start(
            on_frame=partial(self._on_frame, carrier),
            on_closed=partial(self._on_closed, carrier),
            on_writable=self._on_writable,
        )
        return gone

    def _drop_carrier(self) -> None:
        """Drop the carrier. What was read over it is in doubt, or out of date if the session is not resumed."""
        carrier, self._carrier = self._carrier, None
        if carrier is None:
            return
        carrier.close()
        events = self._session.detach(self._clock())
        self._lower_fence()
        self._handle(events)
        if self._carrier_gone is not None and not self._carrier_gone.done():
            self._carrier_gone.set_result(self._has_opened_here)
        if self.on_disconnected is not None:
            self._guard(self.on_disconnected, self)

    def _on_frame(self, carrier: Carrier, frame: bytes) -> None:
        if carrier is not self._carrier:
            return
        was_flush_scheduled, self._is_flush_scheduled = self._is_flush_scheduled, True
        try:
            events = self._session.receive(frame, self._clock())
        except HandshakeRefused as error:
            self._refuse(error)
        except ProtocolError as error:
            logger.warning("a protocol error of the owner's end of a link: %s", error)
            self._last_error = error
            self._session.void()
            self._drop_carrier()
        else:
            if self._session.fence_s < self._fence_s:
                self._lower_fence()
            self._handle(events)
        finally:
            # Flush after the callers that this frame has woken: their next calls leave in this turn of the loop, in one
            # frame with what this frame has caused.
            if not was_flush_scheduled:
                self._is_flush_scheduled = False
                self._schedule_flush()

    def _on_closed(self, carrier: Carrier, error: Exception | None) -> None:
        if carrier is self._carrier:
            self._last_error = error
            self._drop_carrier()

    def _on_writable(self) -> None:
        if self._session.has_output:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._is_flush_scheduled and self._loop is not None:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        carrier = self._carrier
        if carrier is not None and self._session.has_output and carrier.is_writable:
            frames = self._session.take_frames(self._clock())
            if self._session.fence_s < self._fence_s:
                self._lower_fence()
            for frame in frames:
                carrier.send(frame)

    def _lower_fence(self) -> None:
        """Notify the code that serves what is read here: that expires earlier than it knows."""
        self._fence_s = fence_s = self._session.fence_s
        if self.on_fence is not None:
            self.on_fence(fence_s)

    def _on_tick(self) -> None:
        if self._is_closed or self._loop is None:
            return
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        now_s = self._clock()
        self._handle(self._session.tick(now_s))
        if (
            self._carrier is not None
            and not self._has_opened_here
            and now_s - self._attached_at_s > HANDSHAKE_TIMEOUT_S
        ):
            self._last_error = TimeoutError("the handshake took too long")
            self._drop_carrier()

    # -- events -------------------------------------------------------------------------------------------------------
    def _handle(self, events: list[CallerEvent]) -> None:
        # All reads that are out of date are collected before the first is reported: see `expire`.
        for event in events:
            if type(event) is Outdated:
                self._outdated.extend(cast("Sequence[PeerCall]", event.calls))
        for event in events:
            self._handlers[type(event)](event)

    def _on_outdated(self, event: Outdated) -> None:
        report_outdated(self._outdated)

    def _on_barriers(self, event: BarriersReached) -> None:
        for barrier in event.barriers:
            if self._on_barrier is None:
                self._session.settle(barrier)
            else:
                self._guard(self._on_barrier, self, barrier)

    def _on_doubted(self, event: Doubted) -> None:
        if self.on_doubt is not None:
            self._guard(self.on_doubt, self)

    def _on_assured(self, event: Assured) -> None:
        if self.on_doubt is not None:
            self._guard(self.on_doubt, self)

    def _on_opened(self, event: Opened) -> None:
        self._has_opened_here = True
        is_lost = self._has_opened and not event.is_resumed
        self._has_opened = True
        for waiter in self._connecting:
            if not waiter.done():
                waiter.set_result(None)
        if is_lost and self.on_lost is not None:
            self._guard(self.on_lost, self)
        if self.on_opened is not None:
            self._guard(self.on_opened, self)

    def _on_leaving(self, event: Leaving) -> None:
        """Do nothing: the session holds new calls back until the owner has closed the carrier."""

    def _on_silent(self, event: Silent) -> None:
        logger.warning("nothing was heard from %s for a read lease: dialling again", self._session.owner_id)
        self._drop_carrier()

    def _on_refused(self, event: Refused) -> None:
        self._last_error = event.error
        if isinstance(event.error, HandshakeRefused):
            self._refuse(event.error)
        else:
            self._drop_carrier()

    def _refuse(self, error: HandshakeRefused) -> None:
        """Give up: dialling again would end in the same way."""
        logger.error("the link is given up: %s", error)
        self._close(error)
        if self.on_lost is not None:
            self._guard(self.on_lost, self)

    def _guard(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:
            logger.exception("a callback of a link raised")
