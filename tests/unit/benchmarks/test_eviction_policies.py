"""The caches and the traces that the graph's hit rate is compared on, against examples worked out by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.eviction import graph_hit_rate
from benchmarks.policies import POLICIES, Lfu, Lru, Policy, Sieve
from benchmarks.traces import scan_heavy_trace, zipf_trace

A, B, C, D, E = range(5)


def found(policy: Policy, trace: list[int]) -> list[int]:
    """The places in the trace at which the key was there."""
    return [place for place, key in enumerate(trace) if policy.access(key)]


def test_lru_evicts_what_was_not_read_for_the_longest_time() -> None:
    # A B C; A is read; D takes the place of B; B takes that of C; A and D are still there.
    assert found(Lru(3), [A, B, C, A, D, B, A, D, C]) == [3, 6, 7]


def test_lfu_evicts_what_was_read_least_often() -> None:
    # A twice, B twice, C once: D takes the place of C, C that of D; A and B stay.
    assert found(Lfu(3), [A, A, B, C, B, D, A, B, C, D]) == [1, 4, 6, 7]


def test_lfu_evicts_the_older_of_two_that_were_read_equally_often() -> None:
    # A, then B, twice each; C comes for A, D for C; B is still there, and A comes for D.
    assert found(Lfu(2), [A, B, A, B, C, B, D, A]) == [2, 3, 5]


def test_lfu_forgets_how_often_an_evicted_key_was_read() -> None:
    # B comes for A, which had been read three times; A comes back as new, for B.
    assert found(Lfu(1), [A, A, A, B, A, B]) == [1, 2]


def test_sieve_spares_what_was_read_once_and_goes_on_where_it_stopped() -> None:
    # A B C, A read. D: the hand takes the mark of A, evicts B, and stands at C. E: evicts C, not A, and stands at D.
    # B: evicts D and stands at E. A is there all the time, though it is the oldest and has no mark any more.
    assert found(Sieve(3), [A, B, C, A, D, E, B, D, A]) == [3, 8]


def test_sieve_comes_round_to_the_oldest() -> None:
    # A B read. C: the hand takes both marks, comes round, and evicts A. Then D comes for B, B for C, C for D; B stays.
    assert found(Sieve(2), [A, B, A, B, C, D, B, C, B]) == [2, 3, 8]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_policy_keeps_as_many_keys_as_it_may(name: str, size: int) -> None:
    trace = zipf_trace(keys=20, length=500, seed=1)
    assert sum(is_kept(POLICIES[name](size), trace, key) for key in range(20)) == size


def is_kept(policy: Policy, trace: list[int], key: int) -> bool:
    """Whether a policy has the key after a trace."""
    for read in trace:
        policy.access(read)
    return policy.access(key)


def test_a_hit_rate_is_in_percent() -> None:
    assert Lru(2).hit_rate([A, A, B, B]) == 50.0


async def test_the_graph_evicts_as_sieve_does_where_nothing_depends_on_anything() -> None:
    trace = zipf_trace(keys=200, length=3_000, seed=7)
    assert await graph_hit_rate(trace, 20) == pytest.approx(Sieve(20).hit_rate(trace))


def test_a_trace_is_the_same_for_the_same_seed() -> None:
    assert zipf_trace(keys=50, length=100, seed=3) == zipf_trace(keys=50, length=100, seed=3)
    assert zipf_trace(keys=50, length=100, seed=3) != zipf_trace(keys=50, length=100, seed=4)


def test_the_first_key_of_a_zipf_trace_is_read_twice_as_often_as_the_second() -> None:
    (_, first), (_, second), (_, third) = Counter(zipf_trace(keys=100, length=100_000, seed=5)).most_common(3)
    assert first / second == pytest.approx(2, rel=0.1)
    assert first / third == pytest.approx(3, rel=0.1)


def test_half_of_a_scan_heavy_trace_are_scans_through_other_keys() -> None:
    trace = scan_heavy_trace(keys=100, length=1_000, seed=6, scan=40)
    assert len(trace) == 1_000
    assert all(key < 100 for key in trace[:40])
    assert trace[40:80] == list(range(100, 140))
    assert trace[120:160] == list(range(140, 180))
    assert trace[200:240] == [*range(180, 200), *range(100, 120)]
