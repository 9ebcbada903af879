"""Verification among the members on Ray: they call each other as actors, over the control plane.

Nothing of it travels on links or through gateways, so no client can ask for a comparison, or for a cached value.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.protocol.coordination import MemberId
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.verification import (
    Answer,
    CachedKey,
    Look,
    VerificationReport,
    VerifyOptions,
    merged,
)
from fusion_router.member import Member
from fusion_shards.configuration import AppConfiguration, ClusterStatus
from fusion_shards.control import Actor
from fusion_shards.names import gateway_name, shard_name

ANSWER_TIMEOUT_S = 60.0
"""How long a member may take to compare the values of one round."""

GRACE_S = 90.0
"""How much longer than asked for a verification may take: values with a lag are looked at again later."""


class RayPeers:
    """The other members of an app on Ray (a `verification.Peers`).

    Args:
        configuration: the configuration of the app.
        own: the member whose peers they are.
    """

    def __init__(self, configuration: AppConfiguration, own: MemberId) -> None:
        self._configuration = configuration
        self._own = own
        # The members that were found once.
        self._actors: dict[MemberId, Actor] = {}

    def members(self) -> Sequence[str]:
        """Return the names of the other members: "shard 0"."""
        members = [MemberId("shard", number) for number in range(self._configuration.shards)]
        members += [MemberId("gateway", number) for number in range(self._configuration.gateways)]
        return [str(member) for member in members if member != self._own]

    async def look(self, member: str, keys: Sequence[CachedKey]) -> Sequence[Look]:
        """Return what a member has cached of some keys.

        Raises:
            ShardUnavailable: it does not answer.
        """
        role, _, number = member.partition(" ")
        meant = MemberId("shard" if role == "shard" else "gateway", int(number))
        looks: Sequence[Look] = await self._call(meant, "look_at_cached", list(keys))
        return looks

    async def answer(self, owner: int, looks: Sequence[Look]) -> Sequence[Answer]:
        """Let the owner of some keys compare them.

        Raises:
            ShardUnavailable: it does not answer.
        """
        answers: Sequence[Answer] = await self._call(MemberId("shard", owner), "compare_cached", list(looks))
        return answers

    async def _call(self, member: MemberId, method: str, argument: object) -> Any:
        try:
            if member not in self._actors:
                self._actors[member] = await asyncio.to_thread(find_member, self._configuration, member)
            return await asyncio.wait_for(getattr(self._actors[member], method).remote(argument), ANSWER_TIMEOUT_S)
        except (RayError, TimeoutError, ValueError) as error:  # ValueError: there is no such actor
            self._actors.pop(member, None)
            raise ShardUnavailable(f"{member} does not answer: {type(error).__name__}") from error


class VerifiedMember:
    """The part of a shard or gateway actor that takes part in verification."""

    _configuration: AppConfiguration
    _member: Member
    _started: asyncio.Task[None]

    def _begin_verifying(self, own: MemberId) -> None:
        """Join the other members, and start the monitor if the app or its launch has switched it on."""
        verification = self._member.host.verification
        verification.join(RayPeers(self._configuration, own), str(own))
        verification.start(self._configuration.verify_rate or None)

    async def verify(self, seconds: float, rate: float, bound_s: float) -> VerificationReport:
        """Verify what this member has cached, for some time (see `Verification.run`)."""
        await asyncio.shield(self._started)
        host = self._member.host
        options = replace(host.app.verify or VerifyOptions(), rate=rate, bound_s=bound_s)
        return await host.verification.run(seconds, options)

    async def look_at_cached(self, keys: Sequence[CachedKey]) -> Sequence[Look]:
        """Return what this member has cached of some keys."""
        await asyncio.shield(self._started)
        return self._member.host.verification.verifier.look(keys)

    async def compare_cached(self, looks: Sequence[Look]) -> Sequence[Answer]:
        """Compare cached values of keys that this shard owns with what their methods return now."""
        await asyncio.shield(self._started)
        return await self._member.host.verification.verifier.answer(looks)


def find_member(configuration: AppConfiguration, member: MemberId) -> Actor:
    """Return the actor of a member.

    Raises:
        ValueError: there is none.
    """
    name = shard_name if member.role == "shard" else gateway_name
    return ray.get_actor(name(configuration.app_name, member.number), namespace=configuration.namespace)


async def verify_app(
    configuration: AppConfiguration,
    status: ClusterStatus,
    *,
    seconds: float,
    rate: float,
    bound_s: float,
    runtime: Runtime = SYSTEM,
) -> tuple[VerificationReport, list[str]]:
    """Let all members of an app verify what they have cached, at the same time.

    Args:
        configuration: the configuration of the app.
        status: which members there are.
        seconds: for how long.
        rate: how many values a second in each member.
        bound_s: how long a difference may last.
        runtime: asks the members.

    Returns:
        What was found, and the members that did not answer, with the reasons.

    Raises:
        ShardUnavailable: no member answered.
    """
    silent: list[str] = []
    reports: list[VerificationReport] = []

    async def ask(member: MemberId) -> None:
        with noted(silent, str(member)):
            actor = find_member(configuration, member)
            reports.append(
                await asyncio.wait_for(actor.verify.remote(seconds, rate, bound_s), seconds + bound_s + GRACE_S)
            )

    members = [MemberId(member.role, member.member_id) for member in status.members]
    await runtime.gather((ask(member) for member in members), name="let a member verify")
    if not reports:
        raise ShardUnavailable(f"no member of the app {configuration.app_name!r} has answered: {'; '.join(silent)}")
    return merged(reports), silent


@contextlib.contextmanager
def noted(silent: list[str], member: str) -> Iterator[None]:
    """Note a member that does not answer, instead of raising its error."""
    try:
        yield
    except (RayError, TimeoutError, ValueError) as error:
        silent.append(f"{member}: {type(error).__name__}")
