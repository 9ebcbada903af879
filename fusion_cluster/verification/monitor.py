"""The freshness monitor of one member: samples its cache round by round, and asks the owners.

The decisions are made by `Findings`. Invariant: no more than `rate` values a second are compared, and each owner
compares one at a time for each monitor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import islice
from typing import Final

from msgspec import structs

from fusion_cluster.errors import FusionError
from fusion_cluster.verification.findings import Findings
from fusion_cluster.verification.looks import Answer, CachedKey, Look, Verdict
from fusion_cluster.verification.metrics import counters
from fusion_cluster.verification.options import VerifyOptions
from fusion_cluster.verification.peers import ALONE, Peers
from fusion_cluster.verification.report import VerificationReport, Violation
from fusion_cluster.verification.verifier import Verifier

logger = logging.getLogger(__name__)

PERIOD_S: Final = 0.25
"""The time between two rounds, if several values a second are compared."""

AT_A_TIME: Final = 100
"""How many values are on their way to their owners, if all values are verified."""

FROM_COMMANDS: Final = 0.5
"""The share of a round for keys that commands have changed lately, if there are so many."""


class Monitor:
    """Verifies what one member has cached.

    Args:
        verifier: looks at the member's cache, and compares values of the keys that it owns.
        options: how much, and for how long a difference may last.
        app: the name of the app.
        peers: the other members.
    """

    def __init__(self, verifier: Verifier, options: VerifyOptions, *, app: str, peers: Peers = ALONE) -> None:
        self._verifier = verifier
        self._options = options
        self._peers = peers
        self._clock = verifier.runtime.clock.monotonic
        self._began_s = self._clock()
        self._period_s = max(PERIOD_S, 1.0 / options.rate)
        self._allowed = 0.0
        self._for_commands = 0.0
        self._last_event = -1
        self._findings = Findings(
            app,
            verifier.name,
            bound_s=options.bound_s,
            in_words=verifier.key_in_words,
            on_violation=_log,
            count=counters(options.meter_provider),
        )

    async def watch(self) -> None:
        """Verify until this is cancelled. A failure is logged, and does not end it."""
        while True:
            try:
                await self.round(self._options.rate * self._period_s)
            except Exception:
                logger.exception("the freshness monitor has failed; it goes on")
            await asyncio.sleep(self._period_s)

    async def run(self, seconds: float) -> VerificationReport:
        """Verify for some time, and then as long as there are values whose differences may still end in time.

        Returns:
            What was found.
        """
        end_s = self._clock() + seconds
        while True:
            await self.round(self._options.rate * self._period_s)
            left_s = end_s - self._clock()
            if left_s <= 0:
                break
            await asyncio.sleep(min(self._period_s, left_s))
        return await self._settled()

    async def run_through(self) -> VerificationReport:
        """Verify each value that is cached now, once, as fast as it goes.

        Returns:
            What was found.
        """
        looks = self._verifier.everything()
        while chosen := list(islice(looks, AT_A_TIME)):
            await self._compare(chosen)
        return await self._settled()

    async def _settled(self) -> VerificationReport:
        while self._findings.has_suspects:
            await asyncio.sleep(max(0.0, self._findings.next_due_s - self._clock()))
            await self._look_again()
        return self.report()

    async def round(self, count: float) -> None:
        """Look at some values once, and again at those whose time is over.

        Args:
            count: how many values; the fraction is carried over to the next round.
        """
        self._allowed += count
        number = int(self._allowed)
        self._allowed -= number
        self._for_commands = min(self._for_commands + number * FROM_COMMANDS, number)
        looks = await self._changed(int(self._for_commands))
        self._for_commands -= len(looks)
        looks += self._verifier.sample(number - len(looks))
        await self._compare(looks)
        await self._look_again()

    def report(self) -> VerificationReport:
        """Return what was found so far."""
        return self._findings.report(self._clock() - self._began_s, self._verifier.exclusions())

    # -- inside --------------------------------------------------------------------------------------------------------
    async def _compare(self, looks: Sequence[Look]) -> None:
        for look, answer in await self._answers(looks):
            is_here = look.member == self._verifier.name
            if is_here and answer.verdict.differs and not self._verifier.serves(look):
                answer = Answer(Verdict.OVERTAKEN)
            self._findings.take(look, answer, self._clock())

    async def _changed(self, count: int) -> list[Look]:
        """Look at keys that commands have changed, each at a member that is chosen at random."""
        changed, self._last_event = self._verifier.changed(count, self._last_event)
        members = [self._verifier.name, *self._peers.members()]
        by_member: dict[str, dict[CachedKey, str]] = {}
        for one in changed:
            self._findings.follow(one.by)
            member = members[int(self._verifier.runtime.entropy.random() * len(members))]
            by_member.setdefault(member, {})[one.key] = one.by
        found: list[Look] = []
        for member, commands in by_member.items():
            looks = await self._look(member, list(commands))
            found += [structs.replace(look, member=member, command=commands[look.key]) for look in looks]
        return found

    async def _look(self, member: str, keys: Sequence[CachedKey]) -> Sequence[Look]:
        """Return what a member has cached of some keys; nothing, if it does not answer."""
        if member == self._verifier.name:
            return self._verifier.look(keys)
        try:
            return await self._peers.look(member, keys)
        except FusionError as error:
            logger.debug("%s cannot be asked what it has cached: %s", member, error)
            return ()

    async def _look_again(self) -> None:
        for suspect in self._findings.due(self._clock()):
            answer: Answer | None = None
            if await self._is_served(suspect.look):
                ((_, answer),) = await self._answers([suspect.look])
                if answer.verdict.differs and not await self._is_served(suspect.look):
                    answer = None
            self._findings.settle(suspect, answer, self._clock())

    async def _is_served(self, look: Look) -> bool:
        return any(now.version == look.version for now in await self._look(look.member, [look.key]))

    async def _answers(self, looks: Sequence[Look]) -> list[tuple[Look, Answer]]:
        """Return the answers of the owners, all of which are asked at the same time."""
        by_owner: dict[int, list[Look]] = {}
        for look in looks:
            by_owner.setdefault(look.owner, []).append(look)
        several = await self._verifier.runtime.gather(
            (self._ask(owner, asked) for owner, asked in by_owner.items()), name="verify cached values"
        )
        return [pair for pairs in several for pair in pairs]

    async def _ask(self, owner: int, looks: Sequence[Look]) -> list[tuple[Look, Answer]]:
        try:
            if owner == self._verifier.number:
                answers: Sequence[Answer] = await self._verifier.answer(looks)
            else:
                answers = await self._peers.answer(owner, looks)
        except FusionError as error:
            answers = [Answer(Verdict.UNREACHABLE, reason=str(error))] * len(looks)
        return list(zip(looks, answers, strict=True))


def _log(violation: Violation) -> None:
    logger.error("a cached value differs: %s. %s", violation, violation.advice)
