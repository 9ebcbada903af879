"""Connects the command line to a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from fusion_cluster.addresses import parse_addresses
from fusion_cluster.client.channel import open_channel
from fusion_cluster.client.client import CONNECT_TIMEOUT_S
from fusion_cluster.client.first_contact import FirstContact
from fusion_cluster.client.rpcs import PlainRpcs

T = TypeVar("T")


def ask(address: str, timeout_s: float, question: Callable[[PlainRpcs], Awaitable[T]]) -> T:
    """Run a question to the gateway, and return its answer.

    Raises:
        UsageError: `address` is not an address.
        ShardUnavailable: no gateway answers there.
        Exception: the error that the gateway answers with.
    """

    async def run() -> T:
        async with _connected(address, timeout_s) as rpcs:
            return await question(rpcs)

    return asyncio.run(run())


@asynccontextmanager
async def _connected(address: str, timeout_s: float) -> AsyncIterator[PlainRpcs]:
    addresses = parse_addresses(address)
    channel = open_channel(addresses)
    contact = FirstContact(channel, addresses, timeout_s=min(timeout_s, CONNECT_TIMEOUT_S), is_patient=False)
    try:
        yield PlainRpcs(channel, contact, timeout_s=timeout_s)
    finally:
        await contact.close()
        await channel.close()
