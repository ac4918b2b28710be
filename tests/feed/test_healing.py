"""Whatever goes wrong: in the end a frame is the tape, or differs just by what its gaps say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from healing import Outcome, Planned, play

from alpaca_nb.sim.faults import (
    Cut,
    CutRest,
    DelayAcks,
    Duplicate,
    EndlessPages,
    Fault,
    Garbage,
    HoldSession,
    HtmlRest,
    LateData,
    Mute,
    Oversize,
    Pause,
    RefuseHandshake,
    RefuseRest,
    SendError,
    SlowClient,
    SlowRest,
    Truncated,
    UnknownMessage,
)
from alpaca_nb.sim.plans import Plan

AT_ONCE = 20
"""Sessions that run at the same time: they mostly wait."""

A_CUT = Planned(Cut(), "data", after=150)
"""What makes a client come again, and have something to fill in."""

CONNECTION: tuple[Fault, ...] = (
    Cut(),
    Cut(mid_frame=True),
    Mute(),
    Pause(3.0),
    HoldSession(8.0),
    SlowClient(warn=True),
    SlowClient(warn=False),
    SendError(407),
    SendError(500),
    RefuseHandshake(429),
    RefuseHandshake(500),
    RefuseHandshake(502),
    RefuseHandshake(503),
)
CONTENT: tuple[Fault, ...] = (
    Garbage(),
    Garbage("no message"),
    Truncated(),
    Oversize(),
    UnknownMessage(),
    Duplicate(40),
    DelayAcks(2.0),
    DelayAcks(9.0),
    LateData(2.0),
)
HISTORY: tuple[Fault, ...] = (
    RefuseRest(429),
    RefuseRest(500),
    RefuseRest(503),
    RefuseRest(403),
    HtmlRest(),
    EndlessPages(),
    SlowRest(5.0),
    CutRest(mid_answer=True),
    CutRest(mid_answer=False),
)


async def play_all(
    sessions: Iterable[tuple[str, Sequence[Planned], dict[str, Any]]], *, must_happen: bool = False
) -> list[str]:
    """Play sessions side by side; returns what is wrong with those that did not heal.

    With `must_happen`, a session in which a planned fault found no moment is wrong too.
    """
    places = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, planned: Sequence[Planned], options: dict[str, Any]) -> str:
        async with places:
            try:
                outcome = await play(planned, **options)
            except Exception as error:
                return f"{name}: {error!r}"
        tried = not must_happen or not outcome.never_happened
        return "" if outcome.is_true and tried else f"{name}\n{outcome}"

    told = await asyncio.gather(*(one(*session) for session in sessions))
    return [each for each in told if each]


def matrix(faults: Sequence[Fault]) -> list[tuple[str, Sequence[Planned], dict[str, Any]]]:
    """Each fault at each of its moments, after a cut that brings the client there again."""
    sessions = []
    for number, fault in enumerate(faults):
        for at in fault.moments:
            if at == "now":
                continue  # the same as at the next data, and without a place in the session
            after = 200 if at == "data" else 0
            planned = [Planned(fault, at, after)] if at == "data" else [A_CUT, Planned(fault, at)]
            options = {"seed": number, "codec": ("msgpack", "json")[number % 2]}
            sessions.append((f"{fault} at {at}", planned, options))
    return sessions


@pytest.mark.parametrize("faults", [CONNECTION, CONTENT, HISTORY], ids=["wire", "frames", "rest"])
async def test_each_fault_heals_at_each_moment(faults: Sequence[Fault]) -> None:
    """At the handshake, the login, an acknowledgement, in the data or during a repair."""
    assert await play_all(matrix(faults), must_happen=True) == []


@pytest.mark.parametrize("at", ["handshake", "welcome", "auth", "ack"])
async def test_a_first_connection_that_fails_leaves_no_trace(at: Any) -> None:
    """What goes wrong before there is anything to lose loses nothing."""
    faults = [fault for fault in (*CONNECTION, *CONTENT) if at in fault.moments]
    sessions = [(f"{fault} at {at}", [Planned(fault, at)], {"at_start": True}) for fault in faults]
    assert await play_all(sessions, must_happen=True) == []


def schedule(seed: int) -> tuple[str, list[Planned], dict[str, Any]]:
    """A few faults at random moments, in an order that only the seed knows."""
    rng = random.Random(seed)
    planned = []
    for _ in range(rng.randint(1, 4)):
        fault = rng.choice((*CONNECTION, *CONTENT, *HISTORY))
        at = rng.choice([each for each in fault.moments if each != "now"])
        if at == "data":
            planned.append(Planned(fault, at, after=rng.randint(0, 400)))
        else:
            planned += [Planned(Cut(), "data", rng.randint(20, 300)), Planned(fault, at)]
    options = {
        "seed": seed,
        "codec": rng.choice(("msgpack", "json")),
        "amendments": rng.choice((0.0, 0.03, 0.2)),
        "at_start": rng.random() < 0.3,
    }
    return f"schedule {seed}: {planned} {options}", planned, options


@pytest.mark.parametrize("first", range(0, 200, 50))
async def test_random_schedules_of_faults_heal(first: int) -> None:
    """Two hundred seeded schedules of several faults each, and none leaves a lie."""
    assert await play_all([schedule(seed) for seed in range(first, first + 50)]) == []


async def test_what_the_plan_does_not_give_stays_on_record() -> None:
    """Without the right to recent data of the consolidated tape, a hole waits and is told of."""
    plan = Plan(rest_per_minute=None, recent_sip=False)
    outcome: Outcome = await play([A_CUT], feed="sip", plan=plan, wait_repairs=False)
    assert outcome.is_true, outcome
    assert outcome.states == {"waiting": 9}
    assert sum(sum(rows.values()) for rows in outcome.missing.values()) > 0
    assert outcome.backfilled == 0


async def test_a_refused_repair_is_a_gap_with_its_reason() -> None:
    """What REST refuses for good is missed, and nothing else is."""
    refusals = Planned(RefuseRest(403), "rest", times=50)
    outcome = await play([A_CUT, refusals])
    assert outcome.is_true, outcome
    assert outcome.states == {"missed": 9}
