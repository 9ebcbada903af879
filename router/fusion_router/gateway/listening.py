"""Checks where a gateway may listen: which addresses are allowed, and whether a port of this machine is free."""

from __future__ import annotations

import errno
import os
import socket

from fusion_cluster.addresses import Address, parse_host
from fusion_cluster.errors import UsageError


def check_host(host: str, *, insecure: bool, field: str = "address") -> None:
    """Check that a gateway may listen on the addresses of this name.

    Raises:
        UsageError: it is not a name, or processes of other machines could reach it, and that is not allowed.
    """
    require_local(Address(parse_host(host, field), 0), insecure=insecure, field=field)


def require_local(address: Address, *, insecure: bool, field: str = "address") -> None:
    """Check that only this machine's own processes can reach a gateway, unless others are allowed.

    Raises:
        UsageError: processes of other machines could reach it.
    """
    if not (insecure or address.is_local):
        raise UsageError(
            f"{field}: {address.host} is not a loopback address and clients prove nothing: allow it with insecure",
            field=field,
        )


def check_can_listen(host: str, port: int, *, field: str = "address") -> None:
    """Check that this process could listen there now.

    Raises:
        UsageError: the port is in use, may not be used, or the address is not of this machine.
    """
    name = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(f"{field}: {host} is not the name of a host: {error.strerror}", field=field) from error
    failures = [failure for one in found if (failure := _failure(one[0], one[4])) is not None]
    worst = next((failure for failure in failures if failure.errno == errno.EADDRINUSE), None)
    if worst is None and len(failures) == len(found):
        worst = failures[0]
    if worst is not None:
        raise UsageError(f"{field}: {_reason(host, port, worst)}", field=field) from worst


def _failure(family: int, address: object) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As gRPC does: remains of ended connections do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)  # type: ignore[arg-type]
            probe.listen(1)
    except OSError as error:
        return error
    return None


def _reason(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is in use"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine"
        case errno.EACCES | errno.EPERM:
            return f"port {port} may not be used by this user"
    return f"cannot listen on {Address(host, port)}: {os.strerror(error.errno or 0)}"
