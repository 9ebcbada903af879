"""Ray calls of the control plane: rare, idempotent, tried again while the other actor restarts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from ray.exceptions import ActorDiedError, RayActorError

from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_cluster.runtime import SYSTEM
from fusion_router.host import ClusterHost

logger = logging.getLogger(__name__)

Actor: TypeAlias = Any
"""Handle of an actor: Ray's types know the methods of a handle only together with its class."""

PAUSE_S = 0.05
LONG_POLL_S = 30.0


async def persist(call: Callable[[], Any], *, timeout_s: float = 30.0) -> Any:
    """Make an actor call until it is answered.

    Args:
        call: makes the call, e.g. `lambda: coordinator.register.remote(address)`; it may run more than once.
        timeout_s: when to give up.

    Raises:
        ShardUnavailable: the actor did not answer in time, or has ended for good.
    """
    deadline_s = SYSTEM.clock.monotonic() + timeout_s
    while True:
        try:
            return await asyncio.wait_for(call(), max(0.0, deadline_s - SYSTEM.clock.monotonic()))
        except TimeoutError:
            raise ShardUnavailable(f"the actor did not answer within {timeout_s:g} s") from None
        except ActorDiedError as error:
            raise ShardUnavailable(f"the actor is gone: {error}") from error
        except RayActorError as error:
            if SYSTEM.clock.monotonic() > deadline_s:
                raise ShardUnavailable(f"the actor did not answer within {timeout_s:g} s") from error
        await asyncio.sleep(PAUSE_S)


class CoordinatorMaps:
    """The slot maps that the coordinator makes (a `member.SlotMapSource`).

    Args:
        coordinator: handle of the app's coordinator.
        shard: makes the member's entry in the map from the address where it listens; None: it owns nothing.
    """

    def __init__(self, coordinator: Actor, shard: Callable[[str], ShardAddress] | None = None) -> None:
        self._coordinator = coordinator
        self._shard = shard

    async def join(self, address: str) -> SlotMap:
        """Register, if this is a shard, and return the slot map.

        Raises:
            ShardUnavailable: the coordinator does not answer.
        """
        if self._shard is None:
            return SlotMap.decode(await persist(lambda: self._coordinator.slot_map.remote(0, 0.0)))
        shard = self._shard(address)
        return SlotMap.decode(await persist(lambda: self._coordinator.register.remote(shard)))

    async def follow(self, host: ClusterHost) -> None:
        """Keep a host's slot map equal to the coordinator's; while the coordinator is down the last map stays."""
        while True:
            try:
                encoded = await self._coordinator.slot_map.remote(host.slot_map_version, LONG_POLL_S)
                if encoded is not None:
                    host.set_slot_map(SlotMap.decode(encoded))
            except RayActorError:
                await asyncio.sleep(4 * PAUSE_S)
            except Exception:  # without a new map this process would never find a shard that has restarted
                logger.exception("the slot map could not be brought up to date; trying again")
                await asyncio.sleep(20 * PAUSE_S)
