"""A.25 at the gateway: the class of an argument, or of a result, may exit; the gateway serves on."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.errors import BodyExited
from fusion_cluster.v1 import gateway_pb2
from fusion_cluster.wire.codec import ArgumentsCodec
from fusion_router.gateway.payloads import decode_arguments
from fusion_router.gateway.rpcs import MethodError, _outcome


@dataclass(frozen=True)
class Exiting:
    number: int

    def __post_init__(self) -> None:
        if self.number == 0:
            sys.exit(3)


class Things(ComputeService):
    @compute_method
    async def get(self, thing: Exiting) -> int:
        return thing.number


@pytest.mark.parametrize(
    "payload", [gateway_pb2.Payload(json='[{"number": 0}]'), gateway_pb2.Payload(msgpack=b"\x91\x81\xa6number\x00")]
)
def test_a_class_of_an_argument_that_exits_is_named(payload: gateway_pb2.Payload) -> None:
    signature = App("things", [Things]).method("Things", "get").signature
    codec = ArgumentsCodec("Things.get", signature.parameters)
    with pytest.raises(BodyExited, match="argument raised SystemExit: 3"):
        decode_arguments(codec, payload, max_bytes=1_000)


async def test_so_is_what_exits_when_a_result_is_made() -> None:
    async def result() -> Exiting:
        return Exiting(0)

    with pytest.raises(MethodError) as caught:
        await _outcome("Things.get", result())
    assert isinstance(caught.value.__cause__, BodyExited)
