"""The caller's end of a link: keeps one session with an owner alive over carriers that come and go.

Invariant: each `PeerCall` resolves once; the `on_invalidated` of a read is called once at most, and always when its
result went to a caller and may have become out of date. A peer is a `graph.Lease`: that of the reads made through it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
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
    BarriersReached,
    CallerEvent,
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
from fusion_cluster.v1.session_pb2 import Invalidate, KeyReference, Result

logger = logging.getLogger(__name__)

_INFINITY: Final = float("inf")
_READ: Final = CallKind.READ

TICK_S: Final = 0.05
"""How finely deadlines, pings and leases are watched."""

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""How long dialling, and then the handshake, may take."""

FIRST_REDIAL_S: Final = 0.02
"""Pause after the first failure to connect, doubled after each one that follows. A link that had lasted for longer than
`LAST_REDIAL_S` is redialled at once."""

LAST_REDIAL_S: Final = 1.0
"""The longest pause between two attempts."""


class Peer:
    """A link to one owner. Dials when first used, and again whenever the carrier is lost.

    While the carrier is away, calls wait for it, each until its own deadline; reads are sent again, also to a new
    incarnation of the owner; commands only while the owner still knows the session, and so the calls it has had.

    Args:
        dial: opens a carrier to the owner. HandshakeRefused out of it means that dialling again is of no use, any other
            error that the owner cannot be reached now.
        peer_id: names this process.
        secret: the cluster secret; None where none is in force.
        on_barrier: called with this peer and the number of a freshness barrier, after all the `on_invalidated` calls
            that come before it; answered with `settle`. Without it barriers are settled at once.
        runtime: the clock of deadlines and leases, the jitter of redials, the task that dials.

    Attributes:
        on_lost: called when the session is lost: the owner does not know it any more, has a new epoch, or refuses us.
        on_opened: called whenever the session is open over a new carrier, after the calls that wait were queued for it.
        on_disconnected: called whenever the carrier is lost, after its replicas were reported invalidated.
        on_fence: called with `fence_s` when that has come down: who serves what is read here calls `expire` by then.
        probe: sends a probe along a read that waits for its result (see `edge_chasing`).
        unsubscribe: called with the id of a read when the replica fed by it is gone; does nothing when the read is
            out of date already.
        slot_map_version: told to the owner at the next connection.
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
        # Of the loop, which is found once: asking for the running one is a system call.
        self.create_future: Callable[[], asyncio.Future[Result]]
        self._carrier: Carrier | None = None
        # Reads that are out of date, as far as that is not reported yet.
        self._outdated: deque[PeerCall] = deque()
        # What `on_fence` was called with, or `fence_s` at the last `expire`: `fence_s` was never earlier since.
        self._fence_s = _INFINITY
        self._is_flush_scheduled = False
        self._attached_at_s = 0.0
        # Ever, and on the present carrier.
        self._has_opened = False
        self._has_opened_here = False
        self._is_closed = False
        self._refusal: FusionError | None = None
        self._last_error: BaseException | None = None
        self._runner: asyncio.Task[None] | None = None
        self._tick: asyncio.TimerHandle | None = None
        # Resolved when the present carrier is gone: with True if the session had been open on it.
        self._carrier_gone: asyncio.Future[bool] | None = None
        # Those who wait for the session to open.
        self._connecting: dict[asyncio.Future[None], None] = {}
        self._handlers: dict[type[CallerEvent], Callable[..., None]] = {
            Answered: deliver_results,
            Outdated: self._on_outdated,
            MovedAway: fail_moved,
            Failed: fail_calls,
            BarriersReached: self._on_barriers,
            Opened: self._on_opened,
            Refused: self._on_refused,
            Silent: self._on_silent,
            Leaving: self._on_leaving,
        }

    # -- state --------------------------------------------------------------------------------------------------------
    @property
    def epoch(self) -> int:
        """The incarnation of the owner that was last talked to; 0 before."""
        return self._session.epoch

    @property
    def owner_id(self) -> str:
        """The owner's peer id; empty before the first connection."""
        return self._session.owner_id

    @property
    def slot_map_version(self) -> int:
        """The version of the slot map known here, told to the owner at the next connection."""
        return self._session.slot_map_version

    @slot_map_version.setter
    def slot_map_version(self, version: int) -> None:
        self._session.slot_map_version = version

    @property
    def is_connected(self) -> bool:
        """The session is open over a carrier."""
        return self._session.state is CallerLink.OPEN

    @property
    def lease_until_s(self) -> float:
        """When, on this peer's clock, its replicas may be served no longer unless the owner is heard before."""
        return self._session.lease_until_s

    @property
    def fence_s(self) -> float:
        """When, on this peer's clock, `expire` has something to do; infinite while nothing that was read is served."""
        return self._session.fence_s

    def expire(self, now_s: float) -> None:
        """Report the reads that may be served no longer at `now_s`, also those whose report is under way.

        A timer does so, too. This is for those who must not wait for it, because they are about to serve what was read.
        May be called at any time in the thread of the event loop, also out of an `on_invalidated`.
        """
        if self._loop is not None and self._loop.is_closed():
            self._loop = None  # there is nobody left to be told
        self._handle(self._session.expire(now_s))
        report_outdated(self._outdated)
        self._fence_s = self._session.fence_s

    @property
    def pending_count(self) -> int:
        """Calls that wait for a result."""
        return self._session.pending_count

    @property
    def subscription_count(self) -> int:
        """Reads that are answered and not out of date."""
        return self._session.subscription_count

    # -- calls --------------------------------------------------------------------------------------------------------
    def read(
        self,
        invocation: Invocation,
        arguments: bytes,
        *,
        on_invalidated: Callable[[int], None],
        latest_deadline_s: Callable[[], float] | None = None,
    ) -> PeerCall:
        """Ask for the value of a key, and to be told when it is out of date.

        Args:
            invocation: the read.
            arguments: its arguments as encoded for the wire.
            on_invalidated: called with the call's id, once, at any time after this call, when the owner invalidates the
                computed, or can no longer be relied upon to do so: the carrier is lost after the result came, or its
                read lease has run out. Never after `unsubscribe`, nor after the call has raised or been cancelled.
            latest_deadline_s: gives the deadline as it is now, which may be later than the invocation's by then.

        Returns:
            To be awaited once; see `PeerCall` for what it raises.
        """
        call = PeerCall(
            *(_READ, invocation.method, arguments, invocation.deadline_s),
            baggage=invocation.baggage,
            peer=self,
            on_invalidated=on_invalidated,
            latest=latest_deadline_s,
        )
        if self._runner is None:
            self._ensure_running()
        try:
            self._start_call(call)
        except FusionError as error:
            call.fail(self._refusal or error)
        return call

    async def execute(self, invocation: Invocation, arguments: bytes) -> Result:
        """Run a command at the owner.

        Args:
            invocation: the command; it has an id.
            arguments: its arguments as encoded for the wire.

        Returns:
            Its result, or the error it ended with.

        Raises:
            InvalidArgument: the command id is not a text that can be sent, or the baggage cannot travel.
            CommandOutcomeUnknown: the owner was lost while it ran. Retry with the same command id.
            ShardUnavailable, DeadlineExceeded, NotOwner: as of `PeerCall`.
        """
        call = PeerCall(
            *(CallKind.COMMAND, invocation.method, arguments, invocation.deadline_s),
            *(invocation.command_id, invocation.is_retry, invocation.baggage),
            peer=self,
        )
        self._start(call)
        return await call

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
            keys: which.
            barrier: the freshness barrier on whose behalf; the answer then comes when it is settled there. 0: none.
            origins: what each of the keys is invalidated for, in words for people.
            operation_id: the logged operation that these keys belong to; "": none, or several.

        Returns:
            Done when the owner has answered; with ShardUnavailable when this peer is closed before.
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
        """Answer one `on_barrier` call: what came before it is applied here.

        Args:
            barrier: its number.
            confirms: and settled with those we told of it; False: the barrier had come another way, which waits for
                that.
        """
        self._session.settle(barrier, confirms=confirms)

    def abandon(self, call: PeerCall) -> None:
        """The caller has left: the owner is told to give the call up."""
        self._session.cancel(call)

    # -- lifetime -----------------------------------------------------------------------------------------------------
    async def connect(self, timeout_s: float = 5.0) -> None:
        """Wait until the session is open.

        Raises:
            ShardUnavailable: not within the time, or this peer is closed.
            HandshakeRefused: the owner's end refused us, or did not prove itself.
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
        """End the session. What waits fails (ShardUnavailable, CommandOutcomeUnknown); replicas are invalidated.

        Args:
            leave: tell the owner, who then waits for us with no change any more. Only for a process that has ceased to
                serve, to its own subscribers too, what it was told here.
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
            self._tick = self._loop.call_later(TICK_S, self._on_tick)

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
        """Use a carrier; the future is done when it is gone."""
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
        """The carrier is of no use any more: let go of it, and of all that depends on it."""
        carrier, self._carrier = self._carrier, None
        if carrier is None:
            return
        carrier.close()
        self._handle(self._session.detach())
        if self._carrier_gone is not None and not self._carrier_gone.done():
            self._carrier_gone.set_result(self._has_opened_here)
        if self.on_disconnected is not None:
            self._guard(self.on_disconnected, self)

    def _on_frame(self, carrier: Carrier, frame: bytes) -> None:
        if carrier is not self._carrier:
            return
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
            self._lower_fence()
            self._handle(events)
            # Behind the callers that this frame has woken: what they ask for next leaves in this turn of the loop.
            if not self._is_flush_scheduled:
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
            self._lower_fence()
            for frame in frames:
                carrier.send(frame)

    def _lower_fence(self) -> None:
        """Tell who serves what is read here if that may expire earlier than they know."""
        fence_s = self._session.fence_s
        if fence_s < self._fence_s:
            self._fence_s = fence_s
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
        # All that is out of date is known before anybody is told of any of it: see `expire`.
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
        """Nothing to do: the session holds new calls back until the owner has closed the carrier."""

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
        """Dialling again would end the same: give up."""
        logger.error("the link is given up: %s", error)
        self._close(error)
        if self.on_lost is not None:
            self._guard(self.on_lost, self)

    def _guard(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:
            logger.exception("a callback of a link raised")
