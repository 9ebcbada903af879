from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_cluster.errors import LocalProtocolError, RemoteProtocolError
from fusion_cluster.protocol import MAX_FRAME_SIZE, FrameReader, with_length


@given(frames=st.lists(st.binary(max_size=300)), cuts=st.lists(st.integers(min_value=1, max_value=50)))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(with_length, frames))
    reader = FrameReader()
    out: list[bytes] = []
    for size in cuts:
        out += reader.feed(stream[:size])
        stream = stream[size:]
    out += reader.feed(stream)
    assert out == frames
    reader.end()


def test_a_frame_that_is_too_long_is_noticed_with_its_length() -> None:
    reader = FrameReader(max_frame_size=10)
    assert reader.feed(with_length(bytes(10))) == [bytes(10)]
    with pytest.raises(RemoteProtocolError, match="11 bytes is longer than 10"):
        reader.feed(with_length(bytes(11))[:4])


def test_a_stream_that_ends_inside_a_frame_is_an_error() -> None:
    reader = FrameReader()
    reader.feed(with_length(b"abc")[:-1])
    with pytest.raises(RemoteProtocolError, match="6 bytes into a frame"):
        reader.end()


def test_a_frame_that_nobody_would_take_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        with_length(bytes(MAX_FRAME_SIZE + 1))
