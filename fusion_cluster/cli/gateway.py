"""Talking to a gateway from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from fusion_cluster.client.channel import open_channel
from fusion_cluster.client.rpcs import PlainRpcs
from fusion_cluster.errors import ShardUnavailable

T = TypeVar("T")


def ask(address: str, timeout_s: float, question: Callable[[PlainRpcs], Awaitable[T]]) -> T:
    """Run something that talks to the gateway.

    Raises:
        ShardUnavailable: nobody answers at the address.
        Exception: what the gateway says.
    """

    async def run() -> T:
        async with _connected(address, timeout_s) as rpcs:
            return await question(rpcs)

    return asyncio.run(run())


@asynccontextmanager
async def _connected(address: str, timeout_s: float) -> AsyncIterator[PlainRpcs]:
    channel = open_channel(address)
    try:
        yield PlainRpcs(channel, timeout_s=timeout_s, is_patient=False)
    except ShardUnavailable as error:
        raise ShardUnavailable(f"{error.message} (gateway: {address})", retry_after_s=error.retry_after_s) from error
    finally:
        await channel.close()
