"""The rpcs of `fusion_cluster.v1.Gateway`, from request bytes to reply bytes.

Requests are parsed here and not by gRPC, so that a request that is no message is the client's error and not an internal one,
and so that the hot path of `Call` may do without parsing.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from grpc_status import rpc_status

from fusion_cluster.app import App, MethodSpec
from fusion_cluster.errors import FusionError, InvalidArgument, ShardUnavailable, UnknownMethod
from fusion_cluster.host import Host
from fusion_cluster.link.grpc_stream import UNMERGED_FROM_OWNER, GrpcStreamCarrier
from fusion_cluster.v1 import gateway_pb2
from fusion_cluster.wire.codec import ArgumentsCodec
from fusion_router.gateway.descriptions import describe
from fusion_router.gateway.executions import Executions
from fusion_router.gateway.failures import failure_status, internal_status
from fusion_router.gateway.payloads import decode_arguments, encode_payload
from fusion_router.gateway.reads import Read, ReadCache, UnencodableResult
from fusion_router.gateway.watching import Watch, is_cancelled_from_outside

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
