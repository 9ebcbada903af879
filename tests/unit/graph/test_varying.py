"""Results that depend on who asks are kept for each principal; all others are everybody's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fusion_cluster import (
    App,
    ComputedState,
    ComputeService,
    RayTask,
    UsageError,
    command,
    compute_method,
    gather,
    isolated,
    principal,
)
from fusion_cluster.graph.computing.function import MANY_VARIANTS
from fusion_cluster.graph.why.explanation import Happening
from fusion_cluster.host import LocalHost
from fusion_cluster.middleware import acting_as


class Desk(ComputeService):
    """Letters for whoever asks, and what is made of them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.opened: set[str] = set()
        self.left_behind: asyncio.Task[None]
        self.gate = asyncio.Event()
        self.gate.set()

    @compute_method
    async def letters(self, box: str) -> str:
        await self.gate.wait()
        self.log.append(f"letters of {box} for {principal()}")
        return f"{box}: {principal()}"

    @compute_method
    async def summary(self, box: str) -> str:
        self.log.append("summary")
        return f"<{await self.letters(box)}>"

    @compute_method
    async def summaries(self, boxes: int) -> str:
        return " ".join(await gather(*(self.summary(str(box)) for box in range(boxes))))

    @compute_method
    async def hidden(self, box: str) -> str:
        with isolated():
            return await self.summary(box)

    @compute_method
    async def shared(self, box: str) -> str:
        self.log.append("shared")
        return box

    @compute_method(varies=False)
    async def strict(self, box: str) -> str:
        return await self.letters(box)

    @compute_method
    async def leaving_a_task_behind(self, box: str) -> str:
        async def later() -> None:
            await asyncio.sleep(0)
            with acting_as("root"):
                self.log.append(f"{await self.asked_by()} {principal()} {await self.letters(box)}")

        self.left_behind = asyncio.create_task(later())
        return box

    @compute_method
    async def letters_of(self, owner: str) -> str:
        with acting_as(owner):
            return await self.letters("in")

    @compute_method
    async def name_of(self, owner: str) -> str:
        with acting_as(owner):
            return str(principal())

    @compute_method(offload="thread")
    def letters_of_in_a_thread(self, owner: str) -> str:
        with acting_as(owner):
            return self.letters("in")  # type: ignore[return-value]

    @compute_method(varies=False, offload="thread")
    def strict_in_a_thread(self, box: str) -> str:
        return f"{box}: {principal()}"

    @compute_method
    async def is_open(self, box: str) -> bool:
        return box in self.opened

    @compute_method(consolidation_delay=0.0)
    async def greeting(self, box: str) -> str:
        return f"hello {principal() or 'all'}" if await self.is_open(box) else "hello all"

    @compute_method
    async def greeted(self, box: str) -> str:
        return await self.greeting(box)

    @compute_method(offload="thread")
    def in_a_thread(self, box: str) -> str:
        return f"{box}: {principal()}"

    @compute_method(offload=RayTask())
    def in_a_task(self, box: str) -> str:
        return f"{box}: {principal()}"

    @compute_method(offload="thread")
    async def reading_in_a_thread(self, box: str) -> str:
        return await self.letters(box)

    @compute_method(consolidation_delay=0.0)
    async def calm(self, box: str) -> str:
        return await self.letters(box)

    @compute_method
    async def stubborn(self, box: str) -> str:
        """Go on although it was told to give up."""
        name = "nobody has said"
        try:
            name = str(principal())
        except asyncio.CancelledError:
            name = "swallowed"
        return name

    @command
    async def asked_by(self) -> object:
        return principal()


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    async with App("desk", services=[Desk]).local() as host:
        yield host
        host.graph.validate()


@pytest.fixture
def desk(host: LocalHost) -> Desk:
    return host.service(Desk)


METHODS = ["letters", "summary", "hidden", "in_a_thread", "reading_in_a_thread", "calm", "stubborn"]


async def ask(desk: Desk, name: object, method: str, *args: object) -> object:
    with acting_as(name):
        return await getattr(desk, method)(*args)


@pytest.mark.parametrize("method", METHODS)
async def test_each_is_given_what_was_computed_for_them(desk: Desk, method: str) -> None:
    for _ in range(2):
        for name in ("ann", "bob", None, {"name": "cy", "roles": [1]}, "ann"):
            assert str(name) in str(await ask(desk, name, method, "in"))
    results = await asyncio.gather(*(ask(desk, name, method, "out") for name in ("ann", "bob", "ann", "cy")))
    for name, result in zip(("ann", "bob", "ann", "cy"), results, strict=True):
        assert name in str(result)


async def test_those_who_have_joined_are_sent_to_their_own(desk: Desk) -> None:
    desk.gate.clear()
    names = ("ann", "bob", "ann", None, "bob")
    reads = [asyncio.create_task(ask(desk, name, "summaries", 2)) for name in names]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    desk.gate.set()
    for name, result in zip(names, await asyncio.gather(*reads), strict=True):
        assert result == f"<0: {name}> <1: {name}>"


async def test_a_result_that_does_not_vary_is_shared(desk: Desk) -> None:
    for name in ("ann", "bob", None):
        assert await ask(desk, name, "shared", "in") == "in"
    assert desk.log == ["shared"]


async def test_of_a_method_that_varies_each_has_a_result_of_their_own_that_is_kept(desk: Desk) -> None:
    for _ in range(3):
        for name in ("ann", "bob"):
            await ask(desk, name, "summary", "in")
    assert sorted(desk.log).count("letters of in for ann") == 1
    assert sorted(desk.log).count("letters of in for bob") == 1
    with acting_as("ann"):
        computed = desk.summary("in")
        assert computed.is_consistent
        assert computed.value == "<in: ann>"
        assert desk.summary("in") is computed


async def test_an_invalidation_reaches_the_results_of_all(desk: Desk) -> None:
    computeds = []
    for name in ("ann", "bob"):
        with acting_as(name):
            await desk.summary("in")
            computeds.append(desk.summary("in"))
    desk.letters.invalidate("in")
    assert not any(computed.is_consistent for computed in computeds)
    for name in ("ann", "bob"):
        assert await ask(desk, name, "summary", "in") == f"<in: {name}>"


async def test_peek_gives_the_readers_own(desk: Desk) -> None:
    await ask(desk, "ann", "letters", "in")
    with acting_as("bob"):
        assert desk.letters.peek("in") is None
    with acting_as("ann"):
        peeked = desk.letters.peek("in")
        assert peeked is not None
        assert peeked.value == "in: ann"


async def test_why_and_story_are_those_of_the_reader(host: LocalHost, desk: Desk) -> None:
    for name in ("ann", "bob"):
        await ask(desk, name, "summary", "in")
    with acting_as("bob"):
        bobs = desk.summary("in")
    with acting_as("ann"):
        desk.summary("in").invalidate()
        key = bobs.key
        for told in (str(desk.summary.why("in")), str(desk.summary.story("in")[-1]), str(host.graph.why(key))):
            assert "a call of invalidate()" in told
    with acting_as("bob"):
        assert [entry.happening for entry in desk.summary.story("in")] == [Happening.COMPUTED]


async def test_hits_are_counted_also_of_variants_that_are_forgotten(host: LocalHost, desk: Desk) -> None:
    await ask(desk, "ann", "letters", "in")
    before = host.graph.stats.hits
    for _ in range(5):
        await ask(desk, "ann", "letters", "in")
    assert host.graph.stats.hits == before + 5
    desk.letters.invalidate("in")
    for number in range(MANY_VARIANTS + 1):
        await ask(desk, number, "letters", "in")
    assert host.graph.stats.hits == before + 5


async def test_who_holds_a_computed_from_before_its_method_varied_is_told_what_to_do(desk: Desk) -> None:
    with acting_as("ann"):
        computed = desk.letters("in")
        assert await computed == "in: ann"
        with pytest.raises(UsageError, match="depends on who asks: call the method again"):
            _ = computed.value
        assert (await computed.update()).value == "in: ann"


@pytest.mark.parametrize("method", ["strict", "strict_in_a_thread"])
async def test_what_must_not_vary_is_refused(desk: Desk, method: str) -> None:
    for name in ("ann", "bob"):
        with pytest.raises(UsageError, match="varies=False"):
            await ask(desk, name, method, "in")


async def test_a_consolidated_result_varies_as_soon_as_its_source_does(desk: Desk) -> None:
    for box in ("first", "second"):
        assert await ask(desk, "ann", "greeted", box) == "hello all"
    for box in ("first", "second"):  # the first makes the method vary; nobody reads that one again
        desk.opened.add(box)
        desk.is_open.invalidate(box)
        for _ in range(5):
            await asyncio.sleep(0)
    for box in ("second", "first"):
        for name in ("ann", "bob"):
            assert await ask(desk, name, "greeted", box) == f"hello {name}"


@pytest.mark.parametrize("method", ["letters_of", "name_of", "letters_of_in_a_thread"])
async def test_a_body_cannot_read_for_somebody_else(desk: Desk, method: str) -> None:
    for name in ("ann", None):
        with pytest.raises(UsageError, match="take as an argument for whom it reads"):
            await ask(desk, name, method, "bob")
    assert "bob" in str(await ask(desk, "bob", method, "bob"))


async def test_a_task_that_a_body_has_left_behind_reads_for_whom_it_says(desk: Desk) -> None:
    await ask(desk, "ann", "letters", "in")
    await ask(desk, "ann", "leaving_a_task_behind", "in")
    await desk.left_behind
    assert desk.log[-1] == "root root in: root"


async def test_a_principal_that_cannot_be_a_key_is_refused(desk: Desk) -> None:
    await ask(desk, "ann", "letters", "in")
    with pytest.raises(UsageError, match="text or JSON data"):
        await ask(desk, object(), "letters", "in")


async def test_a_task_cannot_ask(desk: Desk) -> None:
    with pytest.raises(UsageError, match="as an argument"):
        await ask(desk, "ann", "in_a_task", "in")


async def test_a_state_is_for_whoever_has_made_it(desk: Desk) -> None:
    for name in ("ann", "bob"):
        with acting_as(name):
            state = ComputedState(lambda: desk.summary("in"))
        async with state:
            assert await state == f"<in: {name}>"


async def test_variants_that_nobody_needs_are_forgotten(host: LocalHost, desk: Desk) -> None:
    for number in range(3 * MANY_VARIANTS):
        await ask(desk, number, "letters", "in")
        desk.letters.invalidate("in")
    variants = host.graph.functions["Desk.letters"].variants
    assert variants is not None
    assert len(variants) <= MANY_VARIANTS


async def test_a_computed_of_a_forgotten_variant_is_kept_up_to_date(desk: Desk) -> None:
    await ask(desk, "ann", "letters", "in")
    with acting_as("ann"):
        computed = desk.letters("in")
        await computed
    desk.letters.invalidate("in")
    for number in range(MANY_VARIANTS + 1):
        await ask(desk, number, "letters", "in")
    computed = await computed.update()
    assert computed.value == "in: ann"
    desk.letters.invalidate("in")
    assert not computed.is_consistent


async def test_the_variants_in_use_are_seldom_looked_through(host: LocalHost, desk: Desk) -> None:
    function = host.graph.functions["Desk.letters"]
    sizes = set()
    for number in range(5 * MANY_VARIANTS):
        await ask(desk, number, "letters", "in")
        sizes.add(function.sweep_size)
    assert sizes == {MANY_VARIANTS, 2 * MANY_VARIANTS, 4 * MANY_VARIANTS, 8 * MANY_VARIANTS}


async def test_a_command_is_told_who_has_called_it(desk: Desk) -> None:
    assert await ask(desk, "ann", "asked_by") == "ann"
    assert await ask(desk, None, "asked_by") is None
    assert principal() is None
