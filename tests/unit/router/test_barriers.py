"""What one process does with the messages of a barrier."""

from __future__ import annotations

from fusion_router.barrier import Barriers, Confirmations

BARRIER = 7


class _Session:
    """A subscriber that is heard, and answers when the test says so."""

    heard_s_ago = 0.0

    def __init__(self) -> None:
        self.marks: list[int] = []

    def send_barrier(self, barrier: int) -> None:
        self.marks.append(barrier)

    def drop(self) -> None:
        raise AssertionError("nobody is silent here")


async def test_a_request_that_is_made_again_waits_for_what_the_first_has_set_off() -> None:
    barriers = Barriers(read_lease_s=60.0)
    session = _Session()
    subscriber = Confirmations(session)
    barriers.add(subscriber)
    subscriber.owe()
    answers: list[str] = []
    barriers.requested(BARRIER, lambda _: answers.append("over the session that is lost"))
    barriers.requested(BARRIER, lambda _: answers.append("over the next one"))
    assert session.marks == [BARRIER]
    assert answers == []
    barriers.mark_answered(subscriber, BARRIER, confirms=True)
    assert answers == ["over the session that is lost", "over the next one"]
    barriers.close()


async def test_a_mark_that_reaches_an_engaged_process_is_answered_at_once_and_confirms_nothing() -> None:
    barriers = Barriers(read_lease_s=60.0)
    subscriber = Confirmations(_Session())
    barriers.add(subscriber)
    subscriber.owe()
    answers: list[tuple[str, bool]] = []
    barriers.reached(BARRIER, lambda confirms: answers.append(("first", confirms)))
    barriers.reached(BARRIER, lambda confirms: answers.append(("second", confirms)))
    assert answers == [("second", False)]
    barriers.mark_answered(subscriber, BARRIER, confirms=True)
    assert answers == [("second", False), ("first", True)]
    barriers.close()


async def test_what_is_invalidated_while_a_barrier_is_under_way_is_waited_for_too() -> None:
    """A key that its owner was to be told of is owned here by then."""
    barriers = Barriers(read_lease_s=60.0)
    session = _Session()
    subscriber = Confirmations(session)
    barriers.add(subscriber)
    with barriers.begin() as barrier:
        barrier.told()
    subscriber.owe()
    barrier.invalidated_more()
    barrier.invalidated_more()
    assert session.marks == [barrier.number]
    barrier.answered()
    assert not barrier.settled.done()
    barriers.mark_answered(subscriber, barrier.number, confirms=True)
    await barrier
    barrier.invalidated_more()
    assert session.marks == [barrier.number]
    barriers.close()
