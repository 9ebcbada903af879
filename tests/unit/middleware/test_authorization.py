"""Authorization: commands by principal and rule, computations by key alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, MutableState, PermissionDenied, UsageError, compute_method
from fusion_cluster.middleware import Authorization, Call, acting_as, anybody, current_principal, signed_in
from tests.unit.middleware.bakery import Bakery, Recorder, baking


@dataclass(frozen=True)
class Person:
    name: str
    is_baker: bool = False


ANN, BOB = Person("Ann", is_baker=True), Person("Bob")


def baker(person: Person | None, call: Call) -> bool:
    return person is not None and person.is_baker


RULES = Authorization({"Bakery.set_*": baker, "Bakery.order": signed_in, "Bakery.close": anybody})


async def test_a_command_is_for_whom_its_rule_allows() -> None:
    async with baking(RULES) as bakery:
        with acting_as(ANN):
            assert await bakery.set_price("roll", 3) == 2
        with acting_as(BOB):
            assert await bakery.order("roll") == "one roll for nobody"
            with pytest.raises(PermissionDenied, match=r"Bakery.set_price is not permitted"):
                await bakery.set_price("roll", 1)
        assert bakery.prices["roll"] == 3
        with pytest.raises(PermissionDenied):
            await bakery.order("roll")


async def test_a_command_without_a_rule_is_nobodys() -> None:
    async with baking(Authorization({"Bakery.order": anybody})) as bakery:
        with acting_as(ANN), pytest.raises(PermissionDenied):
            await bakery.set_price("roll", 3)


async def test_the_first_pattern_that_matches_decides() -> None:
    rules = Authorization({"*.set_price": signed_in, "Bakery.*": baker, "*": anybody})
    async with baking(rules) as bakery:
        with acting_as(BOB):
            await bakery.set_price("roll", 3)
            with pytest.raises(PermissionDenied):
                await bakery.order("roll")


async def test_patterns_tell_capitals_apart() -> None:
    async with baking(Authorization({"bakery.*": anybody})) as bakery:
        with pytest.raises(PermissionDenied):
            await bakery.order("roll")


async def test_a_rule_sees_the_call_and_may_take_its_time() -> None:
    async def within_limits(person: Person, call: Call) -> bool:
        await asyncio.sleep(0)
        return bool(person.is_baker or call.argument("price") <= 5)

    async with baking(Authorization({"Bakery.set_price": within_limits})) as bakery:
        with acting_as(BOB):
            assert await bakery.set_price("roll", 5) == 2
            with pytest.raises(PermissionDenied):
                await bakery.set_price("roll", 6)


async def test_a_rule_that_gives_nothing_says_no() -> None:
    async def forgetful(person: Person, call: Call) -> Any:
        pass

    rules: list[Any] = [forgetful, lambda person, call: None]
    for rule in rules:
        async with baking(Authorization({"*": rule})) as bakery:
            with acting_as(ANN), pytest.raises(PermissionDenied):
                await bakery.order("roll")


async def test_what_a_rule_raises_is_raised_and_the_body_does_not_run() -> None:
    async with baking(Authorization({"*": lambda person, call: person.is_baker})) as bakery:
        with pytest.raises(AttributeError):
            await bakery.order("roll")
        assert bakery.log == []


async def test_a_nested_command_is_asked_about_too_and_its_rule_may_know_that() -> None:
    rules = {"Bakery.set_prices": signed_in, "Bakery.set_price": lambda person, call: call.is_nested}
    async with baking(Authorization(rules)) as bakery:
        with acting_as(BOB):
            await bakery.set_prices({"roll": 3})
            with pytest.raises(PermissionDenied):
                await bakery.set_price("roll", 4)
    async with baking(RULES) as bakery:
        with acting_as(BOB), pytest.raises(PermissionDenied):
            await bakery.set_prices({"roll": 3})


async def test_acting_as_ends_with_its_block() -> None:
    with acting_as(ANN):
        with acting_as(BOB):
            assert current_principal.get() is BOB
        assert current_principal.get() is ANN
    assert current_principal.get() is None


# -- computations ------------------------------------------------------------------------------------------------------
async def test_computations_are_allowed_where_no_rule_refuses_them() -> None:
    rules = Authorization({}, computations={"Bakery.price": lambda call: call.argument("product") != "cake"})
    async with baking(rules) as bakery:
        assert await bakery.price("roll") == 2
        assert await bakery.in_cents("cake") == 2000
        with pytest.raises(PermissionDenied, match=r"Bakery\.price is not permitted"):
            await bakery.price("cake")


async def test_what_a_rule_for_commands_matches_is_no_rule_for_computations() -> None:
    async with baking(Authorization({"*": lambda person, call: False})) as bakery:
        assert await bakery.price("roll") == 2


async def test_a_refusal_is_cached_and_depends_on_what_its_rule_has_read() -> None:
    class Inbox(ComputeService):
        def __init__(self) -> None:
            self.blocked = MutableState(frozenset({"Bob"}))

        @compute_method
        async def is_blocked(self, user: str) -> bool:
            return user in self.blocked.value

        @compute_method
        async def messages(self, user: str) -> str:
            return f"for {user}"

    async def may_read(call: Call) -> bool:
        assert isinstance(call.service, Inbox)
        return not await call.service.is_blocked(call.argument("user"))

    recorder = Recorder()
    rules = Authorization({}, computations={"Inbox.messages": may_read})
    async with App("inbox", services=[Inbox], middleware=[recorder, rules]).local() as host:
        inbox = host.service(Inbox)
        assert await inbox.messages("Ann") == "for Ann"
        recorder.calls.clear()
        for _ in range(2):
            with pytest.raises(PermissionDenied):
                await inbox.messages("Bob")
        assert recorder.names == ["Inbox.messages('Bob')", "Inbox.is_blocked('Bob')"]
        inbox.blocked.set(frozenset())
        assert await inbox.messages("Bob") == "for Bob"


async def test_a_hit_passes_no_rule_and_a_computation_has_no_reader() -> None:
    """The result of one reader's computation is there for the next: it must not depend on who was the first."""
    asked: list[Any] = []

    def asking(call: Call) -> bool:
        asked.append(current_principal.get())
        return True

    rules = Authorization({}, computations={"*": asking})
    async with baking(rules) as bakery:
        with acting_as(ANN):
            await bakery.price("roll")
        with acting_as(BOB):
            await bakery.price("roll")
    assert asked == [None]


# -- what is wrong with rules ------------------------------------------------------------------------------------------
def test_a_misspelled_pattern_can_be_found() -> None:
    app = App("bakery", services=[Bakery])
    rules = Authorization(
        {"Bakery.set_*": baker, "Bakery.ordre": baker, "Bakery.price": baker},
        computations={"*.total": lambda call: True, "Bakery.order": lambda call: True},
    )
    assert rules.unmatched(app) == ["Bakery.ordre", "Bakery.price", "Bakery.order"]


@pytest.mark.parametrize("field", ["commands", "computations"])
def test_a_rule_is_a_function(field: str) -> None:
    faulty: Any = {"Bakery.order": True}
    with pytest.raises(UsageError, match=r"the rule for 'Bakery.order' is a bool") as caught:
        Authorization(faulty) if field == "commands" else Authorization({}, computations=faulty)
    assert caught.value.field == field
