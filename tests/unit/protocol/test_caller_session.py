from __future__ import annotations

from fusion_cluster.protocol.events import Answered, Outdated
from tests.session_pair import SessionPair, read_call


def test_what_was_ready_during_an_outage_and_comes_after_the_lease_is_answered_and_out_of_date() -> None:
    pair = SessionPair()
    call = read_call()
    pair.connect()
    pair.caller.start(call)
    pair.exchange()
    pair.disconnect()
    assert pair.owner is not None
    pair.owner.send_result(call.id, 1, b"ten", subscribed=True)
    pair.dial()
    pair.deliver_to_caller()
    pair.flush_caller()
    pair.deliver_to_owner()
    pair.flush_owner()
    pair.deliver_to_caller()
    pair.advance(2.86)
    pair.take_caller_events()
    pair.deliver_to_caller()
    assert pair.take_caller_events() == [Answered([call]), Outdated([call])]
    assert pair.caller.subscription_count == 0


def test_a_lease_begins_when_the_hello_left_not_when_the_welcome_came() -> None:
    pair = SessionPair(read_lease_ms=1000)
    pair.dial()
    pair.deliver_to_caller()
    pair.flush_caller()
    left_at_s = pair.now_s
    pair.deliver_to_owner()
    pair.now_s += 0.5
    pair.deliver_to_caller()
    assert left_at_s + 0.9 < pair.caller.lease_until_s < left_at_s + 1.0


def test_a_pong_renews_the_lease_from_when_its_ping_left() -> None:
    pair = SessionPair(read_lease_ms=1000)
    pair.connect()
    pair.advance(0.4)
    pair.flush_caller()
    left_at_s = pair.now_s
    pair.deliver_to_owner()
    pair.flush_owner()
    pair.now_s += 0.3
    pair.deliver_to_caller()
    assert left_at_s + 0.9 < pair.caller.lease_until_s < left_at_s + 1.0
