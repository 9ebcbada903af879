"""A read whose callers have more time by now is asked anew before its deadline; the owner's work goes on."""

from __future__ import annotations

import pytest

from fusion_cluster.protocol import CallKind, OutgoingCall
from fusion_cluster.protocol.call import ANSWER_GRACE_S
from fusion_cluster.protocol.caller_calls import RENEWAL_MARGIN_S
from fusion_cluster.protocol.events import Answered, Called, Cancelled, Failed
from fusion_cluster.protocol.states import CallerCall
from tests.session_pair import SessionPair, command_call


class Extended(OutgoingCall):
    """A read that somebody with more time may wait for by now."""

    until_s: float = 0.0

    def latest_deadline_s(self) -> float:
        return self.until_s or self.deadline_s


@pytest.fixture
def pair() -> SessionPair:
    pair = SessionPair(read_lease_ms=60_000)
    pair.connect()
    return pair


def start(pair: SessionPair, *, deadline_s: float) -> Extended:
    call = Extended(CallKind.READ, "Carts.total", b"\x90", deadline_s)
    pair.caller.start(call)
    pair.exchange()
    pair.owner_events.clear()
    pair.caller_events.clear()
    return call


def test_the_owner_is_asked_anew_before_the_old_call_is_given_up(pair: SessionPair) -> None:
    call = start(pair, deadline_s=pair.now_s + 10)
    call.until_s = pair.now_s + 25
    pair.advance(10 - RENEWAL_MARGIN_S / 2)
    pair.exchange()
    called, cancelled = (event for event in pair.owner_events if isinstance(event, Called | Cancelled))
    assert isinstance(called, Called)
    assert isinstance(cancelled, Cancelled)
    assert [renewed.id for renewed in called.calls] == [2]
    assert 15_000 <= called.calls[0].timeout_ms <= 15_500
    assert list(cancelled.ids) == [1]
    assert call.state is CallerCall.SENT
    pair.advance(5)
    assert not pair.caller_events


def test_the_answer_to_the_renewed_call_is_that_of_the_read(pair: SessionPair) -> None:
    call = start(pair, deadline_s=pair.now_s + 10)
    call.until_s = pair.now_s + 25
    pair.advance(10 - RENEWAL_MARGIN_S / 2)
    assert pair.owner is not None
    pair.owner.send_result(1, 5, b"of the old call", subscribed=True)  # is on its way when the read is renewed
    pair.exchange()
    assert pair.caller.subscription_count == 0
    pair.owner.send_result(2, 6, b"of the new call", subscribed=True)
    pair.exchange()
    (answered,) = (event for event in pair.caller_events if isinstance(event, Answered))
    assert [answer.id for answer in answered.calls] == [2]
    assert pair.caller.subscription_count == pair.owner.subscription_count == 1


def test_without_more_time_it_ends_at_its_deadline(pair: SessionPair) -> None:
    start(pair, deadline_s=pair.now_s + 10)
    pair.advance(10 - RENEWAL_MARGIN_S / 2)
    assert not pair.caller_events
    pair.advance(RENEWAL_MARGIN_S)
    assert [type(event) for event in pair.caller_events] == [Failed]


def test_it_is_renewed_at_its_very_deadline(pair: SessionPair) -> None:
    call = start(pair, deadline_s=pair.now_s + 10)
    pair.advance(10 - RENEWAL_MARGIN_S / 2)
    call.until_s = pair.now_s + 10
    pair.advance(RENEWAL_MARGIN_S)
    assert not pair.caller_events
    pair.exchange()
    assert call.id == 2


def test_a_read_that_waits_for_the_connection_is_sent_once(pair: SessionPair) -> None:
    pair.disconnect()
    call = Extended(CallKind.READ, "Carts.total", b"\x90", pair.now_s + 10)
    pair.caller.start(call)
    call.until_s = pair.now_s + 25
    pair.advance(10 - RENEWAL_MARGIN_S / 2)
    pair.connect()
    (called,) = (event for event in pair.owner_events if isinstance(event, Called))
    assert [renewed.id for renewed in called.calls] == [call.id]


def test_what_is_unsure_is_asked_for_anew_in_the_session_that_comes(pair: SessionPair) -> None:
    call = start(pair, deadline_s=pair.now_s + 10)
    pair.disconnect()
    call.until_s = pair.now_s + 25
    pair.advance(10 - RENEWAL_MARGIN_S / 2)
    pair.connect()
    pair.exchange()
    assert [event.calls[0].id for event in pair.owner_events if isinstance(event, Called)] == [2]
    assert call.state is CallerCall.SENT


def test_no_read_is_renewed_while_the_owner_leaves(pair: SessionPair) -> None:
    call = start(pair, deadline_s=pair.now_s + 10)
    pair.go_away()
    pair.exchange()
    call.until_s = pair.now_s + 25
    pair.advance(10 - RENEWAL_MARGIN_S / 2)
    pair.exchange()
    assert call.id == 1
    assert not [event for event in pair.owner_events if isinstance(event, Cancelled)]


def test_a_command_waits_a_little_to_be_told_what_has_become_of_it(pair: SessionPair) -> None:
    call = command_call(deadline_s=pair.now_s + 10)
    pair.caller.start(call)
    pair.exchange()
    pair.advance(10 + ANSWER_GRACE_S / 2)
    assert not [event for event in pair.caller_events if isinstance(event, Failed)]
    pair.advance(ANSWER_GRACE_S)
    (failed,) = (event for event in pair.caller_events if isinstance(event, Failed))
    assert type(failed.error).__name__ == "CommandOutcomeUnknown"
