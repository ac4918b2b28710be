"""Which subscriptions are wanted, and what to ask for so that the server's set follows.

`DesiredSubscriptions` compares three things about each (channel, symbol): whether it is
wanted, whether the server says that it sends it, and whether it was refused. It says which
change to ask for next, and learns from the answers. It knows no codec and no connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from alpaca_nb.errors import ServerError, SubscriptionError
from alpaca_nb.wire.messages import CHANNELS, find_channel

SYMBOLS_PER_REQUEST = 100
"""Servers close with 1009 when one subscribe message is too large; the exact limit is unknown."""

_ASKS = 2
"""How often the same thing is asked for on one connection although it was acknowledged and
came undone: a server that acknowledges only the latest change must not make us loop."""

Subscriptions = dict[str, frozenset[str]]
"""Symbols by channel name."""

SubscriptionState = Literal["pending", "confirmed", "refused"]
"""What the server has said to the wish for a symbol; pending while it has said nothing."""

Action = Literal["subscribe", "unsubscribe"]

_Pair = tuple[str, str]
_Names = dict[str, list[str]]

_EMPTY: frozenset[str] = frozenset()
_ASKABLE = tuple(name for name, channel in CHANNELS.items() if not channel.automatic)

_NO_PLACE = 405
_NO_CHANNEL = 410
_NO_STAR = 413


@dataclass(frozen=True, slots=True)
class Change:
    """What one request asks for: at most a hundred symbols, by channel."""

    action: Action
    symbols: _Names


@dataclass(frozen=True, slots=True)
class SubscriptionsChanged:
    """The server's complete set of subscriptions after an answer.

    `added` and `removed` are the difference to what this event said last on the same
    connection. Automatic channels are included in all three.
    """

    confirmed: Subscriptions
    added: Subscriptions = field(default_factory=dict)
    removed: Subscriptions = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubscriptionsRefused:
    """The server refused these, each asked for on its own or known to be like one that was.

    They will not come, or, where `action` is "unsubscribe", they will not go.
    """

    refused: Subscriptions
    error: ServerError
    action: Action = "subscribe"


SubscriptionEvent = SubscriptionsChanged | SubscriptionsRefused


class DesiredSubscriptions:
    """The wanted set, the server's, and the way from one to the other.

    One change is in flight at a time, because errors name no request and acknowledgements
    hold the full state. Places are given up before new ones are taken, because the plan
    may limit their number. A refused request is asked for again in parts, until it is known
    which symbols do not fit; those that find no place (405) are tried again whenever some
    were given up. Wanting and unwanting one symbol costs the same whatever the number of
    the others.
    """

    def __init__(self) -> None:
        self.refused: dict[_Pair, ServerError] = {}
        """Why a wanted (channel, symbol) will not come."""
        self._counts: dict[str, dict[str, int]] = {name: {} for name in CHANNELS}
        self.restart()

    def restart(self) -> None:
        """Begin a new connection, on which nothing is subscribed; what is wanted stays wanted.

        What was refused is asked for once more, after everything else.
        """
        # That one server did not mention it says nothing about the next one.
        self.refused = {
            pair: error for pair, error in self.refused.items() if error is not _LEFT_OUT
        }
        self.in_flight: Change | None = None
        """The change that waits for its answer; another object for each request."""
        self._sent: Subscriptions = dict.fromkeys(CHANNELS, _EMPTY)
        self._assumed: Subscriptions = {}
        self._asked: dict[_Pair, int] = {}
        # Dictionaries as sets that keep their order: who came first is asked for first.
        self._open: dict[Action, dict[str, dict[str, None]]] = {
            "unsubscribe": {name: {} for name in _ASKABLE},
            "subscribe": {
                name: dict.fromkeys(
                    each for each in self._counts[name] if (name, each) not in self.refused
                )
                for name in _ASKABLE
            },
        }
        self._parts: dict[Action, list[_Names]] = {"unsubscribe": [], "subscribe": []}
        self._unreported: list[tuple[Action, ServerError, _Pair]] = []
        self._request_size = SYMBOLS_PER_REQUEST
        self._retries: deque[_Pair] = deque(self.refused)
        self._full: set[tuple[str, frozenset[str]]] = set()
        self._skipped: Change | None = None
        self._answers_skipped = 0

    # -- what is known --

    @property
    def wanted(self) -> Subscriptions:
        """What has been asked for, by channel."""
        return {name: frozenset(symbols) for name, symbols in self._counts.items() if symbols}

    @property
    def confirmed(self) -> Subscriptions:
        """What the server said it sends, automatic channels included."""
        return _without_empty(
            {name: self._sent[name] - self._assumed.get(name, _EMPTY) for name in CHANNELS}
            if self._assumed
            else self._sent
        )

    @property
    def settled(self) -> bool:
        """Whether everything wanted is confirmed or refused, and nothing else is confirmed."""
        return (
            self.in_flight is None
            and not any(any(each.values()) for each in self._open.values())
            and not any(pair in self.refused for pair in self._retries)
        )

    def state(self, channel: str, symbol: str) -> SubscriptionState:
        """What the server has said to the wish for a symbol; cheap, from any thread."""
        if symbol in self._sent.get(channel, _EMPTY):
            return "pending" if symbol in self._assumed.get(channel, _EMPTY) else "confirmed"
        return "refused" if (channel, symbol) in self.refused else "pending"

    def is_sent(self, channel: str, symbols: frozenset[str]) -> bool:
        """Whether the server sends all of these, as far as it has said or must be assumed."""
        return symbols <= self._sent.get(channel, _EMPTY)

    # -- what is wanted --

    def want(self, channel: str, symbols: Iterable[str]) -> None:
        """Ask for symbols; each call counts, and is undone by one `unwant`.

        Wanting again what was refused asks for it again. Raises UnknownChannelError.
        """
        name = find_channel(channel).name
        counts = self._counts[name]
        # A set's order differs from run to run, and the first to be asked for may get the
        # plan's last places.
        for symbol in sorted(symbols) if isinstance(symbols, Set) else symbols:
            counts[symbol] = counts.get(symbol, 0) + 1
            self._begin_wish(name, symbol)

    def unwant(self, channel: str, symbols: Iterable[str]) -> None:
        """Undo one `want` of each symbol; the last one unsubscribes it."""
        name = find_channel(channel).name
        counts = self._counts[name]
        for symbol in symbols:
            count = counts.get(symbol, 0)
            if count > 1:
                counts[symbol] = count - 1
            elif count:
                del counts[symbol]
                self._begin_wish(name, symbol)

    def _begin_wish(self, name: str, symbol: str) -> None:
        self.refused.pop((name, symbol), None)
        self._asked.pop((name, symbol), None)
        self._compare(name, symbol)

    # -- what to ask for --

    def next_change(self) -> Change | None:
        """Take the change to ask for next; None while one is in flight, or nothing is left."""
        if self.in_flight is not None:
            return None
        for action in self._open:
            symbols = self._next_part(action) or self._next_symbols(action)
            if symbols:
                self.in_flight = Change(action, symbols)
                break
        return self.in_flight

    def forget_request(self) -> None:
        """The request in flight will have no answer and no effect: it is asked for again."""
        self.in_flight = None

    def _next_part(self, action: Action) -> _Names:
        parts = self._parts[action]
        while parts:
            part = self._still_open(action, parts.pop())
            if part:
                return part
        return {}

    def _still_open(self, action: Action, part: _Names) -> _Names:
        """What of a part is neither settled nor given up in the meantime."""
        differences = self._open[action]
        left = {
            name: [symbol for symbol in names if symbol in differences[name]]
            for name, names in part.items()
        }
        return {name: names for name, names in left.items() if names}

    def _next_symbols(self, action: Action) -> _Names:
        limit = SYMBOLS_PER_REQUEST
        if action == "subscribe":
            limit = self._request_size
            if not any(self._open[action].values()):
                self._reopen(limit)
        taken: _Names = {}
        for name, symbols in self._open[action].items():
            if limit and symbols:
                taken[name] = list(islice(symbols, limit))
                limit -= len(taken[name])
        return taken

    def _reopen(self, limit: int) -> None:
        """Let some that were refused be asked for again; they stay refused until confirmed."""
        while self._retries and limit:
            name, symbol = self._retries.popleft()
            if (name, symbol) in self.refused and not self._is_hopeless(name, symbol):
                self._open["subscribe"][name][symbol] = None
                limit -= 1

    def _compare(self, name: str, symbol: str) -> None:
        """Keep what is to be asked for up to date with what is known about one symbol."""
        if name not in self._open["subscribe"]:
            return
        wanted = symbol in self._counts[name]
        sent = symbol in self._sent[name]
        if wanted == sent:
            action: Action | None = None
        elif wanted:
            action = None if (name, symbol) in self.refused else "subscribe"
        else:
            given_up = self._asked.get((name, symbol), 0) >= _ASKS
            action = None if given_up else "unsubscribe"
        for each, differences in self._open.items():
            if each == action:
                differences[name][symbol] = None
            else:
                differences[name].pop(symbol, None)

    # -- what the server answers --

    def acknowledge(self, listed: Mapping[str, Iterable[str] | None]) -> list[SubscriptionEvent]:
        """Take the server's complete set, by channel name."""
        state = {name: frozenset(listed.get(name) or ()) for name in CHANNELS}
        answered = self._take_answered(state)
        self._assumed = {}
        changed = self._replace_sent(state)
        if answered is not None:
            self._learn(answered)
        for name, symbols in changed.removed.items():
            for symbol in symbols:
                if symbol in self._counts[name]:
                    self._note_undone(name, symbol)
        if answered is not None and answered.action == "unsubscribe" and changed.removed:
            self._retry_without_place()
        return [changed, *self._report()]

    def refuse(self, error: ServerError) -> list[SubscriptionEvent] | None:
        """Take an error that answers a request; None if no request waits for an answer."""
        change, events = self._take_refused()
        if change is None:
            return None
        if error.code == _NO_PLACE and change.action == "subscribe":
            # With the places gone, feel the way to the last one instead of refusing by the
            # hundred what would then be asked for again in halves.
            self._request_size = 1
        given_up, parts = _divide(change.symbols, error.code)
        self._parts[change.action] += reversed(parts)
        for name, symbols in given_up.items():
            for symbol in symbols:
                self._give_up(change.action, name, symbol, error)
            if change.action == "subscribe":
                self._give_up_like(name, symbols, error)
        return events + self._report()

    def skip(self) -> list[SubscriptionEvent]:
        """Go on without the answer to the request in flight.

        What it asked for is taken as done, but not as confirmed.
        """
        change, self.in_flight = self.in_flight, None
        if change is None:
            return []
        self._skipped = change
        self._answers_skipped += 1
        self._count(change)
        changed = self._assume(change.action, change.symbols)
        if change.action == "unsubscribe":
            self._retry_without_place()
        return [changed, *self._report()]

    def _take_answered(self, state: Subscriptions) -> Change | None:
        """The request that this answers: that in flight, unless it looks like an older one."""
        change = self.in_flight
        if self._answers_skipped and change is not None and not _is_done(change, state):
            self._answers_skipped -= 1
            return None
        self._answers_skipped = 0
        self.in_flight = None
        return change

    def _take_refused(self) -> tuple[Change | None, list[SubscriptionEvent]]:
        """The request that an error answers, and what it means for what was assumed."""
        change, self.in_flight = self.in_flight, None
        if change is not None or not self._answers_skipped or self._skipped is None:
            return change, []
        # The answer that was not waited for: what was taken as done is not.
        change, self._skipped = self._skipped, None
        self._answers_skipped = 0
        if change.action == "unsubscribe":
            return change, []
        assumed = {
            name: [each for each in names if each in self._assumed.get(name, _EMPTY)]
            for name, names in change.symbols.items()
        }
        return change, [self._assume("unsubscribe", assumed)]

    def _assume(self, action: Action, symbols: _Names) -> SubscriptionsChanged:
        state = dict(self._sent)
        for name, names in symbols.items():
            if action == "subscribe":
                assumed = self._assumed.get(name, _EMPTY) | (frozenset(names) - state[name])
                state[name] |= assumed
            else:
                state[name] = state[name].difference(names)
                assumed = self._assumed.get(name, _EMPTY).difference(names)
            self._assumed[name] = assumed
        self._assumed = _without_empty(self._assumed)
        return self._replace_sent(state)

    def _replace_sent(self, state: Subscriptions) -> SubscriptionsChanged:
        before, self._sent = self._sent, state
        added = _without_empty({name: state[name] - before[name] for name in CHANNELS})
        removed = _without_empty({name: before[name] - state[name] for name in CHANNELS})
        for difference in (added, removed):
            for name, symbols in difference.items():
                for symbol in symbols:
                    if difference is added:
                        self.refused.pop((name, symbol), None)
                    self._compare(name, symbol)
        return SubscriptionsChanged(_without_empty(state), added, removed)

    def _learn(self, change: Change) -> None:
        """See whether an acknowledgement holds what was asked; asking again would never end."""
        self._count(change)
        if change.action == "subscribe":
            self._request_size = min(self._request_size * 2, SYMBOLS_PER_REQUEST)
        for name, symbols in change.symbols.items():
            for symbol in symbols:
                if (symbol in self._sent[name]) != (change.action == "subscribe"):
                    self._give_up(change.action, name, symbol, _LEFT_OUT)

    def _count(self, change: Change) -> None:
        for name, symbols in change.symbols.items():
            for symbol in symbols:
                if (symbol in self._counts[name]) == (change.action == "subscribe"):
                    self._asked[name, symbol] = self._asked.get((name, symbol), 0) + 1

    def _note_undone(self, name: str, symbol: str) -> None:
        """A wanted symbol is gone from the server's set although nobody gave it up."""
        if self._asked.get((name, symbol), 0) >= _ASKS:
            self._give_up("subscribe", name, symbol, _LEFT_OUT)

    # -- what does not fit --

    def _give_up(self, action: Action, name: str, symbol: str, error: ServerError) -> None:
        """Ask for this no more, and remember why."""
        pair = (name, symbol)
        if (symbol in self._counts[name]) != (action == "subscribe"):
            return  # by now the opposite is wanted
        if action == "unsubscribe":
            if error is not _LEFT_OUT:
                self._unreported.append((action, error, pair))
            self._asked[pair] = _ASKS
        else:
            known = self.refused.get(pair)
            if known is None or known.code != error.code:
                self._unreported.append((action, error, pair))
            self.refused[pair] = error
        self._compare(name, symbol)

    def _give_up_like(self, name: str, refused: list[str], error: ServerError) -> None:
        """What holds for one symbol may hold for others, which then need not be asked for."""
        missing = self._open["subscribe"].get(name, {})
        if error.code == _NO_CHANNEL:
            like = list(missing)
        elif error.code == _NO_PLACE and refused[0] != "*":
            self._full.add((name, self._other_channels(name, refused[0])))
            like = [each for each in missing if self._is_hopeless(name, each)]
        else:
            return
        for symbol in like:
            self._give_up("subscribe", name, symbol, error)

    def _is_hopeless(self, name: str, symbol: str) -> bool:
        """Whether a symbol in the same position found no place, and none was given up since.

        Plans may count symbols, or pairs of symbol and channel; not all channels count. So
        a symbol that comes on another channel may need no place where another one does, and
        needs none more than one that comes on fewer channels.
        """
        if symbol == "*" or not self._full:
            return False
        others = self._other_channels(name, symbol)
        return any(channel == name and others <= tried for channel, tried in self._full)

    def _other_channels(self, name: str, symbol: str) -> frozenset[str]:
        return frozenset(each for each in _ASKABLE if each != name and symbol in self._sent[each])

    def _retry_without_place(self) -> None:
        """Places were given up: whoever found none may find one now."""
        self._full.clear()
        self._retries = deque(
            pair for pair, error in self.refused.items() if error.code == _NO_PLACE
        )

    def _report(self) -> list[SubscriptionEvent]:
        """What was refused, once everything that was refused with it has been asked for."""
        for action, parts in self._parts.items():
            left = [self._still_open(action, part) for part in parts]
            self._parts[action] = [part for part in left if part]
        if self.in_flight is not None or any(self._parts.values()):
            return []
        groups: dict[tuple[Action, int, str], tuple[ServerError, list[_Pair]]] = {}
        for action, error, pair in self._unreported:
            groups.setdefault((action, error.code, error.message), (error, []))[1].append(pair)
        self._unreported.clear()
        return [
            SubscriptionsRefused(_by_channel(pairs), error, action)
            for (action, _, _), (error, pairs) in groups.items()
        ]


_LEFT_OUT = SubscriptionError(
    400, "left out of the acknowledgement", "the server does not say that it sends this"
)


def _divide(symbols: _Names, code: int) -> tuple[_Names, list[_Names]]:
    """What an error settles for good, and the parts in which the rest is to be asked for."""
    if len(symbols) > 1:
        return {}, [{name: names} for name, names in symbols.items()]
    ((name, names),) = symbols.items()
    if len(names) == 1 or code == _NO_CHANNEL:
        return symbols, []
    if code == _NO_STAR and "*" in names:
        return {name: ["*"]}, [{name: [each for each in names if each != "*"]}]
    middle = (len(names) + 1) // 2
    return {}, [{name: names[:middle]}, {name: names[middle:]}]


def _is_done(change: Change, state: Subscriptions) -> bool:
    if change.action == "subscribe":
        return all(state[name].issuperset(names) for name, names in change.symbols.items())
    return all(state[name].isdisjoint(names) for name, names in change.symbols.items())


def _without_empty(subscriptions: Subscriptions) -> Subscriptions:
    return {name: symbols for name, symbols in subscriptions.items() if symbols}


def _by_channel(pairs: Iterable[_Pair]) -> Subscriptions:
    names: dict[str, set[str]] = {}
    for name, symbol in pairs:
        names.setdefault(name, set()).add(symbol)
    return {name: frozenset(symbols) for name, symbols in names.items()}
