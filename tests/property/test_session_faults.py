"""Faults planted into both ends of a session: the state machine finds each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from fusion_cluster.protocol import owner as owner_module
from fusion_cluster.protocol.caller import CallerSession
from fusion_cluster.protocol.holdings import CallerHoldings
from fusion_cluster.protocol.owner import OwnerSession
from fusion_cluster.protocol.states import OwnerCall
from tests.property.test_session_machine import SessionMachine

Plant = Callable[[pytest.MonkeyPatch], object]


def believe_that_both_ends_agree(patch: pytest.MonkeyPatch) -> None:
    """The caller's end takes each pong for a proof."""
    patch.setattr(CallerHoldings, "agree", lambda self, holdings: True)


def believe_the_welcome(patch: pytest.MonkeyPatch) -> None:
    """The doubt ends when the session is open again."""
    on_welcome = CallerSession._on_welcome

    def believing(self: CallerSession, welcome: Any, events: list[Any]) -> None:
        on_welcome(self, welcome, events)
        self._end_doubt(events)

    patch.setattr(CallerSession, "_on_welcome", believing)


def answer_marks_in_doubt(patch: pytest.MonkeyPatch) -> None:
    """Barrier marks are reported at once."""

    def release(self: CallerSession, events: list[Any]) -> None:
        doubt, self._doubt_until_s = self._doubt_until_s, None
        release_marks(self, events)
        self._doubt_until_s = doubt

    release_marks = CallerSession._release_marks
    patch.setattr(CallerSession, "_release_marks", release)


def forget_what_was_given_up(patch: pytest.MonkeyPatch) -> None:
    """Reads that were given up over a lost carrier are not given up again."""
    patch.setattr(CallerHoldings, "detach", lambda self: self._batches.clear() or [])


def count_what_was_given_up_for_ever(patch: pytest.MonkeyPatch) -> None:
    """What the owner's end has heard is not taken off."""
    patch.setattr(CallerHoldings, "hear", lambda self, number: None)


def count_nothing_that_was_given_up(patch: pytest.MonkeyPatch) -> None:
    """A read is taken off when it is given up, and not when the owner's end has heard it."""

    def depart(self: CallerHoldings, ids: Any) -> None:
        for call_id in ids:
            self.remove(call_id)

    patch.setattr(CallerHoldings, "depart", depart)


def resume_without_one_subscription(patch: pytest.MonkeyPatch) -> None:
    """The owner's end forgets a subscription when it is attached to another carrier."""
    attach = OwnerSession.attach

    def forgetful(self: OwnerSession, now_s: float) -> None:
        attach(self, now_s)
        for call_id, state in self._calls.items():
            if state is OwnerCall.SUBSCRIBED:
                self._forget(call_id, state)
                return

    patch.setattr(OwnerSession, "attach", forgetful)


def never_run_again_what_is_lost(patch: pytest.MonkeyPatch) -> None:
    """A read whose result was lost is taken for one whose result is on its way."""
    patch.setattr(owner_module, "_ON_REPEAT", {})


def doubt_for_ever(patch: pytest.MonkeyPatch) -> None:
    """What is in doubt is kept until it is found out, however long that takes."""
    patch.setattr("fusion_cluster.protocol.lease.ReadLease.doubt_until_s", lambda self, now_s: float("inf"))


@pytest.mark.parametrize(
    "plant",
    [
        believe_that_both_ends_agree,
        believe_the_welcome,
        answer_marks_in_doubt,
        forget_what_was_given_up,
        count_what_was_given_up_for_ever,
        count_nothing_that_was_given_up,
        resume_without_one_subscription,
        never_run_again_what_is_lost,
        doubt_for_ever,
    ],
)
def test_a_planted_fault_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
        run_state_machine_as_test(
            SessionMachine,
            settings=settings(
                max_examples=300,
                stateful_step_count=50,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
