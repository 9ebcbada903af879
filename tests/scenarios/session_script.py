"""Runs the scripts of session scenarios, and writes down what happens in words.

The commands of a script (`tests.scenarios.golden` says what a script is):

    connect | dial | disconnect | restart EPOCH | forget      the carrier; the owner's process; the owner's memory of it
    read N [METHOD] [within S] | execute N [METHOD] | request N METHOD… [barrier B]      calls, by a number of the
    script cancel N | unsubscribe N | settle B                       the caller's end
    result N VALUE [last] | error N TYPE | moved N VERSION    the owner's end; last: nothing more will be told of it
    invalidate N | barrier B | leave | refuse TYPE
    varies N                                                  the result depends on who asks
    probe N WAIT…                                             along a call, with the waits behind it
    advance S                                                 time passes at both ends
    drop-to-caller | drop-to-owner                            a frame is lost, and the carrier is not
    flush | to-caller [K] | to-owner | exchange               frames leave; one arrives; all do until nothing moves
    state                                                     what each end holds

Numbers of calls are given by the session from 1 on, so a script counts its calls in the order it makes them.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusion_cluster.protocol import OutgoingCall, OwnerSession
from fusion_cluster.protocol.edge_chasing import Hop, Probe
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
    Leaving,
    Left,
    MovedAway,
    Opened,
    Outdated,
    OwnerEvent,
    Probed,
    Refused,
    Silent,
    Unsubscribed,
)
from fusion_cluster.v1.session_pb2 import Call, ClientFrame, Error, Holdings, Invalidate, Result, ServerFrame
from fusion_cluster.v1.session_pb2 import Probe as ProbeMessage
from tests.scenarios.golden import GoldenScript
from tests.session_pair import SessionPair, command_call, invalidation_call, read_call


class SessionScript(GoldenScript):
    """One run of a script."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = SessionPair(on_frame=self._on_frame, on_event=self._on_event)
        self.calls: dict[int, OutgoingCall] = {}
        self.commands = {
            "connect": lambda words: self.pair.connect(),
            "dial": lambda words: self.pair.dial(),
            "disconnect": lambda words: self.pair.disconnect(),
            "restart": self._restart,
            "forget": lambda words: self.pair.lose_session(),
            "read": self._read,
            "execute": self._execute,
            "request": self._request,
            "cancel": lambda words: self.pair.caller.cancel(self.calls[int(words[0])]),
            "unsubscribe": lambda words: self.pair.caller.unsubscribe(int(words[0])),
            "settle": lambda words: self.pair.caller.settle(int(words[0])),
            "result": self._result,
            "error": self._error,
            "moved": lambda words: self._owner.send_moved(int(words[0]), int(words[1])),
            "invalidate": lambda words: self._owner.send_invalidated(int(words[0])),
            "barrier": lambda words: self._owner.send_barrier(int(words[0])),
            "varies": lambda words: self._owner.send_varies(int(words[0])),
            "probe": self._probe,
            "leave": lambda words: self.pair.go_away(),
            "refuse": lambda words: self.pair.go_away(Error(type=words[0], message=words[0], transient=True)),
            "advance": lambda words: self.pair.advance(float(words[0])),
            "flush": lambda words: self._flush(),
            "to-caller": lambda words: self.pair.deliver_to_caller(int(words[0]) if words else 0),
            "to-owner": lambda words: self.pair.deliver_to_owner(),
            "drop-to-caller": lambda words: _drop(self.pair.to_caller),
            "drop-to-owner": lambda words: _drop(self.pair.to_owner),
            "exchange": lambda words: self.pair.exchange(),
            "state": lambda words: self._state(),
        }

    # -- commands -----------------------------------------------------------------------------------------------------
    @property
    def _owner(self) -> OwnerSession:
        assert self.pair.owner is not None
        return self.pair.owner

    def _restart(self, words: list[str]) -> None:
        self.pair.lose_session()
        self.pair.epoch = int(words[0])

    def _start(self, number: str, call: OutgoingCall) -> None:
        self.pair.caller.start(call)
        assert call.id == int(number), f"this is call {call.id}"
        self.calls[call.id] = call

    def _read(self, words: list[str]) -> None:
        deadline_s = float("inf")
        if "within" in words:
            deadline_s = self.pair.now_s + float(words[words.index("within") + 1])
            del words[words.index("within") :]
        self._start(words[0], read_call(*words[1:], deadline_s=deadline_s))

    def _execute(self, words: list[str]) -> None:
        self._start(words[0], command_call(*words[1:]))

    def _request(self, words: list[str]) -> None:
        barrier = 0
        if "barrier" in words:
            barrier = int(words[words.index("barrier") + 1])
            del words[words.index("barrier") :]
        self._start(words[0], invalidation_call(*words[1:], barrier=barrier))

    def _result(self, words: list[str]) -> None:
        self._owner.send_result(int(words[0]), 1, words[1].encode(), subscribed="last" not in words)

    def _error(self, words: list[str]) -> None:
        self._owner.send_error(int(words[0]), 1, Error(type=words[1], message=words[1]), subscribed=True)

    def _probe(self, words: list[str]) -> None:
        hops = tuple(Hop(int(wait), (f"key {wait}",)) for wait in words[1:])
        self.pair.caller.probe(self.calls[int(words[0])], Probe(1, hops))

    def _flush(self) -> None:
        self.pair.flush_caller()
        self.pair.flush_owner()

    def _state(self) -> None:
        caller = self.pair.caller
        self.lines.append(
            f"caller {caller.state.name.lower()}: {caller.pending_count} waiting, "
            f"{caller.subscription_count} subscribed"
        )
        if self.pair.owner is not None:
            owner = self.pair.owner
            self.lines.append(
                f"owner {owner.state.name.lower()}: {owner.in_flight_count} in flight, "
                f"{owner.subscription_count} subscribed"
            )

    # -- in words -----------------------------------------------------------------------------------------------------
    def _on_frame(self, end: str, frame: ClientFrame | ServerFrame) -> None:
        words = _client_words(frame) if isinstance(frame, ClientFrame) else _server_words(frame)
        arrow = "caller → owner" if end == "caller" else "owner → caller"
        self.lines.append(f"{arrow}: {'; '.join(words) or 'an empty frame'}")

    def _on_event(self, end: str, event: CallerEvent | OwnerEvent) -> None:
        self.lines.append(f"  {end}: {_event_words(event)}")


def _drop(frames: list[bytes]) -> None:
    del frames[0]


def _client_words(frame: ClientFrame) -> list[str]:
    words = []
    if frame.HasField("hello"):
        words.append(f"hello, {'resume ' + _text(frame.hello.resume_token) if frame.hello.resume_token else 'new'}")
    for request in frame.invalidations:
        words.append(f"invalidate {_keys(request)} as {request.id}")
        if request.barrier:
            words[-1] += f" barrier {request.barrier}"
    words += [_call(call) for call in frame.calls]
    for name in ("cancelled", "unsubscribed", "received", "settled_barriers", "joined_barriers"):
        if getattr(frame, name):
            words.append(f"{name.split('_')[0]} {_numbers(getattr(frame, name))}")
    if frame.HasField("ping"):
        words.append(f"ping {frame.ping.sequence}{', which ids?' if frame.ping.asks_ids else ''}")
    words += [f"probe along {probe.id}: {_way(probe)}" for probe in frame.probes]
    return words


def _server_words(frame: ServerFrame) -> list[str]:
    words = []
    if frame.HasField("challenge"):
        words.append("challenge")
    if frame.HasField("welcome"):
        welcome = frame.welcome
        words.append(f"welcome epoch {welcome.epoch} {'resumed' if welcome.resumed else _text(welcome.resume_token)}")
    words += [f"result {_result(result)}" for result in frame.results]
    words += [f"moved {moved.id} to map {moved.slot_map_version}" for moved in frame.moved]
    if frame.invalidated:
        words.append(f"invalidated {_numbers(frame.invalidated)}")
    if frame.barriers:
        words.append(f"barrier {_numbers(frame.barriers)}")
    if frame.HasField("pong"):
        words.append(f"pong {frame.pong.sequence}{_holdings(frame.pong.holdings)}")
    if frame.HasField("go_away"):
        words.append(f"go away{' ' + frame.go_away.error.type if frame.go_away.HasField('error') else ''}")
    return words


def _event_words(event: CallerEvent | OwnerEvent) -> str:
    match event:
        case Opened(epoch, is_resumed):
            return f"opened, epoch {epoch}, {'resumed' if is_resumed else 'new'}"
        case Answered(calls):
            return "answered " + ", ".join(_result(call.result) for call in calls if call.result is not None)
        case Outdated(calls):
            return "outdated " + _numbers([call.id for call in calls])
        case MovedAway(calls):
            return "moved " + ", ".join(f"{call.id} to map {call.slot_map_version}" for call in calls)
        case Failed(calls, error):
            return f"failed {_numbers([call.id for call in calls])} with {type(error).__name__}"
        case BarriersReached(barriers):
            return "barrier " + _numbers(barriers)
        case Doubted():
            return "in doubt"
        case Assured():
            return "assured"
        case Leaving():
            return "the owner is leaving"
        case Refused(error):
            return f"refused, {type(error).__name__}: {error}"
        case Silent():
            return "silence"
        case Called(calls):
            return "called " + ", ".join(_call(call) for call in calls)
        case Cancelled(ids):
            return "cancelled " + _numbers(ids)
        case Unsubscribed(ids):
            return "unsubscribed " + _numbers(ids)
        case InvalidationRequested(request):
            return f"invalidate {_keys(request)} as {request.id}"
        case BarrierAnswered(barrier, confirms):
            return f"settled {barrier}" if confirms else f"joined {barrier}"
        case Probed(call_id, probe):
            return f"probe along {call_id}: {_way(probe)}"
        case Left():
            return "left"
    raise AssertionError(event)


def _way(probe: Probe | ProbeMessage) -> str:
    return " ".join(str(hop.wait) for hop in probe.hops)


def _call(call: Call) -> str:
    word = "read" if call.kind == Call.KIND_READ else "execute"
    return f"{word} {call.id} {call.method}{f' within {call.timeout_ms} ms' if call.timeout_ms else ''}"


def _result(result: Result) -> str:
    if result.varies:
        return f"{result.id} varies"
    return f"{result.id} = {result.error.type if result.HasField('error') else _text(result.value)}"


def _holdings(holdings: Holdings) -> str:
    if holdings.has_ids:
        return f", holds {_numbers(holdings.ids) or 'nothing'}"
    return f", holds {holdings.count}" if holdings.count else ""


def _keys(request: Invalidate) -> str:
    return " ".join(key.method for key in request.keys)


def _numbers(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))


def _text(data: bytes) -> str:
    return data.decode().strip()
