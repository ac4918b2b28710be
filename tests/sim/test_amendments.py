"""Trades that are cancelled, corrected or reported late, and what is true in the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from alpaca_nb.data.candles import CandleBuilder
from alpaca_nb.errors import BadInputError
from alpaca_nb.sim.amendments import standing_trades
from alpaca_nb.sim.market import MINUTE_NS, SESSION_MINUTES, SyntheticMarket
from alpaca_nb.sim.tape import RecordedTape, SyntheticTape
from alpaca_nb.wire.codec import JSON
from alpaca_nb.wire.messages import (
    Bar,
    CancelError,
    Correction,
    DailyBar,
    Message,
    Quote,
    Trade,
    UpdatedBar,
)

SECOND_NS = 1_000_000_000
SYMBOLS = ("AAPL", "IBM", "QXQX")
ALL = {
    channel: frozenset(SYMBOLS)
    for channel in ("trades", "quotes", "bars", "updated_bars", "corrections", "cancel_errors")
}


def amended(share: float = 0.1, **options: Any) -> SyntheticMarket:
    return SyntheticMarket(amendments=share, **options)


def of(kind: type[Message[Any]], messages: Any) -> list[Any]:
    return [message for message in messages if type(message) is kind]


def bars_of(trades: list[Trade[int]]) -> list[Bar[int]]:
    """Bars as anybody makes them from trades that are all known."""
    builder = CandleBuilder()
    for trade in sorted(trades, key=lambda trade: trade.timestamp):
        builder.add(trade)
    return builder.close(1 << 62)


# -- the market --------------------------------------------------------------------------


def test_the_same_minute_is_amended_in_the_same_way_whenever_it_is_asked_for():
    """Amendments are drawn for the minute alone: any order of questions, the same answers."""
    forwards = [JSON.encode(amended().minute("AAPL", minute)) for minute in range(4)]
    market = amended(symbols=SYMBOLS)
    backwards = [JSON.encode(market.minute("AAPL", minute)) for minute in reversed(range(4))]
    assert forwards == backwards[::-1]


def test_without_a_share_nothing_is_amended():
    """The usual market is the same with the option at 0, message by message."""
    assert SyntheticMarket(amendments=0).minute("SPY", 9) == SyntheticMarket().minute("SPY", 9)


def test_everything_but_the_amended_trades_stays_as_it_was():
    """Quotes and bands, and the reports of all trades, are those of the market without."""
    plain = SyntheticMarket().minute("AAPL", 3)
    events = [message for _, message in amended().events("AAPL", 3)]
    for kind in (Quote, Trade):
        reported = sorted(of(kind, events), key=lambda message: message.timestamp)
        assert reported == of(kind, plain)


def test_the_share_is_that_of_the_amended_trades():
    """About so many trades are amended, in each of the three ways and both kinds of cancel."""
    events = [due for minute in range(20) for due in amended(0.2).events("AAPL", minute)]
    trades = [(due_ns, each) for due_ns, each in events if type(each) is Trade]
    messages = [message for _, message in events]
    late = sum(due_ns != trade.timestamp for due_ns, trade in trades)
    cancels, corrections = of(CancelError, messages), of(Correction, messages)
    share = (late + len(cancels) + len(corrections)) / len(trades)
    assert 0.17 < share < 0.23
    assert min(late, len(cancels), len(corrections)) > 0.2 * share * len(trades)
    assert {cancel.action for cancel in cancels} == {"C", "E"}


def test_a_greater_share_amends_the_same_trades_and_more():
    """With a smaller share, fewer trades are amended, in the same way."""
    few = of(Correction, amended(0.05).minute("AAPL", 0))
    many = of(Correction, amended(0.3).minute("AAPL", 0))
    assert few
    assert [correction for correction in many if correction in few] == few
    assert len(many) > len(few)


def test_a_cancel_names_the_trade_as_it_was_reported():
    """Number, venue, price, size and tape are those of the trade, and it comes afterwards."""
    events = amended().events("AAPL", 2)
    trades = {each.trade_id: (due, each) for due, each in events if type(each) is Trade}
    for due_ns, cancel in events:
        if type(cancel) is CancelError:
            reported_ns, trade = trades[cancel.trade_id]
            assert (cancel.exchange, cancel.price, cancel.size, cancel.tape) == (
                *(trade.exchange, trade.price, trade.size, trade.tape),
            )
            assert reported_ns < due_ns == cancel.timestamp <= reported_ns + 50 * SECOND_NS


def test_a_correction_holds_both_versions():
    """The original as reported, and another number and price; time and venue stay."""
    events = [message for _, message in amended().events("AAPL", 2)]
    trades = {trade.trade_id: trade for trade in of(Trade, events)}
    corrections = of(Correction, events)
    assert corrections
    assert len({each.corrected_trade_id for each in corrections}) == len(corrections)
    for each in corrections:
        original = trades[each.original_trade_id]
        assert each.exchange == original.exchange
        assert (each.original_price, each.original_size) == (original.price, original.size)
        assert each.original_conditions == original.conditions
        assert each.corrected_trade_id not in trades
        assert each.corrected_price != original.price
        assert each.corrected_price == pytest.approx(original.price, abs=0.031)
        assert ("I" in each.corrected_conditions) == (each.corrected_size < 100)


def test_a_late_trade_comes_after_its_bar():
    """It keeps its time, and is sent when the bar of its minute is out."""
    market = amended()
    end_ns = market.open_ns + 3 * MINUTE_NS
    late = [each for due_ns, each in market.events("AAPL", 2) if due_ns > end_ns]
    assert of(Trade, late)
    assert all(trade.timestamp < end_ns for trade in of(Trade, late))


def test_changed_bars_go_out_again_at_the_half_minute():
    """Each update is due at hh:mm:30 after the minute, and says something new."""
    market = amended(0.3)
    told: dict[int, Any] = {}
    updates = 0
    for minute in range(10):
        for due_ns, message in market.events("IBM", minute):
            if type(message) is Bar:
                assert due_ns == market.open_ns + (minute + 1) * MINUTE_NS
            elif type(message) is UpdatedBar:
                updates += 1
                after_ns = due_ns - market.open_ns - (minute + 1) * MINUTE_NS
                assert after_ns in (30 * SECOND_NS, 90 * SECOND_NS)
            else:
                continue
            assert message.timestamp == market.open_ns + minute * MINUTE_NS
            values = tuple(getattr(message, name) for name in Bar.__struct_fields__)
            assert told.get(minute) != values
            told[minute] = values
    assert updates > 5


def test_a_minute_is_what_goes_out_in_it():
    """Minute by minute, all events go out once, and the bar is last."""
    market = amended()
    whole = [due for minute in range(5) for due in market.events("IBM", minute)]
    whole = [each for due_ns, each in sorted(whole, key=lambda due: due[0])]
    sent = [market.minute("IBM", minute) for minute in range(5)]
    assert all(type(messages[-1]) is Bar for messages in sent)
    assert [each for messages in sent for each in messages] == whole[: sum(map(len, sent))]


def test_nothing_comes_after_the_close():
    """What would be amended too late in the day is not amended."""
    market = amended(0.5)
    close_ns = market.open_ns + SESSION_MINUTES * MINUTE_NS
    for minute in range(SESSION_MINUTES - 4, SESSION_MINUTES):
        events = market.events("AAPL", minute)
        assert events
        assert max(due_ns for due_ns, _ in events) <= close_ns


def test_the_daily_bar_knows_what_is_amended_by_then():
    """At each minute the bar of the day is that of the trades which stand at that moment."""
    step_by_step = amended(0.3)
    sent: list[Message[int]] = []
    for minute in range(8):
        sent += step_by_step.minute("IBM", minute)
        builder = CandleBuilder()
        for trade in standing_trades(sent):
            builder.add(trade)
        expected, told = builder.daily_bar("IBM"), step_by_step.daily_bar("IBM", minute)
        assert isinstance(told, DailyBar)
        assert expected is not None
        assert told.vwap == pytest.approx(expected.vwap, abs=1e-5)
        expected.vwap = told.vwap
        assert told == expected
    assert amended(0.3).daily_bar("IBM", 5) == step_by_step.daily_bar("IBM", 5)


@pytest.mark.parametrize("share", [-0.1, 1.1, "many", True, float("nan")])
def test_a_bad_share_is_explained(share):
    """What is no share is refused in one sentence."""
    with pytest.raises(BadInputError, match="from 0 to 1"):
        SyntheticMarket(amendments=share)


# -- the tape ----------------------------------------------------------------------------


def play(tape: Any, until: int, step: int = 7 * SECOND_NS) -> list[Message[int]]:
    sent: list[Message[int]] = []
    position = 0
    while position < until:
        stop = min(position + step, until)
        sent += tape.between("iex", ALL, position, stop)
        position = stop
    return sent


def told_bars(sent: list[Message[int]]) -> dict[tuple[str, int], tuple[Any, ...]]:
    """The last version of each bar that was sent."""
    return {
        (bar.symbol, bar.timestamp): tuple(getattr(bar, name) for name in Bar.__struct_fields__)
        for bar in sent
        if isinstance(bar, Bar) and type(bar) is not DailyBar
    }


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seconds", [0, 30, 60, 95, 150.5, 300])
def test_the_truth_is_what_the_messages_say(share, seconds):
    """At any position, whoever applies all that was sent has what `truth` gives."""
    position = round(seconds * SECOND_NS)
    tape = SyntheticTape(amendments=share, minutes=3)
    sent = play(tape, position)
    quotes = sorted(of(Quote, sent), key=lambda quote: (quote.symbol, quote.timestamp))
    assert tape.truth("iex", "quotes", SYMBOLS, position) == quotes
    trades = sorted(standing_trades(sent), key=lambda trade: trade.symbol)
    assert tape.truth("iex", "trades", SYMBOLS, position) == trades
    bars = tape.truth("iex", "bars", SYMBOLS, position)
    assert told_bars(sent) == told_bars(bars)
    assert [(bar.symbol, bar.timestamp) for bar in bars] == sorted(told_bars(sent))


@pytest.mark.parametrize("seed", range(5))
def test_in_the_end_the_bars_are_those_of_the_trades(seed):
    """When all is said, bars with their updates and trades with theirs tell the same story."""
    tape = SyntheticTape(seed, amendments=0.3, minutes=4)
    end = 10 * MINUTE_NS
    for symbol in SYMBOLS:
        trades = tape.truth("iex", "trades", symbol, end)
        assert tape.truth("iex", "bars", symbol, end) == bars_of(trades)  # type: ignore[arg-type]


def test_truth_of_what_is_cancelled_and_corrected():
    """Cancelled trades are out, corrected ones are in as they should have been."""
    tape = SyntheticTape(amendments=0.2, minutes=1)
    sent = play(tape, 5 * MINUTE_NS)
    truth = {trade.trade_id: trade for trade in tape.truth("iex", "trades", "AAPL", 5 * MINUTE_NS)}  # type: ignore[attr-defined]
    assert all(type(trade) is Trade for trade in truth.values())
    for message in sent:
        if message.symbol != "AAPL":
            continue
        if type(message) is CancelError:
            assert message.trade_id not in truth
        elif type(message) is Correction:
            assert message.original_trade_id not in truth
            corrected = truth[message.corrected_trade_id]
            assert (corrected.price, corrected.size) == (
                *(message.corrected_price, message.corrected_size),
            )


def test_cutting_the_amended_tape_elsewhere_changes_nothing():
    """However it is stepped through, the messages and their order are the same."""
    options: dict[str, Any] = {"amendments": 0.3, "minutes": 2}
    whole = SyntheticTape(**options).between("iex", ALL, 0, 5 * MINUTE_NS)
    assert play(SyntheticTape(**options), 5 * MINUTE_NS, step=999_999_937) == whole
    assert any(type(message) is UpdatedBar for message in whole)


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 120), (0.1, 210)])
def test_a_bounded_tape_ends_when_all_is_said(share, seconds):
    """After its minutes come their last bar and amendments; then there is nothing more."""
    tape = SyntheticTape(amendments=share, minutes=2)
    position, steps = 0, 0
    sent = []
    while (stop := tape.next_stop(position)) is not None:
        sent += tape.between("iex", ALL, position, stop)
        position, steps = stop, steps + 1
    assert (position, steps) == (seconds * SECOND_NS, seconds)
    assert tape.between("iex", ALL, position, position + MINUTE_NS) == []
    kinds = Counter(type(message).__name__ for message in sent if message.symbol == "AAPL")
    assert kinds["Bar"] == 2
    assert (kinds["UpdatedBar"] > 0) == (share > 0)
    assert max(each.timestamp for each in of(Quote, sent)) < tape.time_ns(2 * MINUTE_NS)
    assert sent[-1:] == tape.between("iex", ALL, 0, position)[-1:]


def test_a_bounded_tape_may_cross_the_night():
    """Minutes are counted over the days; the last day may be cut short."""
    tape = SyntheticTape(minutes=SESSION_MINUTES + 1)
    end = (SESSION_MINUTES + 1) * MINUTE_NS
    assert tape.next_stop(end - 1) == end
    assert tape.next_stop(end) is None
    wanted = {"bars": frozenset({"AAPL"})}
    bars = of(Bar, tape.between("iex", wanted, end - 2 * MINUTE_NS, end + MINUTE_NS))
    assert [bar.timestamp for bar in bars] == [
        SyntheticMarket().open_ns + (SESSION_MINUTES - 1) * MINUTE_NS,
        SyntheticMarket().day(1).open_ns,
    ]


def test_the_time_on_the_tape():
    """It starts at the open, leaves the nights out, and stops where the tape ends."""
    market, hour = SyntheticMarket(), 3600 * SECOND_NS
    tape = SyntheticTape()
    assert tape.time_ns(0) == market.open_ns
    assert tape.time_ns(hour) == market.open_ns + hour
    close = SESSION_MINUTES * MINUTE_NS
    assert tape.time_ns(close) == market.open_ns + close
    assert tape.time_ns(close + 1) == market.day(1).open_ns + 1
    assert SyntheticTape(minutes=1).time_ns(hour) == market.open_ns + MINUTE_NS


@pytest.mark.parametrize("minutes", [0, -1, 1.5, True, "2"])
def test_a_bad_number_of_minutes_is_explained(minutes):
    """What is no number of minutes is refused in one sentence."""
    with pytest.raises(BadInputError, match="number of minutes"):
        SyntheticTape(minutes=minutes)


def test_the_test_feed_has_only_its_symbol_in_history_too():
    """What the feed `test` does not carry has no history there."""
    tape = SyntheticTape()
    assert tape.truth("test", "quotes", "AAPL", MINUTE_NS) == []
    assert tape.truth("test", "quotes", "FAKEPACA", MINUTE_NS)
    assert tape.latest("test", "quotes", "AAPL", MINUTE_NS) is None


def test_reading_the_past_does_not_disturb_the_play():
    """A history that is asked for in the middle gives the same, and leaves the same to play."""
    tape = SyntheticTape(amendments=0.2)
    sent = play(tape, MINUTE_NS)
    for start_ns in (0, tape.time_ns(30 * SECOND_NS)):
        pieces = tape.history(
            *("iex", "quotes", "IBM"),
            start_ns=start_ns,
            end_ns=tape.time_ns(MINUTE_NS),
            position=MINUTE_NS,
        )
        found = [message for piece in pieces for message in piece]
        assert found == [
            each for each in of(Quote, sent) if each.symbol == "IBM" and each.timestamp >= start_ns
        ]
    sent += tape.between("iex", ALL, MINUTE_NS, 2 * MINUTE_NS)
    assert sent == SyntheticTape(amendments=0.2).between("iex", ALL, 0, 2 * MINUTE_NS)


# -- recordings --------------------------------------------------------------------------


def test_a_recording_has_the_truth_of_what_was_recorded(tmp_path):
    """Amendments in a file are applied as those of the market are."""
    market = SyntheticTape(amendments=0.3, minutes=2)
    sent = play(market, 5 * MINUTE_NS)
    path = tmp_path / "tape.jsonl"
    path.write_bytes(b"\n".join(JSON.encode([message]) for message in sent))
    tape = RecordedTape(path)
    position = 0
    while (stop := tape.next_stop(position)) is not None:
        position = stop
    for channel in ("quotes", "trades", "bars"):
        assert tape.truth("iex", channel, SYMBOLS, position) == market.truth(
            *("iex", channel, SYMBOLS), 5 * MINUTE_NS
        )


def test_the_truth_of_a_recording_grows_as_it_is_played(tmp_path):
    """What comes later in the file is not known before; time follows the file."""
    path = tmp_path / "tape.jsonl"
    trade = '{"T":"t","S":"A","i":%d,"x":"V","p":1,"s":1,"z":"C","t":"2026-09-21T14:13:%02dZ"}'
    cancel = '{"T":"x","S":"A","i":1,"x":"V","p":1,"s":1,"a":"C","t":"2026-09-21T14:13:03Z"}'
    path.write_text("\n".join([trade % (1, 0), trade % (2, 1), cancel, trade % (3, 1)]))
    tape = RecordedTape(path)
    start_ns = tape.time_ns(0)

    def ids(seconds: float) -> list[int]:
        trades = tape.truth("iex", "trades", "A", round(seconds * SECOND_NS) + 1)
        return [trade.trade_id for trade in trades]  # type: ignore[attr-defined]

    assert [ids(seconds) for seconds in (-1, 0, 1, 2.9, 3)] == [[], [1], [1, 2], [1, 2], [2, 3]]
    assert tape.time_ns(2 * SECOND_NS + 1) == start_ns + 2 * SECOND_NS
    assert tape.time_ns(9 * SECOND_NS + 1) == start_ns + 9 * SECOND_NS
