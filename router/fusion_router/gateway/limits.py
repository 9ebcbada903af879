"""The limits of a gateway, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

from fusion_cluster.link.grpc_stream import MAX_MESSAGE_BYTES
from fusion_cluster.quantities import as_count
from fusion_cluster.wire.codec import MAX_ARGUMENTS_BYTES


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """The limits of one gateway.

    Attributes:
        max_message_bytes: longer gRPC messages are refused by gRPC itself, with RESOURCE_EXHAUSTED.
        max_arguments_bytes: longer arguments of one call are refused with INVALID_ARGUMENT.
        max_command_id_characters: longer command ids are refused with INVALID_ARGUMENT.
        max_commands_in_flight: more commands at one time are refused with RESOURCE_EXHAUSTED.
        max_cache_bytes: bound on the encoded replies that are kept.

    Raises:
        InvalidArgument: a number is not a whole number above 0; `field` names it.
    """

    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_arguments_bytes: int = MAX_ARGUMENTS_BYTES
    max_command_id_characters: int = 200
    max_commands_in_flight: int = 1_000
    max_cache_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        for field in fields(self):  # gRPC counts bytes in a C int
            object.__setattr__(self, field.name, as_count(field.name, getattr(self, field.name), most=2**31 - 1))
