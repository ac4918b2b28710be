"""Frames that wait for one another, and what comes out of them in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alpaca_nb.data.batch import Lexicon
from alpaca_nb.errors import ProtocolError
from alpaca_nb.feed.intake import Haul, Intake
from alpaca_nb.wire.codec import CODECS, decode
from alpaca_nb.wire.messages import Bar, Message, Quote, Success, Trade

SOON_S = 0.05
LATER_S = 3600.0


class Log:
    """What an intake hands over, in order: time stamps of data, and everything else by name."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.newest: list[int] = []
        self.received: list[int] = []
        self.hauls = 0
        self.intake: Intake | None = None

    def take_haul(self, haul: Haul, received: NDArray[np.int64]) -> None:
        self.hauls += 1
        rows = [
            (sequence, time)
            for batch in haul.batches
            for sequence, time in zip(
                haul.sequence(batch).tolist(), batch.times.tolist(), strict=True
            )
        ]
        self.entries += [time for _, time in sorted(rows)]
        self.newest += haul.newest.tolist()
        self.received += received.tolist()

    def take_odd(self, messages: list[Message[Any]], received_ns: int) -> None:
        self.entries += [("odd", message.symbol) for message in messages]

    def take_frame(self, frame: bytes, received_ns: int) -> bool:
        try:
            messages = decode(frame)
        except ProtocolError:
            self.entries.append("broken")
            return False
        self.entries.append([type(message).__name__ for message in messages])
        return True

    def take_defect(self, error: Exception) -> None:
        self.entries.append(error)


class Clock:
    """Every look is a nanosecond later."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1
        return self.now


@pytest.fixture
def log() -> Log:
    return Log()


def make(log: Log, wait_s: float = LATER_S) -> Intake:
    return Intake(Lexicon(), log, Clock(), wait_s=wait_s)


def quote(time: int, symbol: str = "A", **values: Any) -> Quote[int]:
    return Quote(symbol=symbol, bid_price=1.0, ask_price=2.0, timestamp=time, **values)


def trade(time: int, **values: Any) -> Trade[int]:
    values = {"size": 1} | values
    return Trade(symbol="A", price=1.0, timestamp=time, **values)


def bar(time: int) -> Bar[int]:
    return Bar(symbol="A", open=1.0, high=1.0, low=1.0, close=1.0, volume=1, timestamp=time)


def framed(*messages: Any, codec: str = "msgpack") -> bytes:
    return CODECS[codec].encode(messages)


def put(intake: Intake, frames: Iterable[bytes]) -> None:
    intake.put(list(frames))


codecs = pytest.mark.parametrize("codec", ["msgpack", "json"])


@codecs
async def test_the_first_frame_does_not_wait(log: Log, codec: str) -> None:
    """Where little comes, nothing is gathered."""
    put(make(log), [framed(quote(1), codec=codec)])
    assert log.entries == [1]


@codecs
async def test_what_comes_at_once_is_decoded_together(log: Log, codec: str) -> None:
    """Frames wait for others, and are one haul when somebody asks."""
    intake = make(log)
    put(intake, [framed(quote(1), codec=codec)])
    for time in range(2, 50):
        put(intake, [framed(quote(time), trade(1000 + time), codec=codec)])
    assert (log.entries, intake.waiting) == ([1], True)
    intake.flush()
    assert log.entries == [1, *(each for time in range(2, 50) for each in (time, 1000 + time))]
    assert not intake.waiting
    # Where the decoder is compiled, it is asked first, less and less often.
    assert log.hauls < 10


async def test_nothing_waits_for_long(log: Log) -> None:
    """After a moment it is decoded without anybody asking."""
    intake = make(log, SOON_S)
    put(intake, [framed(quote(1))])
    put(intake, [framed(quote(2))])
    assert log.entries == [1]
    await asyncio.sleep(4 * SOON_S)
    assert log.entries == [1, 2]


async def test_much_does_not_wait(log: Log) -> None:
    """Several hundred messages are worth a call of their own."""
    intake = make(log)
    put(intake, [framed(quote(1))])
    put(intake, [framed(*(quote(time) for time in range(2, 5_000)))])
    assert len(log.entries) == 4_999


async def test_each_frame_tells_its_arrival_and_its_last_time(log: Log) -> None:
    """Frames that end in something that is no tick tell no time."""
    intake = make(log)
    put(intake, [framed(quote(10))])
    put(intake, [framed(quote(20), quote(21)), framed(bar(5)), framed(bar(6), trade(22))])
    put(intake, [framed(), framed(quote(30))])
    intake.flush()
    assert log.newest == [10, 21, 22, 30]
    assert log.received == [1, 2, 2, 3]


@codecs
async def test_the_order_of_things_is_kept(log: Log, codec: str) -> None:
    """What is no market data is handed over between what came before it and after it."""
    intake = make(log)
    put(intake, [framed(quote(1), codec=codec)])
    put(
        intake,
        [
            framed(quote(2), codec=codec),
            framed(Success("connected"), codec=codec),
            framed(quote(3), codec=codec),
            framed(quote(4), Success("late"), codec=codec),
            framed(trade(5), codec=codec),
        ],
    )
    intake.flush()
    assert log.entries == [1, 2, ["Success"], 3, ["Quote", "Success"], 5]


@pytest.mark.parametrize("broken", [b"<html>", b"\x91\x81\xa1T\xa1q\xff", b"", b'[{"T":"q"'])
async def test_nothing_comes_after_a_broken_frame(log: Log, broken: bytes) -> None:
    """What came before it does, also within one look at the socket."""
    intake = make(log)
    put(intake, [framed(quote(1))])
    put(intake, [framed(quote(2)), broken, framed(quote(3))])
    intake.flush()
    put(intake, [framed(quote(4))])
    intake.flush()
    assert log.entries == [1, 2, "broken"]
    intake.reset()
    put(intake, [framed(quote(5))])
    intake.flush()
    assert log.entries == [1, 2, "broken", 5]


async def test_a_message_that_fits_no_column_costs_no_other(log: Log) -> None:
    """The others of its frame are columns, and it is handed over as it is."""
    intake = make(log)
    huge = trade(2, size=2**63)
    put(intake, [framed(trade(1), huge, trade(3), quote(4)), framed(huge)])
    intake.flush()
    assert log.entries == [1, 3, 4, ("odd", "A"), ("odd", "A")]


async def test_a_defect_is_reported_and_not_raised(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever happens to flush is not to blame; nothing is handed over after it."""
    error = RuntimeError("a defect")

    def fail(haul: Haul, received: NDArray[np.int64]) -> None:
        raise error

    monkeypatch.setattr(log, "take_haul", fail)
    intake = make(log)
    put(intake, [framed(quote(1)), framed(quote(2))])
    put(intake, [framed(quote(3))])
    intake.flush()
    assert log.entries == [error]


async def test_who_flushes_while_it_is_handed_over_changes_nothing(log: Log) -> None:
    """A consumer may ask for what waits while it is being given it."""
    intake = make(log)
    take = log.take_haul

    def ask_again(haul: Haul, received: NDArray[np.int64]) -> None:
        intake.flush()
        take(haul, received)

    log.take_haul = ask_again  # type: ignore[method-assign]
    put(intake, [framed(quote(1))])
    put(intake, [framed(quote(2)), framed(quote(3))])
    intake.flush()
    assert log.entries == [1, 2, 3]
