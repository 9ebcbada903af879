"""Addresses of gateways: each text is one, or the error says what is wrong with it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusion_cluster.addresses import Address, parse_address, parse_addresses, parse_host, target_of
from fusion_cluster.errors import InvalidArgument, UsageError

RIGHT = {
    "localhost": (Address("localhost", 50051), "dns:///localhost:50051"),
    "localhost:5": (Address("localhost", 5), "dns:///localhost:5"),
    " shop.example:65535 \n": (Address("shop.example", 65_535), "dns:///shop.example:65535"),
    "shop_gateway.ns.svc.cluster.local.:1": (
        Address("shop_gateway.ns.svc.cluster.local.", 1),
        "dns:///shop_gateway.ns.svc.cluster.local.:1",
    ),
    "bücher.example:1": (Address("xn--bcher-kva.example", 1), "dns:///xn--bcher-kva.example:1"),
    "127.0.0.1:50052": (Address("127.0.0.1", 50_052), "ipv4:127.0.0.1:50052"),
    "10.1.2.3": (Address("10.1.2.3", 50_051), "ipv4:10.1.2.3:50051"),
    "[::1]:7": (Address("::1", 7), "ipv6:[::1]:7"),
    "[::1]": (Address("::1", 50_051), "ipv6:[::1]:50051"),
    "unix:/run/shop.sock": (Address("", 0, "/run/shop.sock"), "unix:/run/shop.sock"),
    "unix:///run/my shop.sock": (Address("", 0, "/run/my shop.sock"), "unix:/run/my%20shop.sock"),
    "unix:shop,1.sock": (Address("", 0, "shop,1.sock"), "unix:shop%2C1.sock"),
}


@pytest.mark.parametrize("text", RIGHT)
def test_an_address_is_taken_apart(text: str) -> None:
    address, target = RIGHT[text]
    assert parse_addresses(text) == (address,)
    assert address.target == target_of([address]) == target
    assert parse_address(str(address)) == address


WRONG: dict[object, str] = {
    "": "it is empty: write host:port",
    "  \t": "it is empty",
    None: "it must be a text",
    b"localhost:1": "it must be a text",
    50_051: "it must be a text",
    "50051": "it has no host: write localhost:50051",
    ":50051": "it has no host: write localhost:50051",
    "localhost:": "no port follows the colon",
    "localhost:notaport": "'notaport' is not a port, a number from 1 to 65535",
    "localhost:0": "'0' is not a port, a number from 1 to 65535",
    "localhost:70000": "'70000' is not a port",
    "localhost:-1": "'-1' is not a port",
    "localhost:+1": "'+1' is not a port",
    "localhost: 1": "' 1' is not a port",
    "localhost:\u0661": "is not a port",
    "localhost:" + "1" * 5000: "is not a port",
    "http://localhost:50051": "an address has no scheme: write localhost:50051",
    "https://shop.example/": "without TLS, and an address has no scheme: write shop.example",
    "grpc://shop.example:1": "an address has no scheme: write shop.example:1",
    "dns:///shop.example:1": "an address has no scheme: write shop.example:1",
    "ipv4:10.1.2.3:5": "an address has no scheme: write 10.1.2.3:5",
    "localhost:50051/": "nothing follows the port: write localhost:50051",
    "localhost:50051/path?query": "nothing follows the port: write localhost:50051",
    "me:secret@localhost:1": "no user and password in an address: write localhost:1",
    "http://me:secret@localhost:1/x": "no user and password in an address: write localhost:1",
    "::1": "an IPv6 address stands in brackets",
    "::1:50051": "an IPv6 address stands in brackets",
    "[::1": "an IPv6 address stands in brackets",
    "[::1]50051": "an IPv6 address stands in brackets",
    "[10.1.2.3]:5": "is not an IPv6 address",
    "256.1.1.1:5": "is not an IP address",
    "10.1.2:5": "is not an IP address",
    "a b:1": "is not the name of a host",
    "-a:1": "is not the name of a host",
    "a..b:1": "is not the name of a host",
    "a:1:2": "is neither a name nor an IP address",
    "x" * 300: "is not the name of a host",
    "\ud800:1": "is not the name of a host",
    "\u2100:1": "is not the name of a host",
    "a\0:1": "is not the name of a host",
    "unix:": "it has no path",
    "unix://relative/path": "stands behind unix: or unix:///",
    "unix:/" + "x" * 107: "has 108 bytes",
    "unix:/a\0b": "not the path of a file",
    "a:1,,b:2": "one of its addresses is",
    "127.0.0.1:1,": "one of its addresses is",
    "a:1,b:2": "several gateways are given by IP addresses",
    "127.0.0.1:1,[::1]:1": "all of IPv4 or all of IPv6",
    ("127.0.0.1:1", "unix:/a"): "several gateways are given by IP addresses",
    (): "the list is empty",
    ("127.0.0.1:1", None): "it must be a text",
}


@pytest.mark.parametrize("given", WRONG, ids=lambda given: repr(given)[:40])
def test_what_is_not_an_address_is_told_why(given: object) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_addresses(given)
    message = str(refused.value)
    assert message.startswith("address ")
    assert refused.value.field == "address"
    assert WRONG[given] in message
    assert "secret" not in message
    assert len(message) < 400


@pytest.mark.parametrize("several", ["127.0.0.1:1, localhost:2", ["127.0.0.1:1", "localhost:2"]])
def test_several_addresses_of_one_kind_are_one_target(several: object) -> None:
    addresses = parse_addresses(several)
    assert addresses == (Address("127.0.0.1", 1), Address("127.0.0.1", 2))
    assert target_of(addresses) == "ipv4:127.0.0.1:1,127.0.0.1:2"
    assert target_of(parse_addresses(["[::1]:1", "[::1]:2"])) == "ipv6:[::1]:1,[::1]:2"


@pytest.mark.parametrize(
    ("text", "is_local", "goes_past_proxies"),
    [
        ("localhost", True, True),
        ("shop.localhost", True, True),
        ("127.1.2.3", True, True),
        ("[::1]", True, True),
        ("unix:/a", True, True),
        ("0.0.0.0", False, True),
        ("[::]", False, True),
        ("10.0.0.1", False, False),
        ("localhost.example", False, False),
    ],
)
def test_what_is_on_this_machine_is_known(text: str, is_local: bool, goes_past_proxies: bool) -> None:
    address = parse_address(text)
    assert (address.is_local, address.goes_past_proxies) == (is_local, goes_past_proxies)


def test_who_listens_may_take_any_free_port() -> None:
    assert parse_address("127.0.0.1:0", may_be_any_port=True) == Address("127.0.0.1", 0)
    with pytest.raises(InvalidArgument, match="a number from 0 to 65535"):
        parse_address("127.0.0.1:-1", may_be_any_port=True)


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "[::1]", "localhost", "shop.example"])
def test_a_host_to_listen_on_is_a_name_or_an_ip_address(text: str) -> None:
    assert parse_host(text, "grpc_host") == text.strip("[]")


@pytest.mark.parametrize("text", ["", "localhost:1", "http://a", "a/b", "unix:/a", "a b", None, "1.2.3"])
def test_anything_else_is_not_a_host_to_listen_on(text: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^grpc_host ") as refused:
        parse_host(text, "grpc_host")
    assert refused.value.field == "grpc_host"


PIECES = st.sampled_from(
    ["localhost", "[", "]", "::1", ":", "50051", "unix:", "/", "@", "http", "//", ",", ".", "%", "é", "\0", " ", "-"]
)
TEXTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=8).map("".join))


@settings(max_examples=100)
@given(given=st.one_of(TEXTS, st.lists(TEXTS, max_size=3), st.binary(max_size=5), st.none(), st.integers()))
@example(given="[::1%]:1")
@example(given="xn--:1")
@example(given=".:1")
def test_any_text_is_an_address_or_refused_by_name(given: object) -> None:
    try:
        addresses = parse_addresses(given, "where")
    except UsageError as error:
        if error.field != "where" or not str(error).startswith("where "):
            raise AssertionError(f"the error names nothing: {error}") from error
        return
    assert addresses
    assert target_of(addresses).isascii()
    for address in addresses:
        assert parse_address(str(address)) == address
        assert address.path or 1 <= address.port <= 65_535
