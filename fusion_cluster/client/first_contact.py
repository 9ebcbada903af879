"""The first contact with a gateway: checks once, before the first call of a client, that a gateway answers.

A client that has met its gateway waits patiently whenever the gateway is away. A client that has never met it may have
a wrong address: it waits only for its connect timeout, and then reports what answers at the address instead, if
anything does.

Invariant: `is_made` is set when a gateway, or something on its behalf, has answered, and stays set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc

from fusion_cluster.addresses import Address
from fusion_cluster.client.channel import SERVICE
from fusion_cluster.client.strangers import SILENCE, trouble_of
from fusion_cluster.errors import ShardUnavailable, UsageError
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.v1 import gateway_pb2

RETRY_PAUSE_S: Final = 0.05

_QUESTION: Final = gateway_pb2.DescribeRequest(service="?").SerializeToString()
"""No service has this name. A gateway answers with its own kind of error, and does nothing else."""


class FirstContact:
    """Asks at the addresses of a client whether a gateway is there.

    Args:
        channel: the channel to the addresses; its owner closes it.
        addresses: the addresses to ask; one answer is enough.
        timeout_s: how long a gateway may take to answer for the first time.
        is_patient: wait up to `timeout_s` for a process that listens there; False: fail at once if none listens.
        runtime: the clock and the task.

    Attributes:
        is_made: whether a gateway has answered.
        where: the addresses, as messages show them.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        addresses: Sequence[Address],
        *,
        timeout_s: float,
        is_patient: bool = True,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._create_task = runtime.create_task
        self._now_s = runtime.clock.monotonic
        self.is_made = False
        self.where = ", ".join(map(str, addresses))
        self._ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Describe")
        self._addresses = tuple(addresses)
        self._timeout_s = timeout_s
        self._is_patient = is_patient
        # Returns why no gateway answers; "" when one has answered.
        self._asking: asyncio.Task[str] | None = None

    async def make(self) -> None:
        """Wait until a gateway has answered. Callers that come meanwhile wait for the same answer.

        Raises:
            ShardUnavailable: no gateway has answered; the message says why.
            UsageError: the client was closed meanwhile.
        """
        if self.is_made:
            return
        if self._asking is None or self._asking.done():
            self._asking = self._create_task(self._ask_until_answered(), name="first contact")
        asking = self._asking
        await asyncio.wait([asking])
        if asking.cancelled():
            raise UsageError(f"the client of {self.where} was closed before a gateway answered")
        if why := asking.result():
            raise ShardUnavailable(why)

    async def close(self) -> None:
        """Give up; waiting callers get an error."""
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask_until_answered(self) -> str:
        deadline_s = self._now_s() + self._timeout_s
        trouble = SILENCE
        while (left_s := deadline_s - self._now_s()) > 0:
            try:
                await self._ask(_QUESTION, timeout=left_s)
            except grpc.aio.AioRpcError as error:
                found = await trouble_of(error, self._addresses)
                if found is not None:
                    if found is not SILENCE:
                        trouble = found
                    if trouble.is_lasting or not self._is_patient:
                        return f"no gateway at {self.where}: {trouble.words}"
                    await asyncio.sleep(RETRY_PAUSE_S)
                    continue
            self.is_made = True
            return ""
        return f"no gateway answered at {self.where} within {self._timeout_s:g} s: {trouble.words}"
