"""The bank as Ray's actors import it, with a service that lets a shard die at a step of its next command."""

from __future__ import annotations

import os

from fusion_cluster import App, ComputeService, command
from tests.apps.bank import Accounts, bank_app
from tests.faults.crash_points import arm

DATABASE_VARIABLE = "FUSION_TEST_BANK"


class Traps(ComputeService):
    shard_group = Accounts.service_name

    @command
    async def lay(self, account: int, point: str) -> None:
        """Where the account lives."""
        arm(point)


def trapped_bank(url: str) -> App:
    """The app on a database."""
    bank = bank_app(url)
    return App("trapped-bank", [*bank.services.values(), Traps], database=bank.database)


app = trapped_bank(os.environ.get(DATABASE_VARIABLE, "sqlite:///bank.db"))
