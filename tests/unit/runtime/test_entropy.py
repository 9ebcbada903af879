"""Entropy: numbers within their bounds, names nobody else has, and the same again for the same seed."""

from __future__ import annotations

import pytest

from fusion_cluster.runtime import Entropy, SeededEntropy, SystemEntropy

SOURCES = [SystemEntropy(), SeededEntropy(7)]


def drawn(entropy: Entropy) -> list[object]:
    return [entropy.random(), entropy.uniform(2, 3), entropy.bits(20), entropy.token_hex(4), entropy.new_id()]


def test_one_seed_gives_the_same_and_another_seed_something_else() -> None:
    assert drawn(SeededEntropy(7)) == drawn(SeededEntropy(7))
    assert all(one != other for one, other in zip(drawn(SeededEntropy(7)), drawn(SeededEntropy(8)), strict=True))


def test_the_machine_never_gives_the_same() -> None:
    entropy = SystemEntropy()
    assert len({entropy.new_id() for _ in range(100)}) == 100


@pytest.mark.parametrize("entropy", SOURCES, ids=lambda entropy: type(entropy).__name__)
def test_numbers_keep_their_bounds(entropy: Entropy) -> None:
    for _ in range(200):
        assert 0 <= entropy.random() < 1
        assert -1 <= entropy.uniform(-1, 4) <= 4
        assert len(entropy.token_bytes(5)) == 5
        assert len(entropy.token_hex(5)) == 10
        assert len(entropy.new_id()) == 32


@pytest.mark.parametrize("entropy", SOURCES, ids=lambda entropy: type(entropy).__name__)
@pytest.mark.parametrize("count", [1, 7, 8, 9, 32, 63])
def test_so_many_bits_are_all_used_and_no_more(entropy: Entropy, count: int) -> None:
    numbers = [entropy.bits(count) for _ in range(200)]
    assert all(0 <= number < 2**count for number in numbers)
    for bit in range(count):
        assert {number >> bit & 1 for number in numbers} == {0, 1}
