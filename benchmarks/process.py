"""A trial, and no part of the package: the socket is read by a process of its own.

It decodes into blocks of columns in shared memory, and a thread of the notebook's process hands
these to a frame. Compared with the thread that the package reads with.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from alpaca_nb.data import compiled
from alpaca_nb.data.batch import Batch, Lexicon, layout_of
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.scan import Scanner
from alpaca_nb.feed.transport import connect_websocket
from alpaca_nb.wire.messages import Quote
from benchmarks.clients import (
    KEPT,
    OURS,
    OURS_FAST,
    Client,
    Contestant,
    Counting,
    OnLoop,
    Setting,
    WrongError,
)
from benchmarks.measuring import SERVER_CORE, SPAWN, pin
from benchmarks.quotes import Tape
from benchmarks.results import Table
from benchmarks.stream import Race

ABOUT = "A trial: reading in a process of its own"

SLOTS, ROWS = 128, 8_192
"""How many blocks the ring has, and how many rows one of them can hold."""
WAIT_S = 0.002
"""How long frames are gathered before they are decoded, and how often a thread looks for blocks."""
LOOKS_S = 3.0


class Ring:
    """Blocks of quotes in shared memory; one process writes them, one reads them."""

    HEAD, TAIL, CPU_NS = 0, 8, 16  # each on a cache line of its own: in words of eight bytes

    def __init__(self, name: str | None = None) -> None:
        self.layout = layout_of(Quote)
        numbers, prices, codes = self.layout.rows
        words = 64 + SLOTS + SLOTS * ROWS * (numbers + prices + (codes + 1) // 2)
        create = name is None
        self.memory = SharedMemory(name, create=create, size=8 * words if create else 0)
        whole: Any = np.ndarray(words, np.int64, self.memory.buf)
        self.state, self.lengths, rest = whole[:64], whole[64 : 64 + SLOTS], whole[64 + SLOTS :]
        ends = np.cumsum([SLOTS * ROWS * numbers, SLOTS * ROWS * prices])
        self.numbers = rest[: ends[0]].reshape(SLOTS, numbers, ROWS)
        self.prices = rest[ends[0] : ends[1]].view(np.float64).reshape(SLOTS, prices, ROWS)
        room = rest[ends[1] :].view(np.int32)[: SLOTS * ROWS * codes]
        self.codes = room.reshape(SLOTS, codes, ROWS)
        if create:
            whole[:] = 0  # touched once, so that no page has to be found while it runs

    def has_room(self) -> bool:
        """Whether a block can be written."""
        return bool(self.state[self.HEAD] - self.state[self.TAIL] < SLOTS)

    def write(self, batch: Batch) -> None:
        """Write a block; it is there for the reader when its number is."""
        head, count = int(self.state[self.HEAD]), len(batch)
        slot = head % SLOTS
        self.numbers[slot, :, :count] = batch.numbers
        self.prices[slot, :, :count] = batch.prices
        self.codes[slot, :, :count] = batch.codes
        self.lengths[slot] = count
        self.state[self.HEAD] = head + 1

    def read(self, lexicon: Lexicon) -> Batch | None:
        """The oldest block, where there is one; it is not copied, and stays until `free`."""
        tail = int(self.state[self.TAIL])
        if tail == self.state[self.HEAD]:
            return None
        slot = tail % SLOTS
        count = int(self.lengths[slot])
        blocks = (each[slot, :, :count] for each in (self.numbers, self.prices, self.codes))
        return Batch(self.layout, lexicon, *blocks)

    def free(self) -> None:
        """The oldest block is not needed any more."""
        self.state[self.TAIL] += 1

    def close(self, *, unlink: bool) -> None:
        """Give the memory back."""
        self.state = self.lengths = self.numbers = self.prices = self.codes = None
        self.memory.close()
        if unlink:
            self.memory.unlink()


# -- the process that reads the socket ---------------------------------------------------


def read_socket(pipe: Connection, setting: Setting, name: str) -> None:
    """Read until the pipe is closed."""
    pin(SERVER_CORE)
    compiled.warm_up()
    compiled.wait_ready(60)
    asyncio.run(_Reader(pipe, setting, Ring(name)).run())


class _Reader(OnLoop):
    def __init__(self, pipe: Connection, setting: Setting, ring: Ring) -> None:
        super().__init__(setting, Counting(1))
        self._pipe, self._ring, self._setting = pipe, ring, setting
        self._lexicon = Lexicon()
        self._scanner = Scanner(self._lexicon)
        self._told = 0
        self._frames: list[bytes] = []
        self._connection: Any = None
        self._sending: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        self._loop.add_reader(self._pipe.fileno(), gone.set)
        await self.connect()
        ticking = asyncio.create_task(self._tick())
        await gone.wait()
        ticking.cancel()
        await self._connection.close()

    async def connect(self) -> None:
        waiting: list[bytes] = []
        self._connection = await connect_websocket(
            self._setting.url,
            headers={"Content-Type": "application/msgpack"},
            on_frames=lambda frames: self._put(frames, waiting),
        )
        for request in waiting:
            await self._connection.send(request)

    def _put(self, frames: list[bytes], waiting: list[bytes]) -> None:
        if self._ready:
            self._frames += frames
            return
        for i, frame in enumerate(frames):
            if self._ready:
                self._frames += frames[i:]
                return
            for request in self.talk(frame):
                if self._connection is None:
                    waiting.append(request)
                else:
                    task = asyncio.ensure_future(self._connection.send(request))
                    self._sending.add(task)
                    task.add_done_callback(self._sending.discard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(WAIT_S)
            if self._frames:
                frames, self._frames = self._frames, []
                await self._decode(frames)
                self._ring.state[Ring.CPU_NS] = time.process_time_ns()

    async def _decode(self, frames: list[bytes]) -> None:
        start, received = 0, [time.time_ns()] * len(frames)
        while start < len(frames):
            scanned = self._scanner.scan(frames, received, start)
            if scanned.refused:
                raise WrongError("a frame of another shape")
            start += scanned.frames
            if len(self._lexicon) > self._told:
                self._pipe.send(self._lexicon.texts[self._told :])
                self._told = len(self._lexicon)
            for batch in scanned.batches:
                if not self._ring.has_room():
                    self._connection.pause()  # the server has to wait
                    while not self._ring.has_room():
                        await asyncio.sleep(WAIT_S)
                    self._connection.resume()
                self._ring.write(batch)


# -- the notebook's process --------------------------------------------------------------


class Elsewhere(Client):
    """A frame that is filled from shared memory by a thread."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._frame = LiveFrame("quotes", setting.tape.names, maxlen=KEPT)
        self._lexicon = Lexicon()
        self._ring = Ring()
        self._pipe, theirs = SPAWN.Pipe()
        args = (theirs, setting, self._ring.memory.name)
        self._process = SPAWN.Process(target=read_socket, args=args)
        self._process.start()
        theirs.close()
        self._ended = False
        self._thread = threading.Thread(target=self._fill, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def seen(self) -> int:
        return self._frame.position

    def newest_ns(self) -> int | None:
        times = self._frame.snapshot()["timestamp"]
        return int(times[-1]) if len(times) else None

    def cpu_elsewhere_s(self) -> float:
        return float(self._ring.state[Ring.CPU_NS] / 1e9)

    def check(self, tape: Tape, start: int, stop: int) -> None:
        start = max(start, stop - KEPT)
        rows = self._frame.rows_since(start)
        same = np.array_equal(rows["timestamp"], tape.times(start, stop))
        if not same or not np.array_equal(rows["bid_price"], tape.bids(start, stop)):
            raise WrongError("the frame holds other times or prices than were sent")

    def stop(self) -> None:
        self._ended = True
        self._thread.join()
        self._pipe.send(None)
        self._process.join(timeout=5)
        self._process.kill()
        self._ring.close(unlink=True)

    def _fill(self) -> None:
        while not self._ended:
            while self._pipe.poll():
                for text in self._pipe.recv():
                    self._lexicon.code(text)
            some = False
            while (batch := self._ring.read(self._lexicon)) is not None:
                # Its texts were sent before it was there.
                if int(batch.codes.max()) >= len(self._lexicon):
                    break
                self._frame.take(batch)
                self._frame.snapshot()  # written, so that its place is free
                self._ring.free()
                some = True
            if not some:
                time.sleep(WAIT_S)


ELSEWHERE = Contestant("trial: a process that reads", Elsewhere, "peer", 20.0)


# -- measuring ---------------------------------------------------------------------------


def measure(*, small: bool) -> list[Table]:
    """Speed, cost, and how old the newest row is for somebody who looks while he is busy."""
    rounds, seconds = (1, 0.3) if small else (3, 1.5)
    rate = 20_000 if small else 100_000
    speed = Table("Messages a second, 10 per frame", "messages/s")
    cost = Table(
        "Processor time per message, 10 per frame",
        "ns",
        about="Of both processes together. The one that reads runs on the server's core, because "
        "there are only two.",
    )
    age = Table(
        f"Age of the newest row beside a main thread that is busy, {rate:,} messages/s",
        "ms",
        about="Looked at 20 times a second. The server sends once in a millisecond.",
    )
    with Race(Tape(time.time_ns())) as race:
        for contestant in (OURS, OURS_FAST, ELSEWHERE):
            race.join(contestant, per_frame=10)
        values: dict[str, list[float]] = {}
        for _ in range(rounds):
            for runner in race.runners:
                for busy in (False, True):
                    name = f"{runner.contestant.name}, main thread {'busy' if busy else 'idle'}"
                    values.setdefault(name, []).append(race.flood(runner, seconds, busy=busy))
        race.rounds(rounds, 2_000 if small else 12_000)
        looks = LOOKS_S / 10 if small else LOOKS_S
        ages = {runner.contestant.name: race.ages(runner, looks, rate) for runner in race.runners}
    kinds = {runner.contestant.name: runner.contestant.kind for runner in race.runners}
    for name, rates in values.items():
        speed.add(name, rates, kinds[name.rpartition(", ")[0]])  # type: ignore[arg-type]
    for runner in race.runners:
        name, kind = runner.contestant.name, runner.contestant.kind
        each = zip(runner.taken, runner.counts, strict=True)
        cost.add(name, [taken.cpu_s / count * 1e9 for taken, count in each], kind)  # type: ignore[arg-type]
        age.add(name, ages[name], kind)  # type: ignore[arg-type]
        worst = statistics.quantiles(ages[name], n=20)[-1]
        age.figure(f"{name}: 95 of 100 looks", [worst], "ms")
    speed.base = f"{OURS_FAST.name}, main thread busy"
    cost.base = age.base = OURS_FAST.name
    return [speed, cost, age]
