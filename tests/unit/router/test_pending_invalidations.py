"""Invalidations that wait for an owner who is away."""

from __future__ import annotations

import asyncio

import pytest

from fusion_cluster.database.applied_operations import Reference
from fusion_cluster.errors import PermissionDenied
from fusion_router.invalidation import Sent, Told
from fusion_router.pending_invalidations import PendingInvalidations
from tests.waiting import until


class Owner:
    """An owner that answers when it is told to."""

    def __init__(self) -> None:
        self.messages: list[list[Reference]] = []
        self.operations: list[str] = []
        self.is_back = asyncio.Event()
        self.refusal: Exception | None = None

    async def tell(self, references: Told, operation_id: str) -> Exception | None:
        self.messages.append(list(references))
        self.operations.append(operation_id)
        await self.is_back.wait()
        return self.refusal


def key(number: int) -> Reference:
    return "Carts.total", bytes([number])


async def test_what_comes_while_a_message_is_under_way_goes_with_the_next_and_each_key_once() -> None:
    owner = Owner()
    pending = PendingInvalidations(owner.tell)
    first = pending.add({key(1): Sent(0)})
    await until(lambda: owner.messages)
    later = [pending.add({key(number % 3): Sent(0)}) for number in range(5_000)]
    assert not first.done()
    owner.is_back.set()
    await asyncio.gather(first, *later)
    assert owner.messages == [[key(1)], [key(0), key(1), key(2)]]


async def test_a_message_names_an_operation_if_all_its_keys_belong_to_that_one() -> None:
    owner = Owner()
    pending = PendingInvalidations(owner.tell)
    pending.add({key(1): Sent(0)}, "one")
    await until(lambda: owner.messages)
    pending.add({key(2): Sent(0)}, "two")
    pending.add({key(3): Sent(0)}, "two")
    owner.is_back.set()
    await until(lambda: len(owner.messages) == 2)
    owner.is_back.clear()
    pending.add({key(4): Sent(0)}, "three")
    await until(lambda: len(owner.messages) == 3)
    pending.add({key(5): Sent(0)}, "four")
    plain = pending.add({key(6): Sent(0)})
    owner.is_back.set()
    await plain
    assert owner.operations == ["one", "two", "three", ""]
    assert owner.messages[-1] == [key(5), key(6)]


async def test_a_refusal_reaches_those_whose_keys_were_refused_and_the_next_message_goes_on() -> None:
    owner = Owner()
    pending = PendingInvalidations(owner.tell)
    owner.refusal = PermissionDenied("no")
    refused = pending.add({key(1): Sent(0)})
    owner.is_back.set()
    with pytest.raises(PermissionDenied):
        await refused
    owner.refusal = None
    await pending.add({key(2): Sent(0)})
    assert owner.messages == [[key(1)], [key(2)]]


async def test_closing_gives_up_what_waits() -> None:
    owner = Owner()
    pending = PendingInvalidations(owner.tell)
    waiting = pending.add({key(1): Sent(0)})
    await until(lambda: owner.messages)
    await pending.close()
    assert not waiting.done()


async def test_a_fault_while_telling_reaches_those_who_wait_and_the_next_message_goes_on() -> None:
    told: list[list[Reference]] = []

    async def tell(references: Told, operation_id: str) -> Exception | None:
        told.append(list(references))
        if len(told) == 1:
            raise RuntimeError("a bug")
        return None

    pending = PendingInvalidations(tell)
    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.wait_for(pending.add({key(1): Sent(0)}), 1.0)
    await asyncio.wait_for(pending.add({key(2): Sent(0)}), 1.0)
    assert told == [[key(1)], [key(2)]]
