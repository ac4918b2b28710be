"""The wanted set and the server's, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from alpaca_nb.errors import SubscriptionError, UnknownChannelError, server_error
from alpaca_nb.wire.messages import CHANNELS
from alpaca_nb.wire.subscriptions import (
    SYMBOLS_PER_REQUEST,
    DesiredSubscriptions,
    SubscriptionsChanged,
    SubscriptionsRefused,
)

State = dict[str, set[str]]
Judge = Callable[[State], int | None]


class Server:
    """A server that is asked, and refuses as a whole the requests that `judge` gives a code for."""

    def __init__(self, desired: DesiredSubscriptions, judge: Judge = lambda state: None) -> None:
        self.desired = desired
        self.judge = judge
        self.state: State = {name: set() for name in CHANNELS}
        self.requests: list[tuple[str, dict[str, list[str]]]] = []
        self.events: list[Any] = []

    def serve(self) -> None:
        """Answer until there is nothing more to ask."""
        while self.answer():
            pass

    def answer(self) -> bool:
        """Take one request and answer it."""
        change = self.desired.in_flight or self.desired.next_change()
        if change is None:
            return False
        assert 0 < sum(map(len, change.symbols.values())) <= SYMBOLS_PER_REQUEST
        self.requests.append((change.action, change.symbols))
        state = {name: set(symbols) for name, symbols in self.state.items()}
        for name, symbols in change.symbols.items():
            if change.action == "subscribe":
                state[name].update(symbols)
            else:
                state[name].difference_update(symbols)
        code = self.judge(state) if change.action == "subscribe" else None
        if code is not None:
            self.refuse(code)
        else:
            self.state = state
            self.acknowledge(state)
        return True

    def refuse(self, code: int) -> None:
        self.events += self.desired.refuse(server_error(code, "text")) or []

    def acknowledge(self, state: Mapping[str, Any]) -> None:
        self.events += self.desired.acknowledge(state)

    @property
    def refusals(self) -> list[SubscriptionsRefused]:
        return [event for event in self.events if isinstance(event, SubscriptionsRefused)]


def names(count: int, prefix: str = "S") -> list[str]:
    return [f"{prefix}{i:04}" for i in range(count)]


def pairs_allowed(limit: int) -> Judge:
    """A plan that counts pairs of trades and quotes; bars are free."""

    def judge(state: State) -> int | None:
        return 405 if len(state["trades"]) + len(state["quotes"]) > limit else None

    return judge


def symbols_allowed(limit: int) -> Judge:
    """A plan that counts symbols, whatever the number of their channels."""

    def judge(state: State) -> int | None:
        return 405 if len(set().union(*state.values())) > limit else None

    return judge


def is_exact(desired: DesiredSubscriptions) -> bool:
    """Whether each wanted pair is confirmed or refused, never both, and nothing else is."""
    wanted = {(name, each) for name, symbols in desired.wanted.items() for each in symbols}
    confirmed = {(name, each) for name, symbols in desired.confirmed.items() for each in symbols}
    return (
        desired.settled
        and confirmed | set(desired.refused) == wanted
        and not confirmed & set(desired.refused)
    )


# -- what does not fit --------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 49, 50, 98, 99])
def test_one_bad_symbol_costs_its_neighbours_nothing(position: int) -> None:
    """Of a refused request exactly the bad symbol is refused, in one event and few requests."""
    desired = DesiredSubscriptions()
    symbols = names(100)
    bad = symbols[position]
    server = Server(desired, lambda state: 400 if bad in state["quotes"] else None)
    desired.want("quotes", symbols)
    server.serve()
    assert is_exact(desired)
    assert set(desired.refused) == {("quotes", bad)}
    (refusal,) = server.refusals
    assert refusal.refused == {"quotes": frozenset([bad])}
    assert refusal.error.code == 400
    assert len(server.requests) < 16


def test_a_refused_request_is_told_once() -> None:
    """However many of a request do not fit, there is one event, after the last of its parts."""
    desired = DesiredSubscriptions()
    bad = {"S0003", "S0050", "S0099"}
    server = Server(desired, lambda state: 400 if bad & state["quotes"] else None)
    desired.want("quotes", names(100))
    server.serve()
    assert [refusal.refused for refusal in server.refusals] == [{"quotes": bad}]
    assert is_exact(desired)


def test_a_star_without_a_place_says_nothing_about_names() -> None:
    """A plan that refuses "*" with 405 has places for names, and one without those is asked."""
    desired = DesiredSubscriptions()
    server = Server(desired, lambda state: 405 if "*" in state["quotes"] else None)
    desired.want("quotes", ["*", "A", "B"])
    server.serve()
    assert desired.confirmed == {"quotes": frozenset("AB")}
    assert is_exact(desired)

    desired = DesiredSubscriptions()
    server = Server(desired, lambda state: 405 if state["quotes"] - {"*"} else None)
    desired.want("quotes", ["A", "B", "C", "*"])
    server.serve()
    assert desired.confirmed == {"quotes": frozenset("*")}
    assert is_exact(desired)


def test_a_channel_the_feed_lacks_is_refused_at_once() -> None:
    """410 refuses a channel as a whole and leaves the others of the same request."""
    desired = DesiredSubscriptions()
    server = Server(desired, lambda state: 410 if state["bars"] else None)
    desired.want("quotes", names(40))
    desired.want("bars", names(2000))
    server.serve()
    assert is_exact(desired)
    assert {name for name, _ in desired.refused} == {"bars"}
    assert len(desired.refused) == 2000
    assert len(server.requests) == 3
    assert len(server.refusals) == 1


def test_a_star_that_is_not_allowed_leaves_the_names() -> None:
    """413 concerns "*" alone."""
    desired = DesiredSubscriptions()
    server = Server(desired, lambda state: 413 if "*" in state["quotes"] else None)
    desired.want("quotes", ["A", "*", "B"])
    desired.want("trades", ["*"])
    server.serve()
    assert is_exact(desired)
    assert set(desired.refused) == {("quotes", "*")}
    assert desired.confirmed == {"quotes": frozenset("AB"), "trades": frozenset("*")}


@pytest.mark.parametrize("limit", [0, 1, 29, 30, 99, 100, 101])
def test_five_thousand_symbols_on_a_small_plan(limit: int) -> None:
    """The first that were wanted get the places; the rest is refused without asking for each."""
    desired = DesiredSubscriptions()
    server = Server(desired, pairs_allowed(limit))
    symbols = names(5000)
    for symbol in symbols:
        desired.want("quotes", [symbol])
    desired.want("bars", names(10))
    server.serve()
    assert is_exact(desired)
    assert desired.confirmed.get("quotes", frozenset()) == set(symbols[:limit])
    assert desired.confirmed["bars"] == set(names(10))
    assert len(desired.refused) == 5000 - limit
    assert all(isinstance(error, SubscriptionError) for error in desired.refused.values())
    assert len(server.requests) < 30
    assert len(server.refusals) == 1


def test_a_plan_that_counts_symbols() -> None:
    """Where a further channel of a symbol needs no place, it is found out."""
    desired = DesiredSubscriptions()
    server = Server(desired, symbols_allowed(30))
    desired.want("trades", names(200))
    desired.want("quotes", reversed(names(200)))
    server.serve()
    assert is_exact(desired)
    assert desired.confirmed == {"trades": set(names(30)), "quotes": set(names(30))}
    assert len(server.requests) < 40


def test_free_channels_do_not_make_each_symbol_a_question() -> None:
    """Symbols that come on a channel that needs no place are known to be alike."""
    desired = DesiredSubscriptions()
    server = Server(desired, pairs_allowed(30))
    desired.want("bars", names(3000))
    desired.want("quotes", names(3000))
    server.serve()
    assert is_exact(desired)
    assert len(desired.confirmed["quotes"]) == 30
    assert len(server.requests) < 80


def test_places_that_were_given_up_are_taken() -> None:
    """Whoever found no place is asked for again after an unsubscribe, and is refused until then."""
    desired = DesiredSubscriptions()
    server = Server(desired, pairs_allowed(30))
    symbols = names(1000)
    desired.want("quotes", symbols)
    server.serve()
    server.events.clear()
    server.requests.clear()
    assert desired.state("quotes", symbols[30]) == "refused"
    desired.unwant("quotes", symbols[:3])
    assert desired.state("quotes", symbols[30]) == "refused"
    server.serve()
    assert is_exact(desired)
    assert desired.confirmed["quotes"] == set(symbols[3:33])
    assert desired.state("quotes", symbols[30]) == "confirmed"
    assert len(server.requests) < 10
    assert server.refusals == [], "nothing is refused that was not refused before"


def test_what_is_no_longer_wanted_gets_no_place() -> None:
    """A refused symbol that was given up is forgotten."""
    desired = DesiredSubscriptions()
    server = Server(desired, pairs_allowed(1))
    desired.want("quotes", ["A", "B", "C"])
    server.serve()
    desired.unwant("quotes", ["B"])
    assert set(desired.refused) == {("quotes", "C")}
    desired.unwant("quotes", ["A"])
    server.serve()
    assert desired.confirmed == {"quotes": frozenset("C")}
    assert is_exact(desired)


def test_wanting_again_asks_again() -> None:
    """A refusal holds until somebody wants the symbol anew."""
    desired = DesiredSubscriptions()
    server = Server(desired, pairs_allowed(0))
    desired.want("quotes", ["A"])
    server.serve()
    server.judge = pairs_allowed(1)
    server.serve()
    assert desired.state("quotes", "A") == "refused"
    desired.want("quotes", ["A"])
    assert desired.state("quotes", "A") == "pending"
    server.serve()
    assert desired.state("quotes", "A") == "confirmed"


def test_a_new_connection_asks_once_more_for_what_was_refused() -> None:
    """After a reconnect the refused come last, and a plan that has grown is used."""
    desired = DesiredSubscriptions()
    server = Server(desired, pairs_allowed(2))
    desired.want("quotes", names(5))
    server.serve()
    desired.restart()
    assert desired.state("quotes", "S0000") == "pending"
    assert desired.state("quotes", "S0004") == "refused"
    assert not desired.settled
    server = Server(desired, pairs_allowed(4))
    server.serve()
    assert server.requests[0] == ("subscribe", {"quotes": names(2)})
    assert is_exact(desired)
    assert desired.confirmed["quotes"] == set(names(4))
    assert server.refusals == []


def test_different_reasons_are_told_apart() -> None:
    """One event for each reason, when the last part has been answered."""
    desired = DesiredSubscriptions()

    def judge(state: State) -> int | None:
        return 400 if "BAD" in state["quotes"] else 410 if state["bars"] else None

    server = Server(desired, judge)
    desired.want("quotes", ["A", "BAD"])
    desired.want("bars", ["A"])
    server.serve()
    assert {refusal.error.code: refusal.refused for refusal in server.refusals} == {
        400: {"quotes": frozenset(["BAD"])},
        410: {"bars": frozenset("A")},
    }
    assert isinstance(server.events[-1], SubscriptionsRefused)
    assert is_exact(desired)


def test_changes_of_mind_while_a_refusal_is_looked_into() -> None:
    """What is given up in the meantime is not asked for, and places are given up first."""
    desired = DesiredSubscriptions()
    server = Server(desired, lambda state: 400 if "S0001" in state["quotes"] else None)
    desired.want("trades", ["T"])
    server.serve()
    desired.want("quotes", names(8))
    server.answer()
    server.answer()
    desired.unwant("quotes", ["S0000", "S0001", "S0002", "S0003"])
    desired.unwant("trades", ["T"])
    server.requests.clear()
    server.serve()
    assert server.requests == [
        ("unsubscribe", {"trades": ["T"]}),
        ("subscribe", {"quotes": names(8)[4:]}),
    ]
    assert is_exact(desired)
    assert server.refusals == []


def test_a_refused_unsubscribe_is_looked_into_as_well() -> None:
    """What cannot be given up stays confirmed, is reported once, and is not asked for again."""
    desired = DesiredSubscriptions()
    server = Server(desired)
    desired.want("quotes", ["A", "B", "C"])
    server.serve()
    desired.unwant("quotes", ["A", "B"])
    change = desired.next_change()
    assert change is not None
    server.refuse(400)
    while (change := desired.next_change()) is not None:
        assert change.action == "unsubscribe"
        if "A" in change.symbols["quotes"]:
            server.refuse(400)
        else:
            server.state["quotes"].remove("B")
            server.acknowledge(server.state)
    (refusal,) = server.refusals
    assert refusal.action == "unsubscribe"
    assert refusal.refused == {"quotes": frozenset("A")}
    assert desired.confirmed == {"quotes": frozenset("AC")}
    assert desired.settled
    desired.want("quotes", ["A"])
    assert desired.state("quotes", "A") == "confirmed"
    assert desired.next_change() is None


# -- what an answer says ------------------------------------------------------------------


def test_changes_are_told_against_the_same_connection() -> None:
    """An acknowledgement says what came and what went since the last one."""
    desired = DesiredSubscriptions()
    server = Server(desired)
    desired.want("trades", ["A", "B"])
    desired.next_change()
    server.acknowledge({"trades": ["A", "B"], "corrections": ["A", "B"]})
    both = frozenset("AB")
    everything = {"trades": both, "corrections": both}
    assert server.events == [SubscriptionsChanged(everything, everything, {})]
    server.acknowledge({"trades": ["A"], "corrections": ["A", "B"]})
    assert server.events[1] == SubscriptionsChanged(
        {"trades": frozenset("A"), "corrections": both}, {}, {"trades": frozenset("B")}
    )
    desired.restart()
    server.acknowledge({"trades": ["A"]})
    only = {"trades": frozenset("A")}
    assert server.events[2] == SubscriptionsChanged(only, only, {})


def test_a_skipped_answer_is_reported_but_not_confirmed() -> None:
    """What is assumed counts as sent; the server has still said nothing."""
    desired = DesiredSubscriptions()
    assert desired.skip() == []
    desired.want("quotes", ["A"])
    desired.next_change()
    added = {"quotes": frozenset("A")}
    assert desired.skip() == [SubscriptionsChanged(added, added, {})]
    assert desired.is_sent("quotes", frozenset("A"))
    assert desired.state("quotes", "A") == "pending"
    assert desired.confirmed == {}
    assert desired.settled
    desired.unwant("quotes", ["A"])
    desired.next_change()
    assert desired.skip() == [SubscriptionsChanged({}, {}, added)]
    assert not desired.is_sent("quotes", frozenset("A"))


def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    """An acknowledgement that came after it was skipped refuses nothing of the next request."""
    desired = DesiredSubscriptions()
    server = Server(desired)
    desired.want("quotes", ["A"])
    desired.next_change()
    desired.skip()
    desired.want("quotes", ["B"])
    change = desired.next_change()
    server.acknowledge({"quotes": ["A"]})
    assert desired.in_flight is change
    assert desired.refused == {}
    assert desired.state("quotes", "A") == "confirmed"
    server.acknowledge({"quotes": ["A", "B"]})
    assert desired.settled
    assert desired.state("quotes", "B") == "confirmed"


def test_a_late_refusal_takes_back_what_was_assumed() -> None:
    """An error for the skipped request makes its symbols refused, and says that they went."""
    desired = DesiredSubscriptions()
    server = Server(desired)
    desired.want("quotes", ["A"])
    desired.next_change()
    desired.skip()
    server.refuse(405)
    gone = {"quotes": frozenset("A")}
    assert server.events[0] == SubscriptionsChanged({}, {}, gone)
    assert server.refusals[0].refused == gone
    assert desired.state("quotes", "A") == "refused"
    assert desired.refuse(server_error(405, "text")) is None


def test_what_comes_undone_is_not_asked_for_for_ever() -> None:
    """A server whose acknowledgements lose a symbol again and again is left alone."""
    desired = DesiredSubscriptions()
    server = Server(desired)
    desired.want("quotes", ["A"])
    asked = 0
    for _ in range(10):
        if desired.next_change() is None:
            break
        asked += 1
        server.acknowledge({"quotes": ["A"]})
        server.acknowledge({})
    assert asked == 2
    assert desired.settled
    assert desired.refused["quotes", "A"].message == "left out of the acknowledgement"
    server.acknowledge({"quotes": ["A"]})
    assert desired.refused == {}
    assert desired.state("quotes", "A") == "confirmed"


def test_what_one_connection_left_out_is_asked_for_on_the_next() -> None:
    """An acknowledgement without the symbol is no refusal that outlives the connection."""
    desired = DesiredSubscriptions()
    server = Server(desired)
    desired.want("quotes", ["A", "B"])
    desired.next_change()
    server.acknowledge({"quotes": ["B"]})
    assert desired.state("quotes", "A") == "refused"
    desired.restart()
    assert desired.state("quotes", "A") == "pending"
    Server(desired, pairs_allowed(1)).serve()
    assert desired.state("quotes", "A") == "confirmed"
    assert desired.refused["quotes", "B"].code == 405


def test_a_change_of_mind_is_no_broken_promise() -> None:
    """A symbol that went because it was given up, and is wanted again, starts afresh."""
    desired = DesiredSubscriptions()
    server = Server(desired)
    desired.want("quotes", ["A"])
    server.serve()
    desired.unwant("quotes", ["A"])
    desired.next_change()
    desired.want("quotes", ["A"])
    server.serve()
    assert desired.state("quotes", "A") == "confirmed"
    server.acknowledge({})
    server.serve()
    assert desired.state("quotes", "A") == "confirmed"


def test_what_nobody_wants_is_not_given_up_for_ever() -> None:
    """A server that keeps adding what was given up is left alone after a while."""
    desired = DesiredSubscriptions()
    server = Server(desired)
    server.acknowledge({"quotes": ["X"]})
    asked = 0
    for _ in range(10):
        if desired.next_change() is None:
            break
        asked += 1
        server.acknowledge({})
        server.acknowledge({"quotes": ["X"]})
    assert asked == 2
    assert desired.settled


def test_automatic_channels_are_never_asked_for() -> None:
    """Corrections and cancellations come along with trades and are left as they are."""
    desired = DesiredSubscriptions()
    server = Server(desired)
    desired.want("corrections", ["A"])
    server.acknowledge({"cancel_errors": ["B"]})
    assert desired.next_change() is None
    assert desired.settled
    with pytest.raises(UnknownChannelError):
        desired.want("nonsense", ["A"])


def test_a_set_is_asked_for_in_order() -> None:
    """Which of a set's symbols get the last places is the same in every run."""
    desired = DesiredSubscriptions()
    server = Server(desired, pairs_allowed(3))
    desired.want("quotes", frozenset(names(50)))
    server.serve()
    assert desired.confirmed["quotes"] == set(names(3))
