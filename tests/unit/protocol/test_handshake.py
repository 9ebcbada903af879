from __future__ import annotations

import pytest

from fusion_cluster.errors import HandshakeRefused, RemoteProtocolError
from fusion_cluster.protocol import PROTOCOL_VERSION, OwnerHandshake
from fusion_cluster.protocol.handshake import check_welcome, hello_frame, hello_proof, welcome_proof
from fusion_cluster.protocol.limits import MAX_HANDSHAKE_FRAME_SIZE
from fusion_cluster.v1.session_pb2 import Challenge, ClientFrame, Hello, Ping, ServerFrame, Welcome

SECRET = b"the cluster's"
OWNER_NONCE = b"o" * 16
CALLER_NONCE = b"c" * 16


def owner(secret: bytes | None = SECRET, nonce: bytes = OWNER_NONCE) -> OwnerHandshake:
    return OwnerHandshake(peer_id="owner", secret=secret, nonce=nonce)


def hello(secret: bytes | None = SECRET, *, nonce: bytes = OWNER_NONCE, version: int = PROTOCOL_VERSION) -> bytes:
    return hello_frame(
        peer_id="caller",
        secret=secret,
        challenge=Challenge(protocol_version=version, nonce=nonce),
        nonce=CALLER_NONCE,
        resume_token=b"",
        slot_map_version=3,
    )


def welcome(secret: bytes | None = SECRET) -> Welcome:
    frame = owner(secret).welcome(
        owner(None).receive(hello()),
        epoch=5,
        slot_map_version=7,
        resume_token=b"t" * 16,
        is_resumed=False,
        read_lease_ms=3000,
    )
    return ServerFrame.FromString(frame).welcome


def check(answer: Welcome, secret: bytes | None = SECRET, *, hello_nonce: bytes = CALLER_NONCE) -> None:
    check_welcome(answer, secret=secret, challenge_nonce=OWNER_NONCE, hello_nonce=hello_nonce, caller_id="caller")


def test_both_ends_that_know_the_secret_admit_each_other() -> None:
    assert owner().receive(hello()).slot_map_version == 3
    check(welcome())


def test_no_secret_in_force_needs_no_proof() -> None:
    assert owner(None).receive(hello(None)).proof == b""
    check(welcome(None), None)


@pytest.mark.parametrize("secret", [None, b"another", b""])
def test_a_caller_without_the_secret_is_refused(secret: bytes | None) -> None:
    with pytest.raises(HandshakeRefused, match="did not prove"):
        owner().receive(hello(secret))


def test_a_hello_replayed_on_another_carrier_is_refused() -> None:
    overheard = hello()
    owner().receive(overheard)
    with pytest.raises(HandshakeRefused, match="did not prove"):
        owner(nonce=b"p" * 16).receive(overheard)


def test_a_hello_in_the_name_of_another_peer_is_refused() -> None:
    frame = ClientFrame.FromString(hello())
    frame.hello.peer_id = "another"
    with pytest.raises(HandshakeRefused, match="did not prove"):
        owner().receive(frame.SerializeToString())


@pytest.mark.parametrize("secret", [None, b"another"])
def test_an_owner_without_the_secret_is_refused(secret: bytes | None) -> None:
    with pytest.raises(HandshakeRefused, match="did not prove"):
        check(welcome(secret))


def test_a_welcome_replayed_to_another_hello_is_refused() -> None:
    with pytest.raises(HandshakeRefused, match="did not prove"):
        check(welcome(), hello_nonce=b"d" * 16)


def test_a_proof_cannot_be_reflected_nor_its_parts_be_shifted() -> None:
    assert hello_proof(SECRET, b"a" * 16, b"b" * 16, "x") != welcome_proof(SECRET, b"a" * 16, b"b" * 16, "x", "")
    assert hello_proof(SECRET, b"ab", b"c", "x") != hello_proof(SECRET, b"a", b"bc", "x")
    assert welcome_proof(SECRET, b"a", b"b", "xy", "z") != welcome_proof(SECRET, b"a", b"b", "x", "yz")


def test_another_protocol_version_is_refused_at_either_end() -> None:
    with pytest.raises(HandshakeRefused, match="version 99"):
        hello(version=99)
    frame = ClientFrame.FromString(hello())
    frame.hello.protocol_version = 99
    with pytest.raises(HandshakeRefused, match="version 99"):
        owner().receive(frame.SerializeToString())
    answer = welcome()
    answer.protocol_version = 99
    with pytest.raises(HandshakeRefused, match="version 99"):
        check(answer)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff", id="no frame"),
        pytest.param(ClientFrame(ping=Ping(sequence=1)).SerializeToString(), id="no Hello"),
        pytest.param(ClientFrame(hello=Hello(), ping=Ping()).SerializeToString(), id="not alone"),
        pytest.param(
            ClientFrame(
                hello=Hello(protocol_version=PROTOCOL_VERSION, peer_id="x", nonce=b"short")
            ).SerializeToString(),
            id="short nonce",
        ),
        pytest.param(bytes(MAX_HANDSHAKE_FRAME_SIZE + 1), id="too long"),
    ],
)
def test_anything_but_a_lone_well_formed_hello_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        owner().receive(frame)


def test_a_challenge_that_proves_nothing_is_a_protocol_error() -> None:
    with pytest.raises(RemoteProtocolError, match="nonce"):
        hello(nonce=b"short")


@pytest.mark.parametrize("field", ["peer_id", "read_lease_ms", "resume_token"])
def test_a_welcome_that_lacks_something_is_a_protocol_error(field: str) -> None:
    answer = welcome(None)
    answer.ClearField(field)  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError):
        check(answer, None)
