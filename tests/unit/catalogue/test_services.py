"""Services before, after and without being hosted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.catalogue import methods_of
from fusion_cluster.catalogue.members import service_methods
from fusion_cluster.catalogue.service import ComputeService, is_attached
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import ComputeMethod, Graph, GraphHosting, compute_method
from tests.unit.graph.cells import Cells

Host = Callable[[Any], Any]


class Base(ComputeService):
    shard_group = "orders"

    @compute_method
    async def kept(self) -> int:
        """Kept from the base."""
        return 1

    @compute_method
    async def replaced(self) -> int:
        return 1


class Derived(Base):
    service_name = "Orders"

    async def replaced(self) -> int:  # type: ignore[override]
        return 2


class Further(Derived):
    pass


def test_a_service_is_called_like_its_class_unless_it_says_otherwise() -> None:
    assert Base.service_name == "Base"
    assert Derived.service_name == "Orders"
    assert Further.service_name == "Further"
    assert Cells.shard_group == "Cells"
    assert (Base.shard_group, Derived.shard_group, Further.shard_group) == ("orders",) * 3


def test_service_methods_are_found_in_bases_and_hidden_by_plain_methods() -> None:
    assert set(service_methods(Base)) == {"kept", "replaced"}
    assert set(service_methods(Further)) == {"kept"}
    assert Further.kept is service_methods(Further)["kept"]
    assert isinstance(Further.kept, ComputeMethod)
    assert [method.name for method in methods_of(Further)] == ["Further.kept"]
    assert [method.name for method in methods_of(Base)] == ["Base.kept", "Base.replaced"]


async def test_a_service_that_is_not_hosted_says_so() -> None:
    service: Any = Base()
    for use in (service.kept, service.kept.invalidate, service.kept.peek, service.kept.changes):
        with pytest.raises(UsageError, match="Base is not hosted"):
            use()


def test_a_service_is_hosted_once_and_under_one_name() -> None:
    hosting = GraphHosting()
    service = Base()
    assert not is_attached(service)
    attach(service, hosting)
    assert is_attached(service)
    with pytest.raises(UsageError, match="hosted already"):
        attach(service, GraphHosting())
    with pytest.raises(UsageError, match=r"Base.kept is hosted twice"):
        attach(Base(), hosting)
    other = Base()
    attach(other, hosting, "Other")
    assert str(other.kept().key) == "Other.kept()"
    assert other.kept.function.signature.name == "Other.kept"


async def test_a_bound_method_keeps_name_and_documentation(host: Host) -> None:
    service: Base = host(Base())
    bound: Any = service.kept
    assert (bound.__name__, bound.__doc__) == ("kept", "Kept from the base.")
    assert bound.function.name == "Base.kept"
    assert repr(bound.function) == "<ComputeFunction Base.kept, 0 nodes>"
    assert Base.kept.__doc__ == "Kept from the base."


async def test_the_graph_knows_its_functions(host: Host, graph: Graph) -> None:
    service: Base = host(Base())
    assert graph.functions["Base.kept"] is service.kept.function
    assert await service.kept.function.lookup(()) == 1
    assert repr(service.kept()).startswith("<Computed Base.kept() consistent v")
    assert repr(graph) == "<Graph of 2 functions, 1 nodes>"
