"""The records of what one consumer lost."""

from __future__ import annotations

from dataclasses import replace

from alpaca_nb.data.gaps import Gap
from alpaca_nb.feed.seams import Seams

SECOND = 1_000_000_000


class Book:
    """Keeps the newest record of each loss."""

    def __init__(self) -> None:
        self.gaps: dict[int, Gap] = {}
        self.seams = Seams("quotes", self.put)

    def put(self, gaps: list[Gap]) -> None:
        self.gaps.update({gap.number: gap for gap in gaps})

    @property
    def only(self) -> Gap:
        (gap,) = self.gaps.values()
        return gap


def an_hour_later(local_ns: int) -> int:
    return local_ns + 3600 * SECOND


def unknown(local_ns: int) -> None:
    return None


def nothing(symbol: str) -> None:
    return None


def test_a_loss_begins_with_the_last_message_and_ends_with_the_confirmation() -> None:
    """Its times are those of the exchange, beside them stand those of this machine."""
    book = Book()
    book.seams.confirm(["AAPL"], now_ns=100, exchange_at=an_hour_later)
    last_ns = an_hour_later(150)
    book.seams.lose("Cut.", last_ns=lambda _: last_ns, now_ns=200, exchange_at=an_hour_later)
    assert (book.only.start_ns, book.only.end_ns, book.only.state) == (last_ns, None, "open")
    (over,) = book.seams.confirm(["AAPL"], now_ns=300, exchange_at=an_hour_later)
    assert over == book.only
    assert (over.end_ns, over.state, over.reason) == (an_hour_later(300), "repairing", "Cut.")
    assert (over.lost_ns, over.back_ns) == (200, 300)
    assert book.seams.unsettled == [over]
    book.seams.note([replace(over, state="repaired", rows=3)])
    assert book.seams.unsettled == []
    assert book.only.rows == 3


def test_what_never_began_was_not_lost() -> None:
    """A symbol that the server was never asked for has no loss."""
    book = Book()
    book.seams.lose("Cut.", last_ns=nothing, now_ns=200, exchange_at=an_hour_later)
    assert book.gaps == {}


def test_what_was_asked_for_and_never_came_is_lost() -> None:
    """From the moment the server is asked, what it does not send is missing."""
    book = Book()
    book.seams.ask(["AAPL"], now_ns=100)
    book.seams.lose("Cut.", last_ns=nothing, now_ns=200, exchange_at=an_hour_later)
    assert book.only.start_ns == an_hour_later(100)


def test_what_is_refused_is_not_owed() -> None:
    """A refusal ends a loss for good, and nothing more is lost of that symbol."""
    book = Book()
    book.seams.ask(["AAPL", "MSFT"], now_ns=100)
    book.seams.lose("Cut.", last_ns=nothing, now_ns=200, exchange_at=an_hour_later)
    book.seams.refuse(["AAPL"], "No place.", now_ns=300, exchange_at=an_hour_later)
    states = {gap.symbol: (gap.state, gap.detail) for gap in book.gaps.values()}
    assert states == {"AAPL": ("missed", "No place."), "MSFT": ("open", "")}
    book.seams.lose("Cut.", last_ns=nothing, now_ns=400, exchange_at=an_hour_later)
    assert len(book.gaps) == 2


def test_a_loss_that_lasts_goes_on() -> None:
    """Failed attempts in between belong to the same loss."""
    book = Book()
    book.seams.confirm(["AAPL"], now_ns=100, exchange_at=an_hour_later)
    for now_ns in (200, 210):
        book.seams.lose("Cut.", last_ns=nothing, now_ns=now_ns, exchange_at=an_hour_later)
    assert book.only.lost_ns == 200


def test_two_losses_in_turn_are_two_records() -> None:
    """The second begins where the first has ended, even if nothing came in between."""
    book = Book()
    for start in (100, 300):
        book.seams.confirm(["AAPL"], now_ns=start, exchange_at=an_hour_later)
        book.seams.lose("Cut.", last_ns=nothing, now_ns=start + 100, exchange_at=an_hour_later)
    first, second = book.gaps.values()
    assert first.end_ns == second.start_ns == an_hour_later(300)


def test_on_a_tape_the_times_are_found_when_something_has_come() -> None:
    """Before a tape has told its time, the bounds of a loss are unknown, and then they are not."""
    book = Book()
    book.seams.confirm(["AAPL"], now_ns=100, exchange_at=unknown)
    book.seams.lose("Cut.", last_ns=nothing, now_ns=200, exchange_at=unknown)
    (over,) = book.seams.confirm(["AAPL"], now_ns=300, exchange_at=unknown)
    assert book.seams.bounds(over, unknown) is None
    assert book.seams.bounds(over, an_hour_later) == (an_hour_later(100), an_hour_later(300))


def test_leaving_ends_a_loss() -> None:
    """What is not wanted any more is still owed up to that moment."""
    book = Book()
    book.seams.confirm(["AAPL", "MSFT"], now_ns=100, exchange_at=an_hour_later)
    book.seams.lose("Cut.", last_ns=nothing, now_ns=200, exchange_at=an_hour_later)
    (over,) = book.seams.leave(["AAPL"], now_ns=250, exchange_at=an_hour_later)
    assert (over.symbol, over.end_ns) == ("AAPL", an_hour_later(250))
    assert list(book.seams.open) == ["MSFT"]


def test_all_symbols_are_those_that_occurred() -> None:
    """Whoever wants all symbols loses each that has come, and the star itself."""
    book = Book()
    book.seams.confirm(["*"], now_ns=100, exchange_at=an_hour_later)
    book.seams.seen(["AAPL", "MSFT"])
    book.seams.lose("Cut.", last_ns=nothing, now_ns=200, exchange_at=an_hour_later)
    assert set(book.seams.open) == {"*", "AAPL", "MSFT"}


def test_nothing_is_owed_from_before_the_first_confirmation() -> None:
    """History from before a symbol was wanted belongs to nobody."""
    book = Book()
    book.seams.confirm(["AAPL"], now_ns=100, exchange_at=an_hour_later)
    book.seams.lose("Cut.", last_ns=nothing, now_ns=200, exchange_at=an_hour_later)
    book.seams.confirm(["AAPL"], now_ns=300, exchange_at=an_hour_later)
    assert book.seams.owed_from("AAPL", an_hour_later) == an_hour_later(100)
    assert book.seams.owed_from("MSFT", an_hour_later) == 0
