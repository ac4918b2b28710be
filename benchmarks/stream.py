"""From the socket to the frame: what a message costs, beside peers and floors.

A server on one core sends prepared bytes, each contestant reads them in a process of its own on
the other one, and they take turns. What is told is the time of the processor per message, in the
whole process, kernel included.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import clients
from benchmarks.clients import (
    FLOOR,
    FLOOR_PICOWS,
    MODELS,
    OURS,
    OURS_COMPILED,
    OURS_FAST,
    PICOWS,
    RAW,
    RECV,
    Contestant,
    Look,
    Setting,
    Take,
    Taken,
    Toil,
)
from benchmarks.measuring import Answers, child
from benchmarks.quotes import Tape
from benchmarks.results import Kind, Table
from benchmarks.server import Send, SendUntilTold, serve

ABOUT = "From the socket to the frame"

EVERYBODY = (RAW, MODELS, RECV, PICOWS, FLOOR, FLOOR_PICOWS, OURS, OURS_FAST, OURS_COMPILED)
WARM_UP = 3_000
BASE = {1: 4_000, 10: 12_000, 100: 24_000}
"""How many messages a round brings to a contestant of speed 1, by the messages per frame."""

TARGETS = {
    # per frame: over raw dicts, over models; then the same with [fast]
    1: ((10, 12), (50, 60)),
    10: ((4.5, 9), (30, 60)),
    100: ((2.5, 7), (15, 40)),
}


# -- a race ------------------------------------------------------------------------------


@dataclass
class Runner:
    """A contestant that is connected, and how far in the tape it is."""

    contestant: Contestant
    setting: Setting
    pipe: Answers
    number: int
    position: int = 0
    taken: list[Taken] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


class Race:
    """Contestants connected to one server, who take turns."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.runners: list[Runner] = []
        self._ends = ExitStack()

    def __enter__(self) -> Race:
        self._server = self._ends.enter_context(child(serve))
        self._port: int = self._server.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def join(self, contestant: Contestant, **setting: object) -> Runner:
        """Start a contestant, and wait until the server has its subscription."""
        given = Setting(self._port, self.tape, **setting)  # type: ignore[arg-type]
        pipe = self._ends.enter_context(child(clients.run, contestant, given))
        if (answer := pipe.recv()) != "started":
            raise RuntimeError(answer)
        runner = Runner(contestant, given, pipe, self._server.recv())
        self.runners.append(runner)
        self.turn(runner, WARM_UP)
        return runner

    def turn(self, runner: Runner, count: int, rate: float | None = None) -> Taken:
        """Send so many messages to one of them; what taking them cost."""
        per_frame = runner.setting.per_frame
        start, stop = runner.position, runner.position + count - count % per_frame
        runner.pipe.send(Take(start, stop))
        assert runner.pipe.recv() == "ready"
        self._server.send(Send(runner.number, self.tape, start, stop, per_frame, rate))
        taken: Taken = runner.pipe.recv()
        assert self._server.recv() == stop
        runner.position = stop
        return taken

    def flood(self, runner: Runner, seconds: float, *, busy: bool) -> float:
        """Send all that is taken; how many a second were, by a process that is busy or idle.

        Everything that was sent must have come in the end.
        """
        per_frame = runner.setting.per_frame
        begun_s = time.perf_counter()
        self._server.send(SendUntilTold(runner.number, self.tape, runner.position, per_frame))
        if busy:
            runner.pipe.send(Toil(seconds))
            taken = runner.pipe.recv()
        else:
            time.sleep(seconds)
        self._server.send("enough")
        sent = self._server.recv()
        runner.pipe.send(Take(runner.position, sent))
        assert runner.pipe.recv() == "ready"
        runner.pipe.recv()
        if not busy:
            taken, seconds = sent - runner.position, time.perf_counter() - begun_s
        runner.position = sent
        return float(taken / seconds)

    def ages(self, runner: Runner, seconds: float, rate: int) -> list[float]:
        """How old the newest row is (ms) for a busy thread that looks, at a pace in real time."""
        step_ns, per_frame = 1_000_000_000 // rate, runner.setting.per_frame
        count = int(rate * (seconds + 1))
        stop = runner.position + count - count % per_frame
        # The next quote is of now.
        start_ns = time.time_ns() - runner.position * step_ns
        tape = Tape(start_ns, self.tape.symbols, step_ns)
        order = Send(runner.number, tape, runner.position, stop, per_frame, rate)
        self._server.send(order)
        time.sleep(0.5)
        runner.pipe.send(Look(seconds))
        ages = [age / 1e6 for age in runner.pipe.recv()]
        assert self._server.recv() == stop
        runner.position = stop
        return ages

    def rounds(self, rounds: int, base: int, rate: float | None = None) -> None:
        """Everybody in turn, so often; `base` messages to a contestant of speed 1."""
        for _ in range(rounds):
            for runner in self.runners:
                count = base if rate else int(base * runner.contestant.speed)
                runner.taken.append(self.turn(runner, count, rate))
                runner.counts.append(count - count % runner.setting.per_frame)


def _ns_per_message(runner: Runner) -> list[float]:
    return [
        taken.cpu_s / count * 1e9 for taken, count in zip(runner.taken, runner.counts, strict=True)
    ]


def _kind(contestant: Contestant) -> Kind:
    return contestant.kind  # type: ignore[return-value]


def _tape(symbols: int = 100) -> Tape:
    return Tape(time.time_ns(), symbols)


# -- what a message costs ----------------------------------------------------------------


def cost(per_frame: int, *, small: bool) -> Table:
    """The processor's time per message, everybody beside everybody."""
    plural = "s" if per_frame > 1 else ""
    table = Table(
        f"Processor time per message, {per_frame} message{plural} per frame",
        "ns",
        base=OURS_FAST.name,
        about="As fast as each of them takes it. alpaca-py stores nothing; a floor stores ten "
        "columns and does nothing else; alpaca_nb has its frame, lag and counts.",
    )
    with Race(_tape()) as race:
        for contestant in EVERYBODY:
            race.join(contestant, per_frame=per_frame)
        race.rounds(*((1, 500) if small else (7, BASE[per_frame])))
    for runner in race.runners:
        table.add(runner.contestant.name, _ns_per_message(runner), _kind(runner.contestant))
    plain, fast = TARGETS[per_frame]
    for ours, targets in ((OURS, plain), (OURS_FAST, fast)):
        for peer, target in zip((RAW, MODELS), targets, strict=True):
            name = f"{peer.name} over {ours.name}, {per_frame} per frame"
            table.ratio(name, peer.name, ours.name, at_least=target)
    name = f"alpaca_nb over its floor, {per_frame} per frame"
    table.ratio(name, OURS.name, FLOOR.name, at_most=1.25)
    name = f"alpaca_nb[fast] over the floor of picows and msgspec, {per_frame} per frame"
    table.ratio(name, OURS_FAST.name, FLOOR_PICOWS.name)
    return table


def paced(*, small: bool) -> Table:
    """The same at a pace that leaves everybody idle for most of the time."""
    rate = 5_000
    table = Table(
        f"Processor time per message at {rate:,} messages/s, 10 per frame",
        "ns",
        base=OURS_FAST.name,
        about="Little comes at once, so that little can be shared between messages.",
    )
    with Race(_tape()) as race:
        for contestant in (RAW, MODELS, FLOOR, OURS, OURS_FAST):
            race.join(contestant, per_frame=10)
        race.rounds(*((1, 1_000) if small else (3, 5_000)), rate=rate)
    for runner in race.runners:
        table.add(runner.contestant.name, _ns_per_message(runner), _kind(runner.contestant))
    return table


def throughput(*, busy: bool, small: bool) -> Table:
    """Messages a second, beside a main thread that is idle or busy."""
    how = "busy in pure Python" if busy else "idle"
    table = Table(
        f"Messages a second beside a main thread that is {how}, 10 per frame",
        "messages/s",
        base=OURS_FAST.name,
        about="Sent without a pause; all that was sent came in the end, or this would be an error.",
    )
    targets = {OURS.name: 100_000.0, OURS_FAST.name: 600_000.0} if busy else {}
    if not busy:
        targets = {OURS_FAST.name: 1_500_000.0}
    rounds, seconds = (1, 0.2) if small else (5, 1.5)
    values: dict[str, list[float]] = {}
    with Race(_tape()) as race:
        for contestant in (RAW, FLOOR, OURS, OURS_FAST):
            race.join(contestant, per_frame=10)
        for _ in range(rounds):
            for runner in race.runners:
                rate = race.flood(runner, seconds, busy=busy)
                values.setdefault(runner.contestant.name, []).append(rate)
    for runner in race.runners:
        name = runner.contestant.name
        table.add(name, values[name], _kind(runner.contestant))
        if name in targets:
            what = f"{name}, messages/s beside a main thread that is {how}"
            table.figure(what, values[name], "messages/s", at_least=targets[name])
    return table


# -- growth ------------------------------------------------------------------------------


def growth_by_symbols(ours: Contestant, *, small: bool) -> Table:
    """The same messages, spread over more and more symbols."""
    sizes = (10, 1_000) if small else (10, 100, 1_000, 11_000)
    table = Table(f"{ours.name}: processor time per message by symbols", "ns")
    table.base = f"{sizes[0]:,} symbols"
    races = [Race(Tape(time.time_ns(), size)) for size in sizes]
    with ExitStack() as stack:
        for race in races:
            stack.enter_context(race).join(ours, per_frame=10)
        _in_turn(races, ours, small=small)
    for size, race in zip(sizes, races, strict=True):
        table.add(f"{size:,} symbols", _ns_per_message(race.runners[0]), "ours")
    _add_growth(table, f"{ours.name}, from {sizes[0]:,} to {sizes[-1]:,} symbols")
    return table


def growth_by_frames(ours: Contestant, *, small: bool) -> Table:
    """The same messages of 1,000 symbols, among more and more frames of the same stream."""
    counts = (1, 5) if small else (1, 5, 50)
    table = Table(f"{ours.name}: processor time per message by frames, 1,000 symbols", "ns")
    table.base = "1 frame"
    races = [Race(_tape(1_000)) for _ in counts]
    with ExitStack() as stack:
        for race, count in zip(races, counts, strict=True):
            stack.enter_context(race).join(ours, per_frame=10, frames=count)
        _in_turn(races, ours, small=small)
    for count, race in zip(counts, races, strict=True):
        name = f"{count} frame{'s' if count > 1 else ''}"
        table.add(name, _ns_per_message(race.runners[0]), "ours")
    _add_growth(table, f"{ours.name}, from 1 frame to {counts[-1]}")
    return table


def one_slow_handler(ours: Contestant, *, small: bool) -> Table:
    """The same messages, with a handler that is too slow for one symbol out of 1,000."""
    names = ("no handler", "a slow handler on one symbol of 1,000")
    table = Table(f"{ours.name}: processor time per message with a slow handler", "ns")
    table.base = names[0]
    races = [Race(_tape(1_000)) for _ in names]
    with ExitStack() as stack:
        for race, handler in zip(races, (False, True), strict=True):
            stack.enter_context(race).join(ours, per_frame=10, handler=handler)
        _in_turn(races, ours, small=small)
    for name, race in zip(names, races, strict=True):
        table.add(name, _ns_per_message(race.runners[0]), "ours")
    _add_growth(table, f"{ours.name}, with a slow handler on one symbol of 1,000")
    return table


def _in_turn(races: Sequence[Race], ours: Contestant, *, small: bool) -> None:
    rounds, base = (1, 200) if small else (7, 12_000)
    for _ in range(rounds):
        for race in races:
            race.rounds(1, base)


def _add_growth(table: Table, name: str) -> None:
    first, last = table.rows[0].name, table.rows[-1].name
    table.ratio(f"{name}: cost of a message", last, first, at_most=1.15)


def measure(*, small: bool) -> list[Table]:
    """All of it; little of it where it is only to be seen that it runs."""
    if small:
        tables = [cost(10, small=True), throughput(busy=True, small=True)]
        return [*tables, growth_by_symbols(OURS, small=True), one_slow_handler(OURS, small=True)]
    tables = [cost(per_frame, small=False) for per_frame in BASE]
    tables.append(paced(small=False))
    tables += [throughput(busy=busy, small=False) for busy in (False, True)]
    for ours in (OURS, OURS_FAST):
        tables.append(growth_by_symbols(ours, small=False))
        tables.append(growth_by_frames(ours, small=False))
        tables.append(one_slow_handler(ours, small=False))
    return tables
