"""An app for tests that serve one from the command line; its name says which process started it."""

from __future__ import annotations

import os

from fusion_cluster import App, ComputeService, compute_method

NAME_VARIABLE = "FUSION_TEST_GREETINGS"


class Greetings(ComputeService):
    @compute_method
    async def hello(self, name: str) -> str:
        return f"hello, {name}"


app = App(os.environ.get(NAME_VARIABLE, "greetings"), services=[Greetings])
