from __future__ import annotations

from collections import Counter

import pytest

from loadtest.zipf import ZipfSampler


def test_the_same_seed_draws_the_same() -> None:
    one, two = (ZipfSampler("abcdefgh", seed=7) for _ in range(2))
    assert [one.draw() for _ in range(100)] == [two.draw() for _ in range(100)]


def test_the_second_is_drawn_half_as_often_as_the_first() -> None:
    sampler = ZipfSampler(["first", "second", "third"], seed=1)
    counts = Counter(sampler.draw() for _ in range(30_000))
    assert counts["first"] / counts["second"] == pytest.approx(2, rel=0.1)
    assert counts["first"] / counts["third"] == pytest.approx(3, rel=0.1)


def test_exponent_0_draws_evenly() -> None:
    sampler = ZipfSampler(["a", "b"], exponent=0, seed=1)
    counts = Counter(sampler.draw() for _ in range(20_000))
    assert counts["a"] / counts["b"] == pytest.approx(1, rel=0.1)


def test_the_only_item_is_always_drawn() -> None:
    assert ZipfSampler(["it"]).draw() == "it"


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        ZipfSampler([])
