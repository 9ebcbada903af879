"""Proofs of the cluster secret, in both directions, bound to one carrier by both nonces.

The owner's end sends `Challenge(nonce)`; the caller's end answers `Hello(nonce, proof)`; the owner's end answers
`Welcome(proof)`. Each proof is an HMAC-SHA256 over a label that names its direction, both nonces and both peer ids that
are known by then, so neither proof can be replayed on another carrier nor reflected to its sender.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from fusion_cluster.errors import HandshakeRefused, RemoteProtocolError
from fusion_cluster.protocol.limits import MAX_HANDSHAKE_FRAME_SIZE, NONCE_SIZE, PROTOCOL_VERSION
from fusion_cluster.protocol.parsing import parse_client_frame
from fusion_cluster.v1.session_pb2 import Challenge, ClientFrame, Hello, ServerFrame, Welcome


def hello_proof(secret: bytes | None, challenge_nonce: bytes, hello_nonce: bytes, caller_id: str) -> bytes:
    """Return the proof for the Hello of a caller's end that knows the secret; empty if the cluster has no secret."""
    return _proof(secret, b"fusion-cluster hello", challenge_nonce, hello_nonce, caller_id.encode())


def welcome_proof(
    secret: bytes | None, challenge_nonce: bytes, hello_nonce: bytes, caller_id: str, owner_id: str
) -> bytes:
    """Return the proof for the Welcome of an owner's end that knows the secret; empty if the cluster has no secret."""
    return _proof(
        secret, b"fusion-cluster welcome", challenge_nonce, hello_nonce, caller_id.encode(), owner_id.encode()
    )


def is_proof(given: bytes, expected: bytes) -> bool:
    """Compare two proofs in constant time."""
    return hmac.compare_digest(given, expected)


def _proof(secret: bytes | None, *parts: bytes) -> bytes:
    if secret is None:
        return b""
    digest = hmac.new(secret, digestmod=sha256)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()


class OwnerHandshake:
    """The owner's end of one carrier until it knows the caller. It touches no session before the proof is checked."""

    __slots__ = ("_nonce", "_peer_id", "_secret")

    def __init__(self, *, peer_id: str, secret: bytes | None, nonce: bytes) -> None:
        self._peer_id = peer_id
        self._secret = secret
        self._nonce = nonce

    def challenge(self) -> bytes:
        """Return the first frame of the owner's end."""
        return ServerFrame(
            challenge=Challenge(protocol_version=PROTOCOL_VERSION, nonce=self._nonce)
        ).SerializeToString()

    def receive(self, frame: bytes) -> Hello:
        """Check the caller's first frame; return its Hello if it proves the secret.

        Raises:
            RemoteProtocolError: the frame is not a lone, well-formed Hello.
            HandshakeRefused: another protocol version, or no proof of the secret.
        """
        if len(frame) > MAX_HANDSHAKE_FRAME_SIZE:
            raise RemoteProtocolError(f"a Hello of {len(frame)} bytes is longer than {MAX_HANDSHAKE_FRAME_SIZE}")
        parsed = parse_client_frame(frame)
        if not parsed.HasField("hello"):
            raise RemoteProtocolError("the first frame of the caller's end is not a Hello")
        if len(parsed.ListFields()) > 1:
            raise RemoteProtocolError("a Hello comes alone in its frame")
        hello = parsed.hello
        if hello.protocol_version != PROTOCOL_VERSION:
            raise HandshakeRefused(
                f"the caller's end speaks protocol version {hello.protocol_version}, this end {PROTOCOL_VERSION}"
            )
        if not hello.peer_id or len(hello.nonce) < NONCE_SIZE:
            raise RemoteProtocolError("a Hello without a peer id or with too short a nonce")
        expected = hello_proof(self._secret, self._nonce, hello.nonce, hello.peer_id)
        if self._secret is not None and not is_proof(hello.proof, expected):
            raise HandshakeRefused("the caller's end did not prove that it knows the cluster secret")
        return hello

    def welcome(
        self,
        hello: Hello,
        *,
        epoch: int,
        slot_map_version: int,
        resume_token: bytes,
        is_resumed: bool,
        read_lease_ms: int,
    ) -> bytes:
        """Return the frame that admits the sender of `hello`."""
        proof = welcome_proof(self._secret, self._nonce, hello.nonce, hello.peer_id, self._peer_id)
        welcome = Welcome(
            protocol_version=PROTOCOL_VERSION,
            peer_id=self._peer_id,
            epoch=epoch,
            slot_map_version=slot_map_version,
            proof=proof,
            resume_token=resume_token,
            resumed=is_resumed,
            read_lease_ms=read_lease_ms,
        )
        return ServerFrame(welcome=welcome).SerializeToString()


class CallerHandshake:
    """The caller's end of one carrier after another, each until it knows the owner."""

    __slots__ = ("_challenge_nonce", "_hello", "_nonce", "_peer_id", "_secret")

    def __init__(self, *, peer_id: str, secret: bytes | None) -> None:
        self._peer_id = peer_id
        self._secret = secret
        self._nonce = b""
        self._challenge_nonce = b""
        self._hello = b""

    def begin(self, nonce: bytes) -> None:
        """Begin with a carrier; `nonce` has to be fresh and random."""
        self._nonce = nonce
        self._challenge_nonce = b""
        self._hello = b""

    def answer(self, challenge: Challenge, *, resume_token: bytes, slot_map_version: int) -> None:
        """Answer the challenge: `take_hello` then has the Hello. Raises as `hello_frame` does."""
        self._challenge_nonce = challenge.nonce
        self._hello = hello_frame(
            peer_id=self._peer_id,
            secret=self._secret,
            challenge=challenge,
            nonce=self._nonce,
            resume_token=resume_token,
            slot_map_version=slot_map_version,
        )

    def take_hello(self) -> bytes:
        """Return the Hello, once; empty after that."""
        hello, self._hello = self._hello, b""
        return hello

    def check(self, welcome: Welcome) -> None:
        """Check that the sender of this Welcome may be trusted. Raises as `check_welcome` does."""
        if self._hello:
            raise RemoteProtocolError("a Welcome before the Hello")
        check_welcome(
            welcome,
            secret=self._secret,
            challenge_nonce=self._challenge_nonce,
            hello_nonce=self._nonce,
            caller_id=self._peer_id,
        )


def hello_frame(
    *,
    peer_id: str,
    secret: bytes | None,
    challenge: Challenge,
    nonce: bytes,
    resume_token: bytes,
    slot_map_version: int,
) -> bytes:
    """Return the caller's answer to a challenge.

    Raises:
        HandshakeRefused: the owner's end speaks another protocol version.
        RemoteProtocolError: its nonce is too short to prove anything.
    """
    if challenge.protocol_version != PROTOCOL_VERSION:
        raise HandshakeRefused(
            f"the owner's end speaks protocol version {challenge.protocol_version}, this end {PROTOCOL_VERSION}"
        )
    if len(challenge.nonce) < NONCE_SIZE:
        raise RemoteProtocolError("a Challenge with too short a nonce")
    hello = Hello(
        protocol_version=PROTOCOL_VERSION,
        peer_id=peer_id,
        nonce=nonce,
        proof=hello_proof(secret, challenge.nonce, nonce, peer_id),
        resume_token=resume_token,
        slot_map_version=slot_map_version,
    )
    return ClientFrame(hello=hello).SerializeToString()


def check_welcome(
    welcome: Welcome, *, secret: bytes | None, challenge_nonce: bytes, hello_nonce: bytes, caller_id: str
) -> None:
    """Check that the owner's end may be trusted.

    Raises:
        HandshakeRefused: another protocol version, or no proof of the secret.
        RemoteProtocolError: a Welcome without a peer id, a read lease or a resume token.
    """
    if welcome.protocol_version != PROTOCOL_VERSION:
        raise HandshakeRefused(
            f"the owner's end speaks protocol version {welcome.protocol_version}, this end {PROTOCOL_VERSION}"
        )
    expected = welcome_proof(secret, challenge_nonce, hello_nonce, caller_id, welcome.peer_id)
    if secret is not None and not is_proof(welcome.proof, expected):
        raise HandshakeRefused("the owner's end did not prove that it knows the cluster secret")
    if not welcome.peer_id or not welcome.read_lease_ms or len(welcome.resume_token) < NONCE_SIZE:
        raise RemoteProtocolError("a Welcome without a peer id, a read lease or a resume token")
