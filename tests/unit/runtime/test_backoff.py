"""Backoff: pauses that grow up to a bound, are never shorter than somebody asks for, and begin anew."""

from __future__ import annotations

import pytest

from fusion_cluster.runtime import Backoff, Entropy, SeededEntropy


class Fixed(Entropy):
    """Always the same number."""

    def __init__(self, number: float) -> None:
        self._number = number

    def random(self) -> float:
        return self._number

    def token_bytes(self, size: int) -> bytes:
        return bytes(size)


def test_pauses_grow_by_the_factor_up_to_the_longest() -> None:
    backoff = Backoff(Fixed(0.5), first_s=1.0, longest_s=10.0, factor=3.0, jitter=1.0)
    assert [backoff.next_s() for _ in range(5)] == [1.0, 3.0, 9.0, 10.0, 10.0]


@pytest.mark.parametrize(("number", "share"), [(0.0, 0.25), (0.5, 0.625)])
def test_a_pause_is_at_least_the_given_share_of_what_it_can_be(number: float, share: float) -> None:
    backoff = Backoff(Fixed(number), first_s=8.0, longest_s=100.0, jitter=0.25)
    assert [backoff.next_s() for _ in range(3)] == [8.0 * share, 16.0 * share, 32.0 * share]


def test_a_pause_is_never_shorter_than_somebody_asks_for_and_grows_all_the_same() -> None:
    backoff = Backoff(Fixed(0.0), first_s=1.0, longest_s=100.0, jitter=1.0)
    assert [backoff.next_s(least_s=3.0) for _ in range(4)] == [3.0, 3.0, 4.0, 8.0]


def test_after_a_success_the_pauses_begin_anew() -> None:
    backoff = Backoff(Fixed(0.0), first_s=1.0, longest_s=100.0, jitter=1.0)
    first = [backoff.next_s() for _ in range(3)]
    backoff.reset()
    assert [backoff.next_s() for _ in range(3)] == first


def test_two_that_fail_together_do_not_come_back_together() -> None:
    one, other = (Backoff(SeededEntropy(seed), first_s=1.0, longest_s=60.0) for seed in (1, 2))
    assert all(one.next_s() != other.next_s() for _ in range(10))
