"""Sign-ins: by client session and by user, and what a change of them concerns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fusion_cluster import InvalidArgument
from fusion_cluster.host import Host
from fusion_cluster.services import Sessions, SignIn, new_session_id
from fusion_cluster.services.sessions import MAX_DETAILS_BYTES
from fusion_cluster.testing import LocalCluster
from tests.apps.panel import Panel, new_app
from tests.waiting import until

if TYPE_CHECKING:
    from tests.moving_time import MovingTime

pytest_plugins = ["tests.apps.built_in_services"]
pytestmark = pytest.mark.any_database

DAY_S = 86_400


@pytest.fixture
def sessions(host: Host) -> Sessions:
    return host.service(Sessions)


async def signed_in(sessions: Sessions, *users: str) -> list[str]:
    """Sign each of them in; return their client sessions."""
    ids = [new_session_id() for _ in users]
    for session_id, user in zip(ids, users, strict=True):
        await sessions.sign_in(session_id, user)
    return ids


def test_ids_of_client_sessions_are_secret_and_good() -> None:
    ids = {new_session_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(session_id) for session_id in ids} == {43}
    assert all(character.isalnum() or character in "-_" for session_id in ids for character in session_id)


# -- signing in and out ------------------------------------------------------------------------------------------------
@pytest.mark.both_databases
async def test_who_signs_in_is_known_by_the_client_session_until_they_sign_out(sessions: Sessions, host: Host) -> None:
    panel = host.service(Panel)
    browser, phone = new_session_id(), new_session_id()
    assert await sessions.user_of(browser) is None
    assert await panel.greeting(browser) == "who are you?"
    elsewhere = panel.greeting(phone)
    await elsewhere
    before = datetime.now(UTC)
    await sessions.sign_in(browser, "ann", {"device": "Firefox on Linux"})
    assert await sessions.user_of(browser) == "ann"
    assert await panel.greeting(browser) == "hello ann"
    sign_in = await sessions.get(browser)
    assert sign_in is not None
    assert sign_in == SignIn(browser, "ann", sign_in.signed_in_at, {"device": "Firefox on Linux"})
    assert before - timedelta(milliseconds=1) <= sign_in.signed_in_at <= datetime.now(UTC)
    assert elsewhere.is_consistent
    assert await sessions.sign_out(browser) is True
    assert await sessions.user_of(browser) is None
    assert await panel.greeting(browser) == "who are you?"
    assert await sessions.sign_out(browser) is False


async def test_another_user_takes_the_place_of_the_one_who_is_signed_in(sessions: Sessions) -> None:
    (shared,) = await signed_in(sessions, "ann")
    assert [sign_in.user_id for sign_in in await sessions.sessions_of("ann")] == ["ann"]
    assert await sessions.is_present("ann")
    await sessions.sign_in(shared, "bob")
    assert await sessions.user_of(shared) == "bob"
    assert await sessions.sessions_of("ann") == ()
    assert [sign_in.session_id for sign_in in await sessions.sessions_of("bob")] == [shared]
    assert (await sessions.is_present("ann"), await sessions.is_present("bob")) == (False, True)
    assert await sessions.present_users() == ("bob",)


async def test_a_user_has_many_client_sessions_and_others_are_not_concerned(
    sessions: Sessions, moving_time: MovingTime
) -> None:
    (bobs,) = await signed_in(sessions, "bob")
    of_bob, user_of_bobs = sessions.sessions_of("bob"), sessions.user_of(bobs)
    await of_bob
    await user_of_bobs
    ids = []
    for device in ("phone", "laptop", "fridge"):
        moving_time.advance(0.01)
        ids.append(new_session_id())
        await sessions.sign_in(ids[-1], "ann", {"device": device})
        assert [sign_in.session_id for sign_in in await sessions.sessions_of("ann")] == ids
    await sessions.sign_out(ids[1])
    assert [sign_in.details["device"] for sign_in in await sessions.sessions_of("ann")] == ["phone", "fridge"]
    assert of_bob.is_consistent
    assert user_of_bobs.is_consistent


@pytest.mark.both_databases
async def test_all_sign_ins_of_a_user_are_ended_at_once(sessions: Sessions, host: Host) -> None:
    panel = host.service(Panel)
    *anns, bobs = await signed_in(sessions, "ann", "ann", "ann", "bob")
    assert [await panel.greeting(session_id) for session_id in anns] == ["hello ann"] * 3
    assert await sessions.sign_out_everywhere("ann") == 3
    assert [await panel.greeting(session_id) for session_id in anns] == ["who are you?"] * 3
    assert await sessions.sessions_of("ann") == ()
    assert not await sessions.is_present("ann")
    assert await sessions.user_of(bobs) == "bob"
    assert await sessions.present_users() == ("bob",)
    assert await sessions.sign_out_everywhere("ann") == 0


@pytest.mark.both_databases
async def test_client_sessions_that_are_not_heard_of_for_long_are_ended_when_that_is_asked_for(
    sessions: Sessions, moving_time: MovingTime
) -> None:
    old = await signed_in(sessions, "ann", "bob", "cid", "dan", "eve")
    moving_time.advance(29 * DAY_S)
    assert await sessions.sign_out_idle(30 * DAY_S) == 0
    await sessions.touch(old[1])
    (new,) = await signed_in(sessions, "new")
    moving_time.advance(2 * DAY_S)
    assert [await sessions.user_of(session_id) for session_id in old] == ["ann", "bob", "cid", "dan", "eve"]
    assert [await sessions.sign_out_idle(30 * DAY_S, 3) for _ in range(3)] == [3, 1, 0]
    assert [await sessions.user_of(session_id) for session_id in old] == [None, "bob", None, None, None]
    assert await sessions.user_of(new) == "new"
    assert await sessions.sessions_of("ann") == ()


async def test_the_ids_live_on_all_shards(database_url: str) -> None:
    async with LocalCluster(new_app(database_url), shards=3) as cluster:
        owners = {cluster.owner("Sessions.get", new_session_id()).address.shard_id for _ in range(50)}
        assert owners == {0, 1, 2}


@pytest.mark.both_databases
async def test_what_one_app_changes_another_on_the_same_database_sees(sessions: Sessions, database_url: str) -> None:
    async with new_app(database_url).local() as other:
        theirs, panel = other.service(Sessions), other.service(Panel)
        session_id = new_session_id()
        greeting = panel.greeting(session_id)
        assert (await greeting, await panel.light("ann"), await theirs.present_count()) == ("who are you?", "off", 0)
        await sessions.sign_in(session_id, "ann")
        await until(lambda: not greeting.is_consistent)
        assert (await panel.greeting(session_id), await panel.light("ann")) == ("hello ann", "on")
        assert await theirs.present_users() == ("ann",)
        light = panel.light("ann")
        await sessions.sign_out_everywhere("ann")
        await until(lambda: not light.is_consistent)
        assert (await panel.greeting(session_id), await panel.light("ann")) == ("who are you?", "off")


# -- bad input ---------------------------------------------------------------------------------------------------------
GOOD = "s" * 32


REFUSED: list[tuple[Callable[[Any], Awaitable[Any]], str]] = [
    (lambda sessions: sessions.get("s" * 31), "session_id"),
    (lambda sessions: sessions.get("s" * 301), "session_id"),
    (lambda sessions: sessions.get("s" * 40 + "\0"), "session_id"),
    (lambda sessions: sessions.user_of(""), "session_id"),
    (lambda sessions: sessions.seen_at("short"), "session_id"),
    (lambda sessions: sessions.touch("short"), "session_id"),
    (lambda sessions: sessions.note_seen("short"), "session_id"),
    (lambda sessions: sessions.sign_in("1", "ann"), "session_id"),
    (lambda sessions: sessions.sign_in(GOOD, ""), "user_id"),
    (lambda sessions: sessions.sign_in(GOOD, "u" * 301), "user_id"),
    (lambda sessions: sessions.sign_in(GOOD, "ann", {"a": "b" * MAX_DETAILS_BYTES}), "details"),
    (lambda sessions: sessions.sign_in(GOOD, "ann", {"a": 1}), "details"),
    (lambda sessions: sessions.sign_in(GOOD, "ann", ["a"]), "details"),
    (lambda sessions: sessions.sign_out("1"), "session_id"),
    (lambda sessions: sessions.sign_out_everywhere(""), "user_id"),
    (lambda sessions: sessions.sign_out_idle(0), "unseen_for_s"),
    (lambda sessions: sessions.sign_out_idle(60), "unseen_for_s"),
    (lambda sessions: sessions.sign_out_idle(1000, 0), "limit"),
    (lambda sessions: sessions.sessions_of(""), "user_id"),
    (lambda sessions: sessions.is_present(""), "user_id"),
    (lambda sessions: sessions.present_users(0), "limit"),
    (lambda sessions: sessions.present_users(1001), "limit"),
    (lambda sessions: sessions.present_users(1, "\0"), "after"),
]


async def test_what_cannot_be_is_refused_and_named(sessions: Sessions) -> None:
    for number, (call, field) in enumerate(REFUSED):
        with pytest.raises(InvalidArgument) as caught:
            await call(sessions)
        assert caught.value.field == field, number
    assert await sessions.present_count() == 0
