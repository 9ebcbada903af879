"""The calls of one session: reads, from the call to the promise to report an invalidation, and commands.

Invariant: a read is in its subscriber's `subscriptions` for as long as its caller waits for its result, or has to be
notified that it is out of date.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from fusion_cluster.errors import DeadlineExceeded, FusionError, ShardUnavailable
from fusion_cluster.failures.exits import body_cancelled, body_exited
from fusion_cluster.graph import Computed, Waiter
from fusion_cluster.link.acceptor import ServedSession
from fusion_cluster.runtime.deadline import NO_DEADLINE
from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.errors import encode_error
from fusion_cluster.wire.results import encode_result
from fusion_router.barrier import Confirmations
from fusion_router.faults import client_error
from fusion_router.late_reads import LateReads


class Subscription:
    """One read call of a session: first it waits for a computation, then it promises to report the invalidation."""

    __slots__ = ("deadline_s", "id", "is_outdated", "node", "reader", "subscriber", "waiter")

    def __init__(self, subscriber: Subscriber, call_id: int, node: Computed[Any], reader: str | None) -> None:
        self.reader = reader
        self.subscriber = subscriber
        self.id = call_id
        self.node = node
        self.deadline_s = NO_DEADLINE
        self.waiter: Waiter | None = None
        self.is_outdated = False

    def begin(self, timeout_ms: int) -> None:
        """Watch the node, then wait for its output: in this order, so that no invalidation is missed in between.

        Args:
            timeout_ms: how long its caller waits; 0: no limit.
        """
        node = self.node
        node.on_invalidated(self._on_invalidated)
        if node.has_output:  # what `join` would do
            self._on_done(node)
            return
        if timeout_ms:
            self.deadline_s = self.subscriber.late_reads.clock_s() + timeout_ms / 1000
        waiter = node.join(self._on_done, deadline_s=self.deadline_s, is_eager=True)
        if waiter.computation is not None:
            self._wait(waiter)

    def _wait(self, waiter: Waiter) -> None:
        self.waiter = waiter
        if self.deadline_s < NO_DEADLINE:
            self.subscriber.late_reads.add(self, self.deadline_s)

    def give_up(self) -> None:
        """Notify the caller that its time is up; the computation goes on if others wait for it."""
        subscriber = self.subscriber
        subscriber.subscriptions.pop(self.id, None)
        subscriber.confirmations.owe()
        self.end()
        late = DeadlineExceeded(f"{self.node.function.name} has not ended in the time that its caller had")
        subscriber.session.send_error(self.id, 0, subscriber.encoded(late, self.node.function.name), subscribed=False)

    def end(self) -> None:
        """Release the node: the caller does not need it any more."""
        self.node.remove_observer(self._on_invalidated)
        if self.waiter is not None:
            self.subscriber.late_reads.discard(self)
            self.waiter.leave()

    def _on_invalidated(self, node: Computed[Any]) -> None:
        self.is_outdated = True
        self.subscriber.confirmations.owe()
        self.subscriber.session.send_invalidated(self.id)
        if node.has_output:
            self.subscriber.subscriptions.pop(self.id, None)

    def _on_done(self, node: Computed[Any]) -> None:
        subscriber = self.subscriber
        if self.waiter is not None:
            self.waiter = None
            subscriber.late_reads.discard(self)
        has_output = node.has_output
        if not has_output and node.function.variants is not None and self._go_on_with_own(node):
            return
        if self.is_outdated:
            subscriber.subscriptions.pop(self.id, None)
        is_subscribed = not self.is_outdated
        error: BaseException | None = None
        encoded_value = b""
        try:
            if has_output:
                value, error = node.outcome()
                if error is None:
                    encoded_value = encode_result(node.function.name, value)
            else:
                error = _without_output(node)
        except Exception as encoding_error:  # also errors of users' code, for example in a pydantic model
            error = encoding_error
        except BaseException as raised:
            error = body_exited(node.function.name, raised)
        if error is None:
            subscriber.session.send_result(self.id, node.version, encoded_value, subscribed=is_subscribed)
            return
        encoded = subscriber.encoded(error, node.function.name)
        subscriber.session.send_error(self.id, node.version, encoded, subscribed=is_subscribed)

    def _go_on_with_own(self, node: Computed[Any]) -> bool:
        """Read the caller's variant of `node`, whose method varies by principal; tell whether the result is awaited.

        The caller has been notified that its result is out of date, so this result goes only to callers that wait for
        it.
        """
        if self.reader is None:
            self.subscriber.subscriptions.pop(self.id, None)
            self.subscriber.session.send_varies(self.id)
            return True
        own = node.function.variant(self.reader).lookup(node.arguments)
        # The computation that has found out that it varies reads for another principal, in this very context.
        waiter = contextvars.Context().run(own.join, self._on_done, deadline_s=self.deadline_s)
        if waiter.computation is not None:
            self.node = own
            self._wait(waiter)
        return True


def _without_output(node: Computed[Any]) -> FusionError:
    """Return the error for a caller of a cancelled computation: its body cancelled it, unless the graph was closed."""
    if node.function.graph.is_closed:
        return ShardUnavailable(f"{node.function.name} was given up, because its process ends", retry_after_s=0.05)
    return body_cancelled(node.function.name)


class Subscriber:
    """The state kept for one session: its reads and subscriptions, and its running commands.

    Attributes:
        session: this end of the session.
        is_member: the caller is a member of the cluster, not a client: it gets more details of errors.
        late_reads: gives up its reads whose time is up.
    """

    __slots__ = ("commands", "confirmations", "is_member", "late_reads", "session", "subscriptions")

    def __init__(self, session: ServedSession, late_reads: LateReads, *, is_member: bool) -> None:
        self.session = session
        self.late_reads = late_reads
        self.is_member = is_member
        self.confirmations = Confirmations(session)
        # Call id -> a read that computes or is subscribed; removed when it is out of date and answered.
        self.subscriptions: dict[int, Subscription] = {}
        # Call id -> a running command.
        self.commands: dict[int, asyncio.Task[None]] = {}

    def encoded(self, error: BaseException, method: str) -> session_pb2.Error:
        """Return an error as the caller gets it: an internal one, for a client, as its id in the log."""
        return encode_error(error, for_member=True) if self.is_member else client_error(error, method)
