"""Both ends of a session under any interleaving, held against a naive model of what a caller may rely on.

The owner's data is one counter for each of a few keys; every change of it invalidates the reads that saw the value
before. The model knows nothing of frames: it only knows what was asked, what came, and what is true, that an owner who
has not heard a caller for `PATIENCE_S` takes a change for done without it, and that a caller who has answered a barrier
has nothing from before it.
"""

from __future__ import annotations

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from fusion_cluster.errors import CommandOutcomeUnknown
from fusion_cluster.protocol import CallKind, OutgoingCall
from fusion_cluster.protocol.events import (
    Answered,
    Assured,
    BarrierAnswered,
    BarriersReached,
    Called,
    CallerEvent,
    Cancelled,
    Doubted,
    Failed,
    InvalidationRequested,
    Opened,
    Outdated,
    OwnerEvent,
    Unsubscribed,
)
from fusion_cluster.protocol.states import CallerCall
from fusion_cluster.v1.session_pb2 import Call, ClientFrame, ServerFrame
from tests.session_pair import SessionPair, command_call, invalidation_call, read_call

KEYS = ["A.x", "A.y"]
PATIENCE_S = 3.0 * 1.2


class SessionMachine(RuleBasedStateMachine):
    started = Bundle("started")

    def __init__(self) -> None:
        super().__init__()
        self.pair = SessionPair(on_event=self.on_event, on_frame=self.on_frame)
        self.truth = dict.fromkeys(KEYS, 0)
        # The owner's handler: id -> key of reads that run or are subscribed; what a running one has seen, if it began.
        self.running: dict[int, Call] = {}
        # What reads that run have seen before they were invalidated.
        self.seen: dict[int, int] = {}
        self.subscribed: dict[int, str] = {}
        self.requests: set[int] = set()
        # How often each command ran, by the caller's id, in the present life of the owner and before.
        self.runs: dict[int, int] = {}
        # The caller's side.
        self.calls: dict[int, OutgoingCall] = {}
        self.answers: dict[int, int] = {}
        self.outdated: dict[int, int] = {}
        self.failed: dict[int, int] = {}
        # Reads that somebody uses: id -> key and the value that came.
        self.used: dict[int, tuple[str, int]] = {}
        # Reads that somebody has joined after a change was done without us: id -> the least that may come.
        self.floors: dict[int, int] = {}
        # Until when the one who serves what was read does so without asking.
        self.fence_s = float("inf")
        self.left: set[int] = set()
        self.reached: list[int] = []
        self.marks = 0
        self.settled_marks = 0
        self.is_lost = False
        self.is_in_doubt = False
        # Invalidations were on their way when a carrier was lost, and it has not been found out which.
        self.are_some_lost = False
        # What was true when each mark was sent that is not answered: its barrier -> the oldest first.
        self.before_marks: dict[int, list[dict[str, int]]] = {}

    # -- events -------------------------------------------------------------------------------------------------------
    def on_event(self, end: str, event: CallerEvent | OwnerEvent) -> None:
        match event:
            case Called(calls):
                for call in calls:
                    assert call.id not in self.running, "a call that runs was run again"
                    if call.kind == Call.KIND_COMMAND:
                        self.runs[call.id] = self.runs.get(call.id, 0) + 1
                    self.running[call.id] = call
            case Cancelled(ids):
                for call_id in ids:
                    self.running.pop(call_id, None)
                    self.seen.pop(call_id, None)
                    self.requests.discard(call_id)
            case Unsubscribed(ids):
                for call_id in ids:
                    # A request of the same frame may have invalidated it.
                    self.subscribed.pop(call_id, None)
            case InvalidationRequested(request):
                assert request.id not in self.requests
                self.requests.add(request.id)
                for key in request.keys:
                    self.change(key.method)
            case BarrierAnswered(barrier, _):
                self.before_marks[barrier].pop(0)
                self.settled_marks += 1
                assert self.settled_marks <= self.marks
            case Answered(calls):
                for answered in calls:
                    self.answers[answered.id] = self.answers.get(answered.id, 0) + 1
                    assert answered.id not in self.left
                    assert answered.result is not None
                    if answered.id in self.floors:
                        assert int(answered.result.value) >= self.floors[answered.id], "old for who joined last"
                    if answered.kind is CallKind.READ and answered.id not in self.outdated:
                        self.used[answered.id] = (answered.method, int(answered.result.value))
            case Outdated(calls):
                for read in calls:
                    self.outdated[read.id] = self.outdated.get(read.id, 0) + 1
                    assert read.id not in self.left
                    self.used.pop(read.id, None)
            case Failed(calls, error):
                for failed in calls:
                    self.failed[failed.id] = self.failed.get(failed.id, 0) + 1
                    if isinstance(error, CommandOutcomeUnknown):
                        assert failed.kind is CallKind.COMMAND
            case BarriersReached(barriers):
                self.reached += barriers
                assert not self.is_in_doubt
                for barrier in barriers:
                    truth = self.before_marks[barrier][0]
                    assert all(value >= truth[key] for key, value in self.used.values()), "old, and behind a barrier"
            case Doubted():
                assert not self.is_in_doubt
                self.is_in_doubt = True
            case Assured():
                assert self.is_in_doubt
                self.is_in_doubt = False
                self.are_some_lost = False
            case Opened(_, is_resumed):
                assert not (self.is_lost and is_resumed)
                self.is_lost = False
            case _:
                pass

    def on_frame(self, end: str, frame: ClientFrame | ServerFrame) -> None:
        if isinstance(frame, ClientFrame) and frame.ping.asks_ids:
            assert self.is_in_doubt, "a false alarm"
            assert self.are_some_lost, "a false alarm after a reconnect"

    # -- the owner's data ---------------------------------------------------------------------------------------------
    def change(self, key: str) -> None:
        self.truth[key] += 1
        owner = self.pair.owner
        assert owner is not None
        for call_id, subscribed_key in list(self.subscribed.items()):
            if subscribed_key == key:
                del self.subscribed[call_id]
                owner.send_invalidated(call_id)

    # -- rules: the caller --------------------------------------------------------------------------------------------
    @rule(target=started, key=st.sampled_from(KEYS), kind=st.sampled_from(["read", "read", "command", "request"]))
    def start(self, key: str, kind: str) -> int:
        return self.begin(key, kind)

    def begin(self, key: str, kind: str) -> int:
        if kind == "read":
            call = read_call(key)
        elif kind == "command":
            call = command_call(key)
        else:
            call = invalidation_call(key)
        self.pair.caller.start(call)
        self.calls[call.id] = call
        return call.id

    @precondition(lambda self: self.pair.is_connected)
    @rule(target=started, keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    def read_to_the_end(self, keys: list[str]) -> int:
        """Random steps alone seldom get a read answered before something happens to it."""
        reads = [self.begin(key, "read") for key in keys]
        self.pair.exchange()
        for call_id in reads:
            if call_id in self.running:
                self.answer(sorted(self.running).index(call_id), False)
        self.pair.exchange()
        return reads[-1]

    @rule(call_id=consumes(started))
    def cancel(self, call_id: int) -> None:
        self.pair.caller.cancel(self.calls[call_id])
        self.left.add(call_id)
        self.used.pop(call_id, None)

    @rule(call_id=consumes(started))
    def unsubscribe(self, call_id: int) -> None:
        if self.calls[call_id].kind is CallKind.READ and call_id in self.used:
            self.pair.caller.unsubscribe(call_id)
            self.left.add(call_id)
            del self.used[call_id]

    @precondition(lambda self: self.reached)
    @rule()
    def settle(self) -> None:
        self.pair.caller.settle(self.reached.pop())

    # -- rules: the owner ---------------------------------------------------------------------------------------------
    @precondition(lambda self: self.running)
    @rule(choice=st.integers(min_value=0), is_last=st.booleans())
    def answer(self, choice: int, is_last: bool) -> None:
        owner = self.pair.owner
        assert owner is not None
        call_id = sorted(self.running)[choice % len(self.running)]
        call = self.running.pop(call_id)
        if call.kind == Call.KIND_COMMAND:
            owner.send_result(call_id, 0, b"0", subscribed=False)
            return
        if (seen := self.seen.pop(call_id, None)) is not None:
            owner.send_result(call_id, 1, str(seen).encode(), subscribed=False)
            return
        owner.send_result(call_id, 1, str(self.truth[call.method]).encode(), subscribed=not is_last)
        if not is_last:
            self.subscribed[call_id] = call.method

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(min_value=0))
    def invalidate_while_computing(self, choice: int) -> None:
        owner = self.pair.owner
        assert owner is not None
        reads = sorted(call_id for call_id, call in self.running.items() if call.kind == Call.KIND_READ)
        if not reads:
            return
        call_id = reads[choice % len(reads)]
        call = self.running[call_id]
        self.seen.setdefault(call_id, self.truth[call.method])
        owner.send_invalidated(call_id)
        self.change(call.method)

    @precondition(lambda self: self.pair.is_connected)
    @rule(target=started, key=st.sampled_from(KEYS), is_told=st.booleans())
    def answer_what_was_invalidated_when_the_carrier_is_lost(self, key: str, is_told: bool) -> int:
        """Random steps alone seldom come to this."""
        call_id = self.begin(key, "read")
        self.pair.exchange()
        if call_id in self.running:
            self.invalidate_while_computing(-1)
            if is_told:
                self.flush()
            self.break_carrier()
            self.answer(sorted(self.running).index(call_id), True)
            self.pair.connect()
        return call_id

    @precondition(lambda self: self.running)
    @rule()
    def move(self) -> None:
        assert self.pair.owner is not None
        call_id, _ = self.running.popitem()
        self.runs.pop(call_id, None)  # it did not
        self.seen.pop(call_id, None)
        self.pair.owner.send_moved(call_id, 8)

    @precondition(lambda self: self.requests)
    @rule()
    def confirm(self) -> None:
        assert self.pair.owner is not None
        self.pair.owner.send_result(self.requests.pop(), 0, b"", subscribed=False)

    @precondition(lambda self: self.pair.owner is not None)
    @rule(key=st.sampled_from(KEYS))
    def write(self, key: str) -> None:
        self.change(key)

    @precondition(lambda self: self.pair.owner is not None)
    @rule()
    def barrier(self) -> None:
        assert self.pair.owner is not None
        self.marks += 1
        self.before_marks.setdefault(self.marks % 3, []).append(dict(self.truth))
        self.pair.owner.send_barrier(self.marks % 3)

    # -- rules: the carrier -------------------------------------------------------------------------------------------
    @precondition(lambda self: not self.pair.is_connected)
    @rule()
    def connect(self) -> None:
        self.pair.connect()

    @precondition(lambda self: self.pair.is_connected)
    @rule()
    def disconnect(self) -> None:
        self.break_carrier()

    def break_carrier(self) -> None:
        if any(ServerFrame.FromString(frame).invalidated for frame in self.pair.to_caller):
            self.are_some_lost = True
        self.pair.disconnect()

    @precondition(lambda self: self.pair.is_connected)
    @rule(key=st.sampled_from(KEYS), has_mark=st.booleans())
    def lose_an_invalidation(self, key: str, has_mark: bool) -> None:
        """Random steps alone seldom come to this: the carrier is lost with an invalidation of what is in use."""
        self.read_to_the_end([key, "A.x"])
        self.change(key)
        if has_mark:
            self.barrier()
        self.flush()
        self.break_carrier()

    @precondition(lambda self: self.pair.is_open)
    @rule(key=st.sampled_from(KEYS), is_late=st.booleans(), is_changed=st.booleans())
    def ping_while_frames_are_under_way(self, key: str, is_late: bool, is_changed: bool) -> None:
        """Random steps alone seldom come to this: a read is given up, or changed, between a ping and its pong."""
        self.read_to_the_end([key, key])
        self.wait(1.0)
        self.pair.flush_caller()
        if is_changed:
            self.change(key)
        if not is_late:
            self.give_one_up()
        while self.pair.to_owner:
            self.pair.deliver_to_owner()
        self.pair.flush_owner()
        if is_late:
            self.give_one_up()
        while self.pair.to_caller:
            self.pair.deliver_to_caller()

    def give_one_up(self) -> None:
        if self.used:
            call_id = max(self.used)
            self.pair.caller.unsubscribe(call_id)
            self.left.add(call_id)
            del self.used[call_id]

    @precondition(lambda self: self.pair.is_connected)
    @rule(target=started, key=st.sampled_from(KEYS), is_changed=st.booleans())
    def lose_a_result(self, key: str, is_changed: bool) -> int:
        """Random steps alone seldom come to this: a result leaves, and its carrier is lost."""
        call_id = self.begin(key, "read")
        self.pair.exchange()
        if call_id in self.running:
            self.answer(sorted(self.running).index(call_id), False)
        self.flush()
        self.break_carrier()
        if is_changed:
            self.change(key)
        return call_id

    @precondition(lambda self: not self.pair.is_connected and self.pair.owner is not None)
    @rule()
    def restart(self) -> None:
        self.pair.lose_session()
        self.pair.epoch += 1
        self.is_lost = True
        self.running.clear()
        self.seen.clear()
        self.subscribed.clear()
        self.requests.clear()
        self.marks = self.settled_marks = 0
        self.before_marks.clear()

    @precondition(lambda self: self.pair.is_connected)
    @rule()
    def exchange(self) -> None:
        self.pair.exchange()

    @rule()
    def flush(self) -> None:
        self.pair.flush_caller()
        self.pair.flush_owner()

    @precondition(lambda self: self.pair.to_owner)
    @rule()
    def deliver_to_owner(self) -> None:
        self.pair.deliver_to_owner()

    @precondition(lambda self: self.pair.to_caller)
    @rule()
    def deliver_to_caller(self) -> None:
        self.pair.deliver_to_caller()

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.9]))
    def wait(self, seconds: float) -> None:
        self.pair.advance(seconds)

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0]))
    def stop(self, seconds: float) -> None:
        self.pair.stop(seconds)

    @precondition(lambda self: self.pair.owner is not None)
    @rule(key=st.sampled_from(KEYS), is_answered=st.booleans())
    def serve_first_after_a_change_that_was_slept_through(self, key: str, is_answered: bool) -> None:
        """Random steps alone seldom come to this."""
        if is_answered and self.running:
            self.answer(0, False)
            self.flush()
        self.change(key)
        self.stop(4.0)
        self.serve()

    @precondition(lambda self: self.pair.owner is not None)
    @rule()
    def serve(self) -> None:
        """Somebody reads all keys: values in use are given to them, reads in flight are joined."""
        if self.pair.now_s >= self.fence_s:
            self.pair.expire()
            self.fence_s = self.pair.caller.fence_s
            assert self.fence_s > self.pair.now_s
        assert self.pair.owner is not None
        if self.pair.now_s - self.pair.owner.heard_at_s <= PATIENCE_S:
            return
        for key, value in () if self.is_in_doubt else self.used.values():
            assert value == self.truth[key], f"{value} is served, and {self.truth[key]} was written before"
        for call_id, call in self.calls.items():
            if call.kind is CallKind.READ and call.state is CallerCall.SENT and call_id not in self.outdated:
                self.floors[call_id] = self.truth[call.method]

    # -- what must hold -----------------------------------------------------------------------------------------------
    @invariant()
    def the_fence_follows_when_it_comes_down(self) -> None:
        self.fence_s = min(self.fence_s, self.pair.caller.fence_s)

    @invariant()
    def everything_is_told_once(self) -> None:
        assert all(count == 1 for count in self.answers.values())
        assert all(count == 1 for count in self.outdated.values())
        assert all(count == 1 for count in self.failed.values())
        assert not self.answers.keys() & self.failed.keys()

    @invariant()
    def a_command_runs_once_unless_its_caller_was_told_that_it_may_not_have(self) -> None:
        assert all(count == 1 for count in self.runs.values())

    @invariant()
    def what_is_in_doubt_is_fenced(self) -> None:
        assert self.pair.caller.is_in_doubt == self.is_in_doubt
        if self.is_in_doubt and self.used:
            assert self.pair.caller.fence_s < self.pair.now_s + 3.0 / 4

    @invariant()
    def both_ends_count_the_same_as_their_users(self) -> None:
        assert self.pair.caller.subscription_count == len(self.used)
        if self.pair.owner is not None:
            assert self.pair.owner.subscription_count == len(self.subscribed)

    def teardown(self) -> None:
        """When all has come to rest no value in use is stale, and each end holds just what the other one does."""
        if not self.pair.is_connected:
            self.pair.connect()
        self.pair.exchange()
        for _ in range(len(self.running) + len(self.requests)):
            if self.running:
                self.answer(0, False)
            else:
                self.confirm()
        self.pair.exchange()
        while self.reached:
            self.settle()
        self.pair.exchange()
        for key, value in self.used.values():
            assert value == self.truth[key], f"{key} is {self.truth[key]}, and {value} is still used"
        assert self.pair.caller.pending_count == 0
        assert self.pair.owner is not None
        assert self.pair.owner.in_flight_count == 0
        assert self.pair.owner.subscription_count == self.pair.caller.subscription_count
        assert self.settled_marks == self.marks


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(
    max_examples=250, stateful_step_count=50, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
