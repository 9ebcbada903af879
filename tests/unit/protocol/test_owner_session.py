from __future__ import annotations

import pytest

from fusion_cluster.errors import RemoteProtocolError
from fusion_cluster.v1.session_pb2 import Call, ClientFrame, Invalidate
from tests.session_pair import SessionPair


def test_an_id_that_is_called_cancelled_and_used_again_in_one_frame_is_a_violation() -> None:
    pair = SessionPair()
    pair.connect()
    assert pair.owner is not None
    call = Call(id=1, kind=Call.KIND_READ, method="Carts.total", arguments=b"\x90")
    frame = ClientFrame(calls=[call], cancelled=[1], invalidations=[Invalidate(id=1)])
    with pytest.raises(RemoteProtocolError, match="without an id of its own"):
        pair.owner.receive(frame.SerializeToString(), 101.0)


def test_ids_of_their_own_are_taken_from_one_frame() -> None:
    pair = SessionPair()
    pair.connect()
    assert pair.owner is not None
    call = Call(id=1, kind=Call.KIND_READ, method="Carts.total", arguments=b"\x90")
    frame = ClientFrame(calls=[call], cancelled=[1], invalidations=[Invalidate(id=2)])
    names = [type(event).__name__ for event in pair.owner.receive(frame.SerializeToString(), 101.0)]
    assert names == ["InvalidationRequested", "Called", "Cancelled"]
