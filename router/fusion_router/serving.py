"""The owner's end of every session: calls in, results and invalidations out.

One `Serving` answers for one host, over any carrier of sessions: TCP links from other processes of the cluster, the
gateway's gRPC `Session` streams, memory links of tests.

Invariant: for each call that subscribed, the session is notified at the moment the computed becomes out of date, also
while it still computes, so a caller that reads later never joins a computation that began before the change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fusion_cluster.commands import BoundCommand, Invocation
from fusion_cluster.commands.invocation import Caller
from fusion_cluster.errors import (
    CommandOutcomeUnknown,
    FusionError,
    InvariantViolation,
    PermissionDenied,
)
from fusion_cluster.failures.exits import body_exited, in_words
from fusion_cluster.graph.computing.varying import NOBODY, principal_key
from fusion_cluster.link.acceptor import ServedSession
from fusion_cluster.protocol.edge_chasing import Probe
from fusion_cluster.runtime.baggage import PRINCIPAL, arrive, current_baggage, current_principal
from fusion_cluster.runtime.deadline import NO_DEADLINE
from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.errors import encode_error
from fusion_cluster.wire.results import encode_result
from fusion_router.barrier import Barriers
from fusion_router.late_reads import LateReads
from fusion_router.subscriptions import Subscriber, Subscription

if TYPE_CHECKING:
    from fusion_router.host import ClusterHost

logger = logging.getLogger(__name__)

_READ: Final = session_pb2.Call.KIND_READ


class Serving:
    """Answers the sessions of one host (a `link.acceptor.SessionHandler`).

    Args:
        host: the host whose services are called.
        barriers: the host's part in freshness barriers.
        accepts_invalidations: whether callers may ask for invalidations: members of the cluster may.
    """

    def __init__(self, host: ClusterHost, barriers: Barriers, *, accepts_invalidations: bool) -> None:
        self._host = host
        self._barriers = barriers
        self._accepts_invalidations = accepts_invalidations
        self._subscribers: dict[ServedSession, Subscriber] = {}
        # The running commands, also those whose session is lost.
        self._late_reads = LateReads(host.runtime)
        self._commands = host.runtime.scope("commands that others have sent")
        host.graph.doubt.on_lifted.append(self._answer_pings)

    @property
    def epoch(self) -> int:
        """The incarnation of this process, for its sessions."""
        return self._host.epoch

    @property
    def slot_map_version(self) -> int:
        """The version of the slot map known here."""
        return self._host.slot_map_version

    @property
    def subscription_count(self) -> int:
        """How many subscriptions of computeds others hold."""
        return sum(len(subscriber.subscriptions) for subscriber in self._subscribers.values())

    @property
    def session_count(self) -> int:
        """How many sessions are open or can be resumed."""
        return len(self._subscribers)

    # -- SessionHandler ----------------------------------------------------------------------
    def on_session(self, session: ServedSession) -> None:
        """Take a new session."""
        subscriber = self._subscribers[session] = Subscriber(
            session, self._late_reads, is_member=self._accepts_invalidations
        )
        self._barriers.add(subscriber.confirmations)
        session.before_sending = self._host.graph.fence.check
        session.is_sure = self._is_sure

    def on_calls(self, session: ServedSession, calls: Sequence[session_pb2.Call]) -> None:
        """Take reads and commands that arrived."""
        subscriber = self._subscribers[session]
        has_arrived = False
        for call in calls:
            try:
                baggage = call.baggage
                if baggage or has_arrived:  # the context is empty at first
                    has_arrived = True
                    arrive(baggage, is_trusted=subscriber.is_member)
                if call.kind == _READ:
                    self._read(subscriber, call, baggage)
                else:
                    self._execute(subscriber, call)
            except FusionError as error:
                self._send_error(subscriber, call, error)
            except Exception as error:
                logger.exception("a call of %s cannot be started", call.method)
                fault = InvariantViolation(f"a call of {call.method} cannot be started: {in_words(error)}")
                fault.__cause__ = error
                self._send_error(subscriber, call, fault)
            except BaseException as error:  # from a class of its arguments, when they were made
                self._send_error(subscriber, call, body_exited(call.method, error))

    def on_cancelled(self, session: ServedSession, ids: Sequence[int]) -> None:
        """Take cancellations: callers left before their results came."""
        subscriber = self._subscribers[session]
        for call_id in ids:
            self._give_up(subscriber, call_id)
            command = subscriber.commands.get(call_id)
            if command is not None:
                command.cancel()

    def on_unsubscribed(self, session: ServedSession, ids: Sequence[int]) -> None:
        """Take unsubscriptions: replicas are gone."""
        subscriber = self._subscribers[session]
        for call_id in ids:
            self._give_up(subscriber, call_id)

    def on_invalidate(self, session: ServedSession, request: session_pb2.Invalidate) -> None:
        """Take an invalidation request for keys that we own, or own by the sender's slot map."""
        if not self._accepts_invalidations:
            refusal = PermissionDenied("only members of the cluster may invalidate")
            session.send_error(request.id, 0, encode_error(refusal), subscribed=False)
            return
        try:
            is_ours = self._host.invalidations.apply_request(request, session.peer_id)
        except FusionError as error:
            session.send_error(request.id, 0, encode_error(error), subscribed=False)
            return

        def answer(_confirms: bool) -> None:
            if is_ours:
                session.send_result(request.id, 0, b"", subscribed=False)
            else:
                session.send_moved(request.id, self._host.slot_map_version)

        if request.barrier:
            # Also if we do not own it: we may have owned it before, and then we notify the holders of its replicas.
            self._barriers.requested(request.barrier, answer)
        else:
            answer(True)

    def on_barrier_answered(self, session: ServedSession, barrier: int, confirms: bool) -> None:
        """Take a subscriber's answer to a barrier mark."""
        self._barriers.mark_answered(self._subscribers[session].confirmations, barrier, confirms=confirms)

    def on_probe(self, session: ServedSession, call_id: int, probe: Probe) -> None:
        """Take a probe: a member asks whether a read that waits here waits for itself."""
        subscription = self._subscribers[session].subscriptions.get(call_id)
        if subscription is None or subscription.waiter is None or not self._accepts_invalidations:
            return
        computation = subscription.waiter.computation
        if self._host.cycles is not None and computation is not None:
            self._host.cycles.arrived(computation.node, probe)

    def on_session_lost(self, session: ServedSession) -> None:
        """Note that a session cannot be resumed any more."""
        subscriber = self._subscribers.pop(session, None)
        if subscriber is None:
            return
        self._barriers.remove(subscriber.confirmations, has_left=session.has_left)
        for subscription in list(subscriber.subscriptions.values()):
            subscription.end()
        subscriber.subscriptions.clear()
        # Commands go on: their callers may ask for the outcome by the command id.

    # -- calls ----------------------------------------------------------------------
    @staticmethod
    def _send_error(subscriber: Subscriber, call: session_pb2.Call, error: Exception) -> None:
        subscriber.session.send_error(call.id, 0, subscriber.encoded(error, call.method), subscribed=False)

    def _read(self, subscriber: Subscriber, call: session_pb2.Call, baggage: Mapping[str, str]) -> None:
        call_id = call.id
        function = self._host.function(call.method)
        arguments = function.method.arguments.decode_msgpack(call.arguments)
        if not self._host.serves(function.method.slot(arguments)):
            subscriber.session.send_moved(call_id, self._host.slot_map_version)
            return
        # The principal of the read, which selects its variant; None: its caller does not send one.
        reader: str | None = None
        if not subscriber.is_member:
            reader = NOBODY
        elif baggage and PRINCIPAL in baggage:
            reader = principal_key(current_principal.get())
        if function.variants is not None:
            if reader is None:
                subscriber.session.send_varies(call_id)
                return
            function = function.variant(reader)
        subscription = Subscription(subscriber, call_id, function.lookup(arguments), reader)
        subscriber.subscriptions[call_id] = subscription
        subscription.begin(call.timeout_ms)

    def _execute(self, subscriber: Subscriber, call: session_pb2.Call) -> None:
        host, name, timeout_ms = self._host, call.method, call.timeout_ms
        command = host.command(name)
        arguments = command.method.arguments.decode_msgpack(call.arguments)
        slot = command.method.slot(arguments)
        if not host.serves(slot):
            subscriber.session.send_moved(call.id, host.slot_map_version)
            return
        deadline_s = host.runtime.clock.monotonic() + timeout_ms / 1000 if timeout_ms else NO_DEADLINE
        baggage = current_baggage.get()
        callers = tuple(Caller(it.command_id, it.text) for it in call.callers) if subscriber.is_member else ()
        invocation = Invocation(
            name, arguments, "command", call.command_id, call.is_retry, deadline_s, baggage, callers
        )
        start = host.graph.starter(name).start
        task = self._commands.start(self._run(subscriber, call, command, invocation, slot), name=name, create=start)
        if not task.done():
            subscriber.commands[call.id] = task

    async def _run(
        self,
        subscriber: Subscriber,
        call: session_pb2.Call,
        command: BoundCommand[..., Any],
        invocation: Invocation,
        slot: int,
    ) -> None:
        call_id = call.id
        try:
            result = await self._host.run(command, invocation, slot)
            encoded = encode_result(command.name, result.value)
            subscriber.session.send_result(call_id, 0, encoded, subscribed=False, replayed=result.is_replayed)
        except asyncio.CancelledError:
            # Cancelled by its caller, which has left, or because this process ends: it may have committed.
            doubt = CommandOutcomeUnknown(f"{command.name} was cut off", retry_after_s=0.1)
            self._send_error(subscriber, call, doubt)
            raise
        except Exception as error:
            self._send_error(subscriber, call, error)
        except BaseException as error:  # from a class of its result, when it was encoded
            self._send_error(subscriber, call, body_exited(command.name, error))
        finally:
            subscriber.commands.pop(call_id, None)

    def _is_sure(self) -> bool:
        """Whether all that was sent from here, and not reported as out of date, is known to be up to date."""
        return not self._host.graph.registry.is_in_doubt

    def _answer_pings(self) -> None:
        for session in self._subscribers:
            session.answer_pings()

    def _give_up(self, subscriber: Subscriber, call_id: int) -> None:
        subscription = subscriber.subscriptions.pop(call_id, None)
        if subscription is not None:
            subscriber.confirmations.owe()
            subscription.end()

    async def drain(self, grace_s: float) -> None:
        """Wait for running commands to end, at most for `grace_s` seconds: their callers get the results."""
        if self._commands.tasks:
            await asyncio.wait(self._commands.tasks, timeout=grace_s)

    def close(self) -> None:
        """Cancel the running commands, as the end of the process would."""
        self._late_reads.close()
        self._commands.cancel()
