"""Turns of one key: first come, first served, also if some leave the line."""

from __future__ import annotations

import asyncio
import random

import pytest

from fusion_cluster.commands import Turns
from fusion_cluster.errors import Overloaded


async def hold(turns: Turns, key: str, held: dict[str, int], order: list[int], number: int, steps: int) -> None:
    turn = turns.take(key)
    try:
        if turn is not None:
            await turn
        held[key] = held.get(key, 0) + 1
        assert held[key] == 1, "two hold one key"
        order.append(number)
        try:
            for _ in range(steps):
                await asyncio.sleep(0)
        finally:
            held[key] -= 1
    finally:
        turns.give_back(key, turn)


@pytest.mark.parametrize("seed", range(20))
async def test_one_holds_a_key_and_all_others_get_it_in_order_whoever_is_cancelled(seed: int) -> None:
    chance = random.Random(seed)
    turns, held = Turns(), dict[str, int]()
    orders: dict[str, list[int]] = {"a": [], "b": []}
    tasks: list[asyncio.Task[None]] = []
    for number in range(60):
        key = chance.choice("ab")
        tasks.append(asyncio.create_task(hold(turns, key, held, orders[key], number, chance.randrange(4))))
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if chance.random() < 0.4:  # also one to whom the key was handed in this turn of the loop
            chance.choice(tasks).cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() or task.exception() is None for task in tasks)
    assert all(order == sorted(order) for order in orders.values())
    assert len(turns) == 0
    assert turns.take("a") is None


async def test_no_more_than_so_many_run_or_wait() -> None:
    turns = Turns(max_users=2)
    first, second = turns.take("a"), turns.take("a")
    with pytest.raises(Overloaded):
        turns.take("b")
    turns.give_back("a", first)
    assert second is not None
    assert second.done()
    assert turns.take("b") is None


async def test_who_leaves_the_line_of_a_key_that_is_held_for_long_takes_no_room() -> None:
    turns = Turns()
    first = turns.take("key", "first")
    for _ in range(100):
        turn = turns.take("key")
        assert turn is not None
        turns.give_back("key", turn)
    waiting = turns._held["key"].waiting
    assert waiting is not None
    assert not waiting
    turns.give_back("key", first)
    assert not len(turns)
