"""How to measure: interleaved rounds, a core of one's own, memory in a fresh process."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

SPAWN = multiprocessing.get_context("spawn")
"""A child starts with nothing of its parent: no module, no thread, no memory."""

SERVER_CORE, CLIENT_CORE = 0, 1
"""Two cores that do not share what is measured."""


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes by the clock on the wall, with nothing left to collect."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rounds_of(
    cases: Mapping[str, Callable[[], object]], rounds: int, *, scale: float = 1.0
) -> dict[str, list[float]]:
    """The seconds (times `scale`) of each case in each round; the cases take turns."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for work in cases.values():
        work()  # what is only done once is not measured
    for _ in range(rounds):
        for name, work in cases.items():
            taken[name].append(seconds(work) * scale)
    return taken


def repeated(work: Callable[[], object], times: int) -> Callable[[], object]:
    """The same work many times, where once is too short for the clock."""

    def many() -> None:
        for _ in range(times):
            work()

    return many


# -- processes ---------------------------------------------------------------------------


def pin(core: int) -> None:
    """Keep this process on one core, where the system can do that and has another one."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) > 1:
            os.sched_setaffinity(0, {allowed[core % len(allowed)]})


@contextlib.contextmanager
def child(target: Callable[..., object], *args: object) -> Iterator[Answers]:
    """A process that is called with the other end of a pipe, and ended afterwards."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_run, args=(target, theirs, *args))
    process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    try:
        yield Answers(ours, process)
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        process.join(timeout=5)
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()


class ChildError(Exception):
    """A process that a benchmark started failed; the text is its traceback."""


class Answers:
    """The pipe to a process; what went wrong there is raised here."""

    def __init__(self, pipe: Connection, process: BaseProcess) -> None:
        self._pipe = pipe
        self._process = process
        self.send = pipe.send
        self.fileno = pipe.fileno

    def recv(self) -> Any:
        if not self._pipe.poll(LIMIT_S):
            raise ChildError(f"no answer in {LIMIT_S} s")
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join(timeout=5)
            raise ChildError(f"ended with {self._process.exitcode}") from None
        if isinstance(answer, ChildError):
            raise answer
        return answer


LIMIT_S = 120.0
"""What takes longer hangs."""


def _run(target: Callable[..., object], pipe: Connection, *args: object) -> None:
    import traceback

    try:
        target(pipe, *args)
    except (EOFError, BrokenPipeError):
        pass  # whoever asked has gone
    except BaseException:
        with contextlib.suppress(OSError):
            pipe.send(ChildError(f"in a process of its own:\n{traceback.format_exc()}"))


# -- memory ------------------------------------------------------------------------------


def unique_bytes() -> int:
    """Memory that only this process holds, in bytes; all it holds where that is not told."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    except OSError:
        return resident_bytes()


def resident_bytes() -> int:
    """Memory that this process holds, in bytes; 0 where that is not told."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def growth_of(make: Callable[[int], object], count: int, *, warm_up: int = 2_000) -> int:
    """By how many bytes a fresh process grows when it makes and keeps something."""
    with child(_grow, make, count, warm_up) as pipe:
        return int(pipe.recv())


def _grow(pipe: Connection, make: Callable[[int], object], count: int, warm_up: int) -> None:
    make(warm_up)
    gc.collect()
    before = unique_bytes()
    kept = make(count)
    gc.collect()
    pipe.send(unique_bytes() - before)
    del kept
