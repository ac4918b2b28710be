"""From when to when each consumer really gets what it wants.

Stands between the connection's life and the records of the routes: translates "the connection
was lost" and "the server confirmed these" into losses per route, channel and symbol, and hands
those that are over to the repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alpaca_nb.clock import Clock
from alpaca_nb.feed.exchange import Time
from alpaca_nb.feed.repair import Repair
from alpaca_nb.feed.routes import Route, Routes
from alpaca_nb.wire.messages import CHANNELS
from alpaca_nb.wire.protocol import Subscriptions


class Coverage:
    """What the routes of one stream are being sent; used on the stream's loop."""

    def __init__(
        self,
        routes: Routes,
        repair: Repair,
        time: Time,
        clock: Clock,
    ) -> None:
        self._routes = routes
        self._repair = repair
        self._exchange_at = time.exchange_at
        self._newest_ns = time.newest_ns
        self._clock = clock
        # Taken as subscribed without an acknowledgement, at this machine's time.
        self._assumed: dict[tuple[str, str], int] = {}
        self._unproven: set[Route] = set()

    def joined(self, route: Route, symbols: Sequence[str], sent: Subscriptions) -> None:
        """A route wants these too; those that the server sends already come at once."""
        self._ask(route, symbols)
        there = sent.get(route.channel.name, frozenset())
        if "*" in there:
            self._confirm(route, symbols)
        else:
            self._confirm(route, [symbol for symbol in symbols if symbol in there])

    def began(self) -> None:
        """The server is being asked for all that the routes want, from now on."""
        for route in self._routes:
            self._ask(route, self._routes.symbols_of(route))

    def refused(self, refused: Subscriptions, reason: str) -> None:
        """The server will not send these."""
        for route in self._routes:
            symbols = refused.get(route.channel.name)
            if route.seams is not None and symbols:
                its = symbols & self._routes.symbols_of(route)
                route.seams.refuse(
                    its, reason, now_ns=self._clock.now_ns(), exchange_at=self._exchange_at
                )

    def left(self, route: Route, symbols: Iterable[str]) -> None:
        """A route does not want these any more."""
        if route.seams is None:
            return
        ended = route.seams.leave(
            symbols, now_ns=self._clock.now_ns(), exchange_at=self._exchange_at
        )
        if ended:
            self._repair.add(route, ended)

    def resume(self, route: Route) -> None:
        """Go on with the repairs that an earlier stream of this route did not get to."""
        if route.seams is not None and (unsettled := route.seams.unsettled):
            self._repair.add(route, unsettled)

    def confirmed(self, added: Subscriptions, everything: Subscriptions) -> None:
        """The server says that it sends these from now on, and what it sends in all."""
        for name, symbols in added.items():
            self._came(name, symbols)
        # What had been taken for granted may be told only now.
        for name, symbol in list(self._assumed):
            if symbol in everything.get(name, frozenset()):
                del self._assumed[name, symbol]
                self._came(name, [symbol])

    def assumed(self, added: Subscriptions) -> None:
        """These were asked for and never acknowledged: their data will tell."""
        now_ns = self._clock.now_ns()
        for name, symbols in added.items():
            self._assumed.update(((name, symbol), now_ns) for symbol in symbols)

    @property
    def unproven(self) -> bool:
        """Whether the end of any loss is an estimate that the next frames will correct."""
        return bool(self._unproven)

    def came(self, exchange_ns: int) -> None:
        """Take the time of a frame that has come."""
        for route in list(self._unproven):
            assert route.seams is not None
            route.seams.came(exchange_ns)
            if not route.seams.unproven:
                self._unproven.discard(route)

    def look(self) -> None:
        """Believe the data where the server never acknowledges; called every second."""
        if not self._assumed:
            return
        for channel, symbol, slot in self._routes.slots():
            for name in (symbol, "*"):
                since_ns = self._assumed.get((channel.name, name))
                if since_ns is not None and (slot.pulse.received_ns or 0) >= since_ns:
                    del self._assumed[channel.name, name]
                    self._came(channel.name, [name])

    def dropped(self, removed: Subscriptions) -> None:
        """The server sends these no more, of its own accord or because nobody wants them."""
        for name, symbols in removed.items():
            for route in self._routes:
                if route.channel.name == name:
                    self._lose(route, "The server ended the subscription.", symbols)

    def lost(self, reason: str, *, was_mute: bool = False) -> None:
        """Nothing comes any more; a mute connection has kept something back before."""
        self._assumed.clear()
        # The frames of another connection prove nothing.
        self._unproven.clear()
        for route in self._routes:
            self._lose(route, reason, was_mute=was_mute)

    def paused(self, route: Route, reason: str) -> None:
        """Somebody ends the delivery to a route for a while."""
        self._unproven.discard(route)
        self._lose(route, reason)

    def _came(self, name: str, symbols: Iterable[str]) -> None:
        table = self._routes.tables.get(CHANNELS[name].message)
        if table is None:
            return
        if "*" in symbols:
            for route in self._routes:
                if route.channel.name == name:
                    self._confirm(route, self._routes.symbols_of(route))
            return
        reached: dict[Route, list[str]] = {}
        for symbol in symbols:
            slot = table.slots.get(symbol)
            for route in slot.routes if slot is not None else ():
                # Those who want all symbols wait for the word on all.
                if symbol in self._routes.symbols_of(route):
                    reached.setdefault(route, []).append(symbol)
        for route, its in reached.items():
            self._confirm(route, its)

    def _ask(self, route: Route, symbols: Iterable[str]) -> None:
        if route.seams is not None:
            route.seams.ask(symbols, now_ns=self._clock.now_ns())

    def _confirm(self, route: Route, symbols: Iterable[str]) -> None:
        seams = route.seams
        if seams is None:
            return
        names = list(symbols)
        if "*" in names:
            names = list(dict.fromkeys([*names, *seams.open]))
        ended = seams.confirm(names, now_ns=self._clock.now_ns(), exchange_at=self._exchange_at)
        if ended:
            self._unproven.add(route)
            self._repair.add(route, ended)

    def _lose(
        self,
        route: Route,
        reason: str,
        symbols: Iterable[str] | None = None,
        *,
        was_mute: bool = False,
    ) -> None:
        seams = route.seams
        if seams is None:
            return
        table = self._routes.tables[route.channel.message]
        table.settle()
        if "*" in self._routes.symbols_of(route) and "*" not in seams.open:
            # Who wants all symbols has been getting those that occurred.
            seams.seen(table.slots)

        # A connection carries messages in the order of their time, or nearly so: what is older
        # than the newest of them has come, whichever symbol that one was of. Not so if it was
        # mute, maybe for some symbols only: then what is here of each is all that is known.
        newest_ns = None if was_mute else self._newest_ns()

        def last_ns(symbol: str) -> int | None:
            slot = table.slots.get(symbol)
            own_ns = slot.pulse.last_ns if slot is not None else None
            if own_ns is not None and was_mute:
                own_ns = max(own_ns, seams.covered_until(symbol) or 0)
            return max((ns for ns in (own_ns, newest_ns) if ns is not None), default=None)

        seams.lose(
            reason,
            last_ns=last_ns,
            now_ns=self._clock.now_ns(),
            exchange_at=self._exchange_at,
            symbols=symbols,
        )
