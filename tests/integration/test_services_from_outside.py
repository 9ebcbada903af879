"""The built-in services through a gateway: typed by the client, and as JSON by anybody."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from fusion_cluster import InvalidArgument
from fusion_cluster.client import connect
from fusion_cluster.services import Clock, KeyValueStore, Sessions, SignIn, new_session_id
from tests.apps.panel import Panel, new_app
from tests.clients import fronted
from tests.gateways import serving_locally
from tests.waiting import until


async def test_a_client_uses_them_as_they_are_used_inside_and_hears_of_what_expires(tmp_path: Path) -> None:
    async with (
        fronted(new_app(f"sqlite:///{tmp_path}/services.db"), shards=3) as front,
        connect(front.address, timeout_s=5.0) as client,
    ):
        store, sessions = client.service(KeyValueStore), client.service(Sessions)
        clock, panel = client.service(Clock), client.service(Panel)
        await store.set_many({"a/1": b"\x00\xff", "a/2": b""})
        assert await store.get("a/1") == b"\x00\xff"
        assert await store.list("a/") == ("a/1", "a/2")
        await store.set("a/3", b"soon gone", 0.4)
        summary = panel.summary("a/")
        assert await summary == "3 of a/"
        await until(lambda: not summary.is_consistent)
        assert await panel.summary("a/") == "2 of a/"
        session_id = new_session_id()
        await sessions.sign_in(session_id, "ann", {"device": "browser"})
        sign_in = await sessions.get(session_id)
        assert isinstance(sign_in, SignIn)
        assert datetime.now(UTC) - sign_in.signed_in_at < timedelta(minutes=1)
        assert await sessions.sessions_of("ann") == (sign_in,)
        await sessions.touch(session_id)
        assert (await sessions.present_users(), await panel.light("ann")) == (("ann",), "on")
        assert await sessions.sign_out_everywhere("ann") == 1
        assert await panel.greeting(session_id) == "who are you?"
        assert (await clock.now(3600)).minute == 0
        assert await clock.moments_ago(datetime.now(UTC) - timedelta(hours=2.5)) == "2 hours ago"
        with pytest.raises(InvalidArgument) as caught:
            await store.set("", b"")
        assert caught.value.field == "key"


async def test_as_json_values_are_base64_and_times_are_texts(tmp_path: Path) -> None:
    async with serving_locally(new_app(f"sqlite:///{tmp_path}/services.db")) as served:
        await served.execute("KeyValueStore.set", "greeting", base64.b64encode(b"hello").decode())
        await served.execute("KeyValueStore.set_many", {"a": "", "b": ""}, 60)
        assert await served.call("KeyValueStore.get", "greeting") == base64.b64encode(b"hello").decode()
        assert await served.call("KeyValueStore.list") == ["a", "b", "greeting"]
        assert await served.call("KeyValueStore.count", "g") == 1
        session_id = new_session_id()
        await served.execute("Sessions.sign_in", session_id, "ann", {"device": "browser"})
        sign_in = await served.call("Sessions.get", session_id)
        assert (sign_in["user_id"], sign_in["details"]) == ("ann", {"device": "browser"})
        assert datetime.fromisoformat(sign_in["signed_in_at"]).tzinfo is not None
        assert await served.call("Clock.moments_ago", "2020-01-01T00:00:00Z") != "just now"
        assert datetime.fromisoformat(await served.call("Clock.now", 60)).second == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call("Clock.moments_ago", "2020-01-01T00:00:00")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call("Sessions.get", "short")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        watching = served.watch("KeyValueStore.count", "")
        counts = []
        async for update in watching:
            counts.append(int(update.value.json))
            if len(counts) == 2:
                break
            await served.execute("KeyValueStore.remove", "a")
        assert counts == [3, 2]
