"""Who imports whom: the quick form of the contracts that `make lint` checks, and what those cannot see.

import-linter knows nothing of when an import runs. The composition seam is a seam only if its imports are lazy.
"""

from __future__ import annotations

import tomllib

import pytest

from tests.architecture.sources import ROOT, Import, Source, sources

ABOVE = {
    "fusion_cluster": ("fusion_router", "fusion_shards", "ray"),
    "router/fusion_router": ("fusion_shards", "ray"),
    "shards/fusion_shards": (),
}
IO_MODULES = ("asyncio", "socket", "time", "random", "secrets", "os", "datetime", "threading", "grpc", "uvloop")


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def reaching(folder: str, packages: tuple[str, ...]) -> list[tuple[Source, Import]]:
    return [
        (source, found) for source in sources(folder) for found in source.imports() if within(found.module, packages)
    ]


@pytest.mark.parametrize("folder", ABOVE)
def test_no_package_needs_a_higher_one_in_order_to_be_imported(folder: str) -> None:
    eager = [f"{source.name}:{found.line} {found.module}" for source, found in reaching(folder, ABOVE[folder])
             if found.is_eager]  # fmt: skip
    assert not eager


def test_the_composition_seam_is_where_the_contract_says() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    exceptions = [line.split(" -> ")[0] for contract in contracts for line in contract.get("ignore_imports", [])]
    allowed = tuple(importer.removesuffix(".**") for importer in exceptions)
    strangers = []
    for source, found in reaching("fusion_cluster", ABOVE["fusion_cluster"]):
        importer = source.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if not within(importer, allowed):
            strangers.append(f"{source.name}:{found.line} {found.module}")
    assert not strangers


def test_the_protocol_core_does_no_io() -> None:
    reached = [f"{source.name}:{found.line} {found.module}"
               for source, found in reaching("fusion_cluster/protocol", IO_MODULES)]  # fmt: skip
    assert not reached


def test_only_the_graph_of_a_process_stands_below_state_and_commands() -> None:
    below = ("fusion_cluster.commands", "fusion_cluster.database", "fusion_cluster.link", "fusion_cluster.protocol",
             "fusion_cluster.client", "fusion_cluster.app", "fusion_cluster.host", "fusion_cluster.middleware",
             "fusion_cluster.v1")  # fmt: skip
    reached = [
        f"{source.name}:{found.line} {found.module}" for source, found in reaching("fusion_cluster/graph", below)
    ]
    assert not reached, "the graph is one process, one event loop, and knows nothing of the rest"


def test_the_catalogue_knows_nothing_of_what_uses_it() -> None:
    below = ("fusion_cluster.runtime", "fusion_cluster.errors", "fusion_cluster.failures", "fusion_cluster.quantities",
             "fusion_cluster.wire", "fusion_cluster.catalogue", "fusion_cluster.v1")  # fmt: skip
    strangers = [
        f"{source.name}:{found.line} {found.module}"
        for folder in ("fusion_cluster/catalogue", "fusion_cluster/wire")
        for source, found in reaching(folder, ("fusion_cluster",))
        if found.module != "fusion_cluster"  # its errors
        and not within(found.module, below)
        and not (source.name.endswith("catalogue/service.py") and found.module == "fusion_cluster.database")
    ]
    assert not strangers


def test_what_a_method_is_is_worked_out_in_the_catalogue_alone() -> None:
    makers = ("value_codec(", "ArgumentsCodec(", "service_methods(", ".signature.codec", "import slot_of")
    allowed = ("catalogue/", "wire/", "events/", "commands/emitted_event", "bodies/")
    found = [
        f"{source.name}: {maker}"
        for folder in ABOVE
        for source in sources(folder)
        for maker in makers
        if maker in source.text and not any(f"fusion_cluster/{place}" in source.name for place in allowed)
    ]
    assert not found, "take it from the Method"
