"""Parses the addresses of gateways, for clients, gateways and the command line.

Invariant: any text either becomes an `Address`, or is refused with a `UsageError` that names the parameter, shows the
text and says what is wrong with it. A password in an address never appears in a message.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from fusion_cluster.errors import InvalidArgument
from fusion_cluster.quantities import shown

DEFAULT_PORT: Final = 50051
"""The port of an address without one. It is also the default port of `serve`."""

MAX_PORT: Final = 65_535
MAX_NAME_CHARACTERS: Final = 253
MAX_SOCKET_PATH_BYTES: Final = 107
"""The longest path that fits into Linux's `sockaddr_un`."""

_UNIX: Final = "unix:"
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://+|(dns|ipv4|ipv6|http|https|grpc|grpcs):(?!\d+$)")


@dataclass(frozen=True, slots=True)
class Address:
    """The address at which a gateway listens.

    Attributes:
        host: a name, or an IP address without brackets; "" for a socket in the file system.
        port: 0 for a socket in the file system. For a listener, 0 means any free port.
        path: of the socket in the file system; "" for a host and a port.
    """

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}" if self.path else f"{self.bracketed_host}:{self.port}"

    @property
    def bracketed_host(self) -> str:
        """The host as it stands before a port."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine for certain: loopback, or a socket in the file system."""
        if self.path or self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        ip = _ip(self.host)
        return ip is not None and ip.is_loopback

    @property
    def goes_past_proxies(self) -> bool:
        """Whether it is reached without a proxy: for a proxy it would mean the proxy's own machine."""
        ip = _ip(self.host)
        return self.is_local or (ip is not None and ip.is_unspecified)

    @property
    def listening_target(self) -> str:
        """The address as gRPC's server takes it."""
        return f"{_UNIX}{quote(self.path)}" if self.path else str(self)

    @property
    def target(self) -> str:
        """The address as gRPC's client takes it."""
        return self.listening_target if self.path else f"{_family(self)}{self}"


def parse_address(given: object, field: str = "address", *, may_be_any_port: bool = False) -> Address:
    """Parse one address: `host:port`, `host`, `[::1]:port` or `unix:/path`.

    Args:
        given: the text.
        field: names the parameter in errors.
        may_be_any_port: allow port 0, with which a listener takes any free port.

    Raises:
        InvalidArgument: it is not an address; the message says what is wrong.
    """
    return _Reading(field, given, 0 if may_be_any_port else 1).address()


def parse_addresses(given: object, field: str = "address") -> tuple[Address, ...]:
    """Parse the address of one gateway, or the addresses of several. Each of several serves equally well.

    Args:
        given: an address, a list of them, or several with commas between them.
        field: names the parameter in errors.

    Raises:
        InvalidArgument: an address is wrong, the list is empty, or several are not all IP addresses of one kind.
    """
    several: Sequence[object] = [given]
    if isinstance(given, str):
        if not given.lstrip().startswith(_UNIX):
            several = given.split(",")
    elif isinstance(given, Sequence) and not isinstance(given, bytes | bytearray | memoryview):
        several = given
    if not several or (len(several) > 1 and any(isinstance(one, str) and not one.strip() for one in several)):
        raise InvalidArgument(f"{field} {shown(given)}: the list is empty, or one of its addresses is", field=field)
    addresses = tuple(parse_address(one, field) for one in several)
    if len(addresses) > 1:
        addresses = tuple(Address("127.0.0.1", one.port) if one.host == "localhost" else one for one in addresses)
        if len({_family(one) for one in addresses}) > 1 or _family(addresses[0]) not in ("ipv4:", "ipv6:"):
            text = ", ".join(map(str, addresses))
            raise InvalidArgument(
                f"{field} {shown(text)}: several gateways are given by IP addresses, all of IPv4 or all of IPv6; "
                "or give one name that stands for all of them",
                field=field,
            )
    return addresses


def target_of(addresses: Sequence[Address]) -> str:
    """Return the target for gRPC's client that stands for these addresses."""
    if len(addresses) == 1:
        return addresses[0].target
    return _family(addresses[0]) + ",".join(map(str, addresses))


def parse_host(given: object, field: str) -> str:
    """Parse the host to listen on, without a port.

    Raises:
        InvalidArgument: it is neither a name nor an IP address.
    """
    reading = _Reading(field, given, 0)
    return reading.host(reading.text)


class _Reading:
    """Parses one text."""

    def __init__(self, field: str, given: object, least_port: int) -> None:
        self._field = field
        self._given = given
        self._least_port = least_port
        if not isinstance(given, str):
            raise self._wrong('it must be a text, like "localhost:50051"')
        self.text = given.strip()
        if not self.text:
            raise self._wrong(f"it is empty: write host:port, like localhost:{DEFAULT_PORT}")

    def address(self) -> Address:
        text = self.text
        if text.startswith(_UNIX):
            return Address("", 0, self._socket_path(text))
        self._refuse_url(text)
        if text.startswith("["):
            host, closing, rest = text[1:].partition("]")
            if not closing or (rest and not rest.startswith(":")):
                raise self._wrong(f"an IPv6 address stands in brackets before its port, like [::1]:{DEFAULT_PORT}")
            if not isinstance(_ip(host), ipaddress.IPv6Address):
                raise self._wrong(f"{shown(host)} in the brackets is not an IPv6 address")
            return Address(host, self._port(rest[1:]) if rest else DEFAULT_PORT)
        host, colon, port = text.rpartition(":")
        if not colon:
            if text.isdecimal():
                raise self._wrong(f"it has no host: write localhost:{text}")
            return Address(self.host(text), DEFAULT_PORT)
        if ":" in host and isinstance(_ip(text) or _ip(host), ipaddress.IPv6Address):
            raise self._wrong(f"an IPv6 address stands in brackets before its port, like [::1]:{DEFAULT_PORT}")
        if not host:
            raise self._wrong(f"it has no host: write localhost{text}")
        return Address(self.host(host), self._port(port))

    def host(self, text: str) -> str:
        """Parse a name or an IP address."""
        if text.startswith("[") and text.endswith("]"):
            text = text[1:-1]
        if _ip(text) is not None:
            return text
        if ":" in text:
            raise self._wrong(f"{shown(text)} is neither a name nor an IP address")
        try:
            name = text if text.isascii() else text.encode("idna").decode("ascii")
        except UnicodeError:
            raise self._wrong(f"{shown(text)} is not the name of a host") from None
        labels = name.removesuffix(".").split(".")
        if len(name) > MAX_NAME_CHARACTERS or not all(map(_LABEL.fullmatch, labels)):
            raise self._wrong(f"{shown(text)} is not the name of a host")
        if labels[-1].isdecimal():
            raise self._wrong(f"{shown(text)} is not an IP address, and the name of a host does not end with a number")
        return name

    def _port(self, text: str) -> int:
        if not text:
            raise self._wrong(f"no port follows the colon: write :{DEFAULT_PORT}, or leave the colon out")
        port = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
        if not self._least_port <= port <= MAX_PORT:
            raise self._wrong(f"{shown(text)} is not a port, a number from {self._least_port} to {MAX_PORT}")
        return port

    def _socket_path(self, text: str) -> str:
        path = text.removeprefix(_UNIX)
        if path.startswith("//"):
            path = path[2:]
            if not path.startswith("/"):
                raise self._wrong("the path of a socket stands behind unix: or unix:///, like unix:/run/shop.sock")
        if not path:
            raise self._wrong("it has no path: write unix:/run/shop.sock")
        try:
            size = len(os.fsencode(path))
        except UnicodeError:
            size = -1
        if size < 0 or "\0" in path:
            raise self._wrong("that is not the path of a file")
        if size > MAX_SOCKET_PATH_BYTES:
            raise self._wrong(f"the path has {size} bytes; that of a socket has {MAX_SOCKET_PATH_BYTES} at most")
        return path

    def _refuse_url(self, text: str) -> None:
        """Refuse a URL; the message says which part is wrong, and what to write instead."""
        scheme = _SCHEME.match(text)
        rest = text[scheme.end() :] if scheme else text
        place = re.split(r"[/?#]", rest, maxsplit=1)[0]
        plain = place.rpartition("@")[2]
        hint = f": write {plain}" if plain and len(plain) <= MAX_NAME_CHARACTERS else ""
        if "@" in rest:
            raise self._wrong(f"gateways take no user and password in an address{hint}")
        if scheme and scheme[0].lower().startswith(("https:", "grpcs:")):
            raise self._wrong(f"gateways speak gRPC without TLS, and an address has no scheme{hint}")
        if scheme:
            raise self._wrong(f"an address has no scheme{hint}")
        if place != rest:
            raise self._wrong(f"nothing follows the port{hint}")

    def _wrong(self, what: str) -> InvalidArgument:
        given = self._given
        if isinstance(given, str) and "@" in given:
            head, _, tail = given.rpartition("@")
            scheme = _SCHEME.match(head)
            given = f"{scheme[0] if scheme else ''}…@{tail}"
        return InvalidArgument(f"{self._field} {shown(given)}: {what}", field=self._field)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _family(address: Address) -> str:
    """Return the scheme of gRPC's target."""
    if address.path:
        return _UNIX
    ip = _ip(address.host)
    return "dns:///" if ip is None else f"ipv{ip.version}:"
