"""Presence: who was heard of lately, written seldom, and gone by itself."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from fusion_cluster.graph import Computed
from fusion_cluster.host import Host
from fusion_cluster.services import Sessions, new_session_id
from fusion_cluster.services.shared_expiry import STEP_S
from tests.apps.panel import Panel
from tests.statements import Statement, statements
from tests.waiting import until

if TYPE_CHECKING:
    from tests.moving_time import MovingTime

pytest_plugins = ["tests.apps.built_in_services"]
pytestmark = pytest.mark.any_database

TIMEOUT_S, INTERVAL_S = Sessions.presence_timeout_s, Sessions.touch_interval_s


@pytest.fixture
def sessions(host: Host) -> Sessions:
    return host.service(Sessions)


async def signed_in(sessions: Sessions, *users: str) -> list[str]:
    ids = [new_session_id() for _ in users]
    for session_id, user in zip(ids, users, strict=True):
        await sessions.sign_in(session_id, user)
    return ids


async def until_out_of_date(*computeds: Computed[Any]) -> None:
    await until(lambda: not any(computed.is_consistent for computed in computeds), what="that all are out of date")


def writes(sent: list[Statement]) -> list[Statement]:
    return [statement for statement in sent if statement.text.startswith(("UPDATE fusion_sessions", "INSERT"))]


@pytest.mark.both_databases
async def test_a_user_is_present_until_they_were_not_heard_of_for_some_time(
    sessions: Sessions, host: Host, moving_time: MovingTime
) -> None:
    panel = host.service(Panel)
    assert (await panel.light("ann"), await sessions.present_count(), await sessions.present_users()) == ("off", 0, ())
    await signed_in(sessions, "ann")
    assert (await panel.light("ann"), await sessions.present_count()) == ("on", 1)
    assert await sessions.present_users() == ("ann",)
    light, count, users = panel.light("ann"), sessions.present_count(), sessions.present_users()
    moving_time.advance(TIMEOUT_S - 1)
    assert await panel.light("ann") == "on"
    assert all(computed.is_consistent for computed in (light, count, users))
    moving_time.advance(2)
    await until_out_of_date(light, count, users)
    assert (await panel.light("ann"), await sessions.present_count(), await sessions.present_users()) == ("off", 0, ())


async def test_presence_ends_in_real_time_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sessions, "presence_timeout_s", 2.0)
    sessions = host.service(Sessions)
    await signed_in(sessions, "ann")
    assert await sessions.is_present("ann")
    await sessions.is_present("ann").when(lambda is_present: not is_present)
    await sessions.present_count().when(lambda count: count == 0)
    assert await sessions.present_users() == ()


async def test_who_is_heard_of_stays_present(sessions: Sessions, host: Host, moving_time: MovingTime) -> None:
    panel = host.service(Panel)
    (session_id,) = await signed_in(sessions, "ann")
    for _ in range(10):
        moving_time.advance(TIMEOUT_S / 2)
        await sessions.touch(session_id)
        assert await panel.light("ann") == "on"
        assert await sessions.present_users() == ("ann",)
        assert await sessions.present_count() == 1


async def test_who_stays_present_concerns_nobody(sessions: Sessions, host: Host, moving_time: MovingTime) -> None:
    with moving_time.standing_still():
        panel = host.service(Panel)
        (session_id,) = await signed_in(sessions, "ann")
        computeds = [
            panel.light("ann"),
            sessions.present_users(),
            sessions.present_count(),
            sessions.user_of(session_id),
        ]
        for computed in computeds:
            await computed
        moving_time.advance(INTERVAL_S + 1)
        seen_at = await sessions.seen_at(session_id)
        await sessions.touch(session_id)
        assert seen_at is not None
        await sessions.seen_at(session_id).when(
            lambda seen_again_at: seen_again_at is not None and seen_at < seen_again_at
        )
        assert all(computed.is_consistent for computed in computeds)


async def test_users_who_stay_present_cost_their_count_nothing_for_each(
    sessions: Sessions, moving_time: MovingTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty of them, each always close to the end of their presence: counted once in a step, not for each."""
    with moving_time.standing_still():
        monkeypatch.setattr(Sessions, "presence_timeout_s", 6.0)
        monkeypatch.setattr(Sessions, "touch_interval_s", 2.0)
        users = [f"user {number:02}" for number in range(20)]
        ids = []
        for user in users:
            ids += await signed_in(sessions, user)
            moving_time.advance(0.2)
        start_s = moving_time.wall()
        with statements() as sent:
            for session_id in ids * 2:
                await sessions.touch(session_id)
                assert await sessions.present_count() == len(users)
                assert await sessions.present_users() == tuple(users)
                moving_time.advance(0.2)
        steps = (moving_time.wall() - start_s) / STEP_S
        assert 0 < len([statement for statement in sent if "count(*)" in statement.text]) <= 2 * steps + 2
        pages = [text for text in map(repr, sent) if "LIMIT" in text and "FROM fusion_sessions" in text]
        assert 0 < len(pages) <= 2 * steps + 2
        assert len([statement for statement in writes(sent) if statement.text.startswith("UPDATE")]) == 2 * len(users)


async def test_presences_that_end_one_after_the_other_are_seen_to_end_together(
    sessions: Sessions, moving_time: MovingTime
) -> None:
    for number in range(20):
        await signed_in(sessions, f"user {number:02}")
        moving_time.advance(0.2)
    assert await sessions.present_count() == 20
    start_s = moving_time.wall()
    moving_time.advance(TIMEOUT_S - 5)
    with statements() as sent:
        while await sessions.present_count() > 0:
            await asyncio.sleep(0)  # timers that are due end
            moving_time.advance(0.05)
    counted = len([statement for statement in sent if "count(*)" in statement.text])
    assert counted <= (moving_time.wall() - start_s - TIMEOUT_S + 5) / STEP_S + 2
    assert moving_time.wall() - start_s < TIMEOUT_S + STEP_S + 1
    await sessions.present_users().when(lambda users: users == ())


async def test_a_touch_waits_for_no_replica(sessions: Sessions, host: Host) -> None:
    assert not host.command("Sessions.note_seen").method.barrier


async def test_a_client_session_that_is_heard_of_all_the_time_is_noted_now_and_then(
    sessions: Sessions, moving_time: MovingTime
) -> None:
    (session_id,) = await signed_in(sessions, "ann")
    await sessions.touch(session_id)
    with statements() as sent:
        for _ in range(500):
            await sessions.touch(session_id)
    assert writes(sent) == []
    noted = 0
    for _ in range(100):
        moving_time.advance(1)
        with statements() as sent:
            await sessions.touch(session_id)
        noted += any(statement.text.startswith("UPDATE fusion_sessions") for statement in sent)
    assert noted == 100 // INTERVAL_S


@pytest.mark.both_databases
async def test_many_requests_at_once_are_noted_once(sessions: Sessions, moving_time: MovingTime) -> None:
    (session_id,) = await signed_in(sessions, "ann")
    moving_time.advance(INTERVAL_S + 1)
    with statements() as sent:
        await asyncio.gather(*(sessions.touch(session_id) for _ in range(20)))
    assert len([statement for statement in sent if statement.text.startswith("UPDATE fusion_sessions")]) == 1


async def test_who_comes_back_is_present_at_once_everywhere(
    sessions: Sessions, host: Host, moving_time: MovingTime
) -> None:
    panel = host.service(Panel)
    (session_id,) = await signed_in(sessions, "ann")
    moving_time.advance(TIMEOUT_S + 1)
    assert (await panel.light("ann"), await sessions.present_count(), await sessions.present_users()) == ("off", 0, ())
    await sessions.touch(session_id)
    await panel.light("ann").when(lambda light: light == "on")
    await sessions.present_count().when(lambda count: count == 1)
    await sessions.present_users().when(lambda users: users == ("ann",))


async def test_a_session_without_a_sign_in_is_nobody(sessions: Sessions) -> None:
    stranger = new_session_id()
    with statements() as sent:
        await sessions.touch(stranger)
        await sessions.touch(stranger)
        assert await sessions.seen_at(stranger) is None
    assert writes(sent) == []
    assert await sessions.present_count() == 0


async def test_a_user_is_present_by_any_of_their_sessions(sessions: Sessions, moving_time: MovingTime) -> None:
    phone, laptop = await signed_in(sessions, "ann", "ann")
    assert await sessions.present_users() == ("ann",)
    assert await sessions.present_count() == 1
    await sessions.sign_out(phone)
    assert await sessions.is_present("ann")
    moving_time.advance(TIMEOUT_S - 10)
    await sessions.touch(laptop)
    moving_time.advance(20)
    assert await sessions.is_present("ann")
    await sessions.sign_out(laptop)
    assert not await sessions.is_present("ann")
    assert await sessions.present_count() == 0


async def test_a_session_that_wakes_up_does_not_count_on_another_that_may_be_leaving(
    sessions: Sessions, moving_time: MovingTime
) -> None:
    idle, busy = await signed_in(sessions, "ann", "ann")
    moving_time.advance(TIMEOUT_S - 10)
    await sessions.touch(busy)
    moving_time.advance(20)
    await asyncio.gather(sessions.touch(idle), sessions.sign_out(busy))
    await sessions.is_present("ann").when(lambda is_present: is_present)
    await sessions.present_users().when(lambda users: users == ("ann",))


@pytest.mark.both_databases
async def test_present_users_come_in_pages_in_the_order_of_their_ids(
    sessions: Sessions, moving_time: MovingTime
) -> None:
    await signed_in(sessions, "gone")
    moving_time.advance(TIMEOUT_S + 1)
    users = ["Zoe", "ann", "bob", "cid", "émile", "🦉"]
    await signed_in(sessions, *reversed(users))
    assert await sessions.present_users() == tuple(users)
    assert await sessions.present_users(2) == ("Zoe", "ann")
    assert await sessions.present_users(2, "ann") == ("bob", "cid")
    assert await sessions.present_users(2, "émile") == ("🦉",)
    assert await sessions.present_count() == len(users)


async def test_presence_ends_on_what_is_there_after_comings_and_goings(sessions: Sessions) -> None:
    rng = random.Random(3)
    users = [f"user {number}" for number in range(6)]
    ids = {user: [new_session_id() for _ in range(2)] for user in users}
    is_over = asyncio.Event()

    async def read() -> None:
        while not is_over.is_set():
            await sessions.present_users()
            await sessions.present_count()
            await sessions.is_present(rng.choice(users))
            await asyncio.sleep(0)

    async def act() -> None:
        for _ in range(12):
            user = rng.choice(users)
            session_id = rng.choice(ids[user])
            match rng.randint(0, 3):
                case 0:
                    await sessions.sign_out(session_id)
                case 1:
                    await sessions.sign_out_everywhere(user)
                case _:
                    await sessions.sign_in(session_id, user)

    readers = [asyncio.create_task(read()) for _ in range(4)]
    await asyncio.gather(*(act() for _ in range(6)))
    is_over.set()
    await asyncio.gather(*readers)
    present = tuple([user for user in users if await sessions.sessions_of(user)])
    assert await sessions.present_users() == present
    assert await sessions.present_count() == len(present)
    assert [await sessions.is_present(user) for user in users] == [user in present for user in users]
