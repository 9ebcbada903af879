"""A.25: the middleware of the library lets every odd error through as what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.errors import BodyExited
from fusion_cluster.middleware import Authorization, Retries, SlowCalls, Timing, Tracing, acting_as
from fusion_cluster.middleware.authorization import anybody
from tests.faults.odd_errors import EXCEPTIONS, EXITS, state_of

MIDDLEWARE: dict[str, Callable[[], Any]] = {
    "timing": Timing,
    "tracing": lambda: Tracing(tracer_provider=TracerProvider()),
    "retries": lambda: Retries(2, first_pause_s=0, longest_pause_s=0, commands=True),
    "slow calls": lambda: SlowCalls(0),
    "authorization": lambda: Authorization({"*": anybody}),
}


class Odd(ComputeService):
    def __init__(self) -> None:
        self.raised: BaseException | None = None

    def fail(self, kind: str) -> int:
        self.raised = {**EXCEPTIONS, **EXITS}[kind]()
        raise self.raised

    @compute_method
    async def read(self, kind: str) -> int:
        return self.fail(kind)

    @command
    async def change(self, kind: str) -> None:
        self.fail(kind)


@pytest.mark.parametrize("name", MIDDLEWARE)
@pytest.mark.parametrize("method", ["read", "change"])
async def test_what_is_raised_beneath_it_comes_out(name: str, method: str) -> None:
    async with App("odd", [Odd], middleware=[MIDDLEWARE[name]()]).local() as host:
        odd = host.service(Odd)
        for kind in [*EXCEPTIONS, *EXITS]:
            caught: BaseException | None = None
            try:
                with acting_as("somebody"):
                    await getattr(odd, method)(kind)
            except Exception as error:
                caught = error
            assert caught is not None
            assert odd.raised is not None
            if kind in EXITS:
                assert type(caught) is BodyExited
                assert f"raised {kind}" in str(caught)
            else:
                assert state_of(caught) == state_of(odd.raised)
