from __future__ import annotations

import math

from fusion_cluster.protocol import OutgoingCall
from fusion_cluster.protocol.events import Answered, Outdated
from fusion_cluster.v1.session_pb2 import ServerFrame
from tests.session_pair import SessionPair, command_call, read_call


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


# -- the fence --------------------------------------------------------------------------------------------------------
def answered_read(pair: SessionPair) -> OutgoingCall:
    call = read_call()
    pair.caller.start(call)
    pair.exchange()
    assert pair.owner is not None
    pair.owner.send_result(call.id, 1, b"ten", subscribed=True)
    pair.exchange()
    pair.take_caller_events()
    return call


def test_there_is_nothing_to_expire_until_a_read_leaves() -> None:
    pair = SessionPair()
    assert pair.caller.fence_s == math.inf
    pair.connect()
    assert pair.caller.fence_s == math.inf
    pair.caller.start(read_call())
    assert pair.caller.fence_s == math.inf
    pair.flush_caller()
    assert pair.caller.fence_s == pair.caller.lease_until_s


def test_what_a_stopped_caller_has_read_and_asked_for_expires_before_any_tick() -> None:
    pair = SessionPair()
    pair.connect()
    answered, asked = answered_read(pair), read_call()
    pair.caller.start(asked)
    pair.flush_caller()
    pair.stop(2.8)
    pair.expire()
    assert pair.take_caller_events() == []
    pair.stop(0.1)
    pair.expire()
    assert pair.take_caller_events() == [Outdated([asked]), Outdated([answered])]
    assert pair.caller.fence_s == math.inf
    pair.advance(0.0)
    assert [event for event in pair.take_caller_events() if isinstance(event, Outdated)] == []


def test_a_renewed_lease_moves_the_fence_without_being_asked() -> None:
    pair = SessionPair()
    pair.connect()
    answered_read(pair)
    first_s = pair.caller.fence_s
    pair.advance(1.0)
    pair.exchange()
    assert pair.caller.fence_s == first_s + 1.0


def test_nothing_expires_where_only_commands_wait() -> None:
    pair = SessionPair()
    pair.connect()
    pair.caller.start(command_call())
    pair.exchange()
    pair.expire()
    assert pair.caller.fence_s == math.inf
    pair.stop(4.0)
    pair.expire()
    assert pair.take_caller_events()[1:] == []  # but for the opening


def test_a_result_that_comes_over_the_next_carrier_lives_by_its_lease_from_then_on() -> None:
    pair = SessionPair()
    call = read_call()
    pair.connect()
    pair.caller.start(call)
    pair.exchange()
    pair.disconnect()
    assert pair.caller.fence_s == math.inf
    assert pair.owner is not None
    pair.owner.send_result(call.id, 1, b"ten", subscribed=True)
    pair.dial()
    pair.deliver_to_caller()
    pair.flush_caller()
    pair.deliver_to_owner()
    pair.flush_owner()
    pair.deliver_to_caller()
    pair.deliver_to_caller()
    assert pair.take_caller_events()[-1] == Answered([call])
    assert pair.caller.fence_s == pair.caller.lease_until_s


def test_what_a_lost_carrier_has_left_expires_after_a_part_of_the_lease() -> None:
    pair = SessionPair()
    pair.connect()
    answered_read(pair)
    pair.disconnect()
    assert pair.caller.is_in_doubt
    assert pair.now_s < pair.caller.fence_s < pair.now_s + 3.0 / 4
    pair.stop(3.0 / 4)
    pair.expire()
    assert pair.caller.subscription_count == 0
    assert pair.caller.fence_s == math.inf
    assert not pair.caller.is_in_doubt
    pair.connect()
    assert pair.owner is not None
    assert pair.owner.subscription_count == 0


def test_a_doubt_does_not_outlast_the_read_lease() -> None:
    pair = SessionPair()
    pair.connect()
    answered_read(pair)
    lease_until_s = pair.caller.lease_until_s
    pair.stop(2.8)
    pair.disconnect()
    assert pair.caller.fence_s == lease_until_s


def test_a_resume_that_breaks_again_does_not_prolong_the_doubt() -> None:
    pair = SessionPair()
    pair.connect()
    answered_read(pair)
    pair.disconnect()
    until_s = pair.caller.fence_s
    pair.stop(0.3)
    pair.dial()
    pair.deliver_to_caller()
    pair.flush_caller()
    pair.deliver_to_owner()
    pair.deliver_to_caller()
    pair.disconnect()
    assert pair.caller.fence_s == until_s


def test_pings_wait_while_the_owners_end_is_in_doubt_itself() -> None:
    pair = SessionPair()
    pair.connect()
    assert pair.owner is not None
    pair.advance(1.0)
    pair.flush_caller()
    pair.deliver_to_owner()
    assert pair.owner.take_frames(is_sure=False) == []
    pair.owner.answer_pings()
    assert pair.owner.has_output
    (frame,) = pair.owner.take_frames()
    assert ServerFrame.FromString(frame).pong.sequence == 1
