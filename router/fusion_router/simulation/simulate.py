"""Simulation of users' apps: a scenario of their own, in as many worlds as they give seeds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from fusion_cluster.app import App
from fusion_router.simulation.quiet import without_garbage_collection
from fusion_router.simulation.settings import WorldSettings
from fusion_router.simulation.world import World

DEFAULT_SETTINGS: Final = WorldSettings()


class SimulationFailed(AssertionError):
    """A scenario has failed. The error that it raised is the cause.

    Attributes:
        seed: the seed that repeats it.
    """

    def __init__(self, seed: int, error: BaseException) -> None:
        super().__init__(f"seed {seed}: {error!r}; simulate(…, seeds=[{seed}]) repeats it")
        self.seed = seed


def simulate(
    app: App,
    scenario: Callable[[World], Awaitable[None]],
    *,
    seeds: Iterable[int] = range(100),
    settings: WorldSettings = DEFAULT_SETTINGS,
) -> dict[int, str]:
    """Run a scenario in a new world for each seed, until one fails.

    >>> async def scenario(world: World) -> None:
    ...     await world.run("driver-0", lambda host: host.service(Carts).add("c1", "honey"))
    ...     world.crash("shard-0")
    ...     assert await world.run("driver-0", lambda host: host.service(Carts).total("c1")) == 1
    >>> simulate(app, scenario)

    Args:
        app: the app. It has no database: drivers of databases live in threads.
        scenario: is called outside of all machines when all members serve, and asserts what has to hold.
        seeds: the seeds.
        settings: the cluster and its surroundings.

    Returns:
        For each seed a digest of all that has happened: the same seed has the same digest.

    Raises:
        SimulationFailed: the scenario has raised an error, or waits for ever.
    """
    traces = {}
    for seed in seeds:
        world = World(app, settings, seed=seed)
        try:
            with without_garbage_collection():
                world.loop.run(_live(world, scenario))
        except Exception as error:
            raise SimulationFailed(seed, error) from error
        finally:
            world.close()
        traces[seed] = world.loop.trace_hash
    return traces


async def _live(world: World, scenario: Callable[[World], Awaitable[None]]) -> None:
    await world.start()
    await scenario(world)
    await world.stop()
