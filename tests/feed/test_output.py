"""What handlers print: in a log, in whole lines, bounded; and everything else where it was."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from alpaca_nb.clock import ManualClock
from alpaca_nb.feed.handlers import HandlerThread
from alpaca_nb.feed.output import LINE_LENGTH, OutputLog, routed_output
from alpaca_nb.wire.messages import Quote


class Publisher:
    """IPython's display publisher, as far as it matters: hooks that may use up a message."""

    def __init__(self) -> None:
        self.hooks: list[Any] = []
        self.sent: list[Any] = []

    def register_hook(self, hook: Any) -> None:
        self.hooks.append(hook)

    def send(self, content: dict[str, Any]) -> None:
        message: dict[str, Any] | None = {"content": content}
        for hook in self.hooks:
            message = hook(message)
            if message is None:
                return
        self.sent.append(message)


@pytest.fixture(name="publisher")
def in_a_kernel(monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """Make this process look like a Jupyter kernel."""
    publisher = Publisher()
    app = SimpleNamespace(shell=SimpleNamespace(display_pub=publisher))
    kind = SimpleNamespace(initialized=lambda: True, instance=lambda: app)
    monkeypatch.setitem(
        sys.modules,
        "ipykernel.kernelapp",
        SimpleNamespace(IPKernelApp=kind),  # type: ignore[arg-type]
    )
    return publisher


@contextlib.contextmanager
def running_cell() -> Iterator[io.StringIO]:
    """What reaches the running cell through sys.stdout and sys.stderr."""
    cell = io.StringIO()
    with contextlib.redirect_stdout(cell), contextlib.redirect_stderr(cell):
        yield cell


def texts(log: OutputLog) -> list[str]:
    return [line.text for line in log.lines]


def show(*values: Any, **options: Any) -> None:
    print(*values, **options)  # noqa: T201 - what this is about


# -- the log -------------------------------------------------------------------------------


def test_a_log_keeps_the_newest_lines_and_counts_the_others() -> None:
    """Lines have a time, a source and a level; the version tells whether there are new ones."""
    clock = ManualClock()
    log = OutputLog(limit=3, clock=clock)
    assert (log.version, log.lines) == (0, ())
    for i in range(5):
        log.add("stream", f"line {i}", "error")
    assert texts(log) == ["line 2", "line 3", "line 4"]
    assert (log.version, log.dropped) == (5, 2)
    line = log.lines[0]
    assert (line.time_ns, line.source, line.level) == (clock.now_ns(), "stream", "error")


def test_a_text_of_several_lines_is_as_many_lines() -> None:
    """One LogLine is one line on the screen; what is too long is cut and says so."""
    log = OutputLog()
    log.add("stream", "one\ntwo\r\n" + "x" * (LINE_LENGTH + 5))
    assert texts(log)[:2] == ["one", "two"]
    assert texts(log)[2] == "x" * LINE_LENGTH + "… (5 more characters)"


# -- captures ------------------------------------------------------------------------------


def test_pieces_of_a_line_are_joined(publisher: Publisher) -> None:
    """A line goes on when it is complete, or when the handler returns."""
    with running_cell() as cell:
        log = OutputLog()
        with routed_output():
            with log.capture("mine"):
                show("a", end=" ")
                show("b", 1)
                show()
                show("c\nd", end="")
                assert texts(log) == ["a b 1", "", "c"]
            with log.capture("other"):
                sys.stdout.writelines(["e", "f\n"])
                sys.stdout.flush()
        assert [(line.source, line.text) for line in log.lines] == [
            ("mine", "a b 1"),
            ("mine", ""),
            ("mine", "c"),
            ("mine", "d"),
            ("other", "ef"),
        ]
        assert {line.level for line in log.lines} == {"output"}
        assert cell.getvalue() == ""


def test_both_streams_are_caught_and_not_mixed_within_a_line(publisher: Publisher) -> None:
    """What goes to stderr, such as a traceback, is a line of its own."""
    with running_cell() as cell:
        log = OutputLog()
        with routed_output(), log.capture("mine"):
            show("half", end="")
            show("problem", file=sys.stderr)
            show(" and half")
            try:
                raise ValueError("careful")
            except ValueError:
                traceback.print_exc()
        assert texts(log)[:2] == ["problem", "half and half"]
        assert texts(log)[-1] == "ValueError: careful"
        assert cell.getvalue() == ""


def test_a_flood_is_bounded(publisher: Publisher) -> None:
    """A line without end, a million lines at once: memory holds what the log holds."""
    with running_cell() as cell:
        log = OutputLog(limit=10)
        with routed_output(), log.capture("mine"):
            for _ in range(1_000):
                show("x" * 1_000, end="")
            show("\n" * 1_000_000, end="")
            assert texts(log) == [""] * 10
            show("end" * LINE_LENGTH)
        assert log.version == 1_000_001
        assert texts(log)[-1].endswith("… (2,000 more characters)")
        assert cell.getvalue() == ""


def test_a_progress_bar_is_one_line(publisher: Publisher) -> None:
    """A carriage return writes over the line, before or after the text; nothing piles up."""
    with running_cell():
        log = OutputLog()
        with routed_output(), log.capture("mine"):
            for i in range(1_000):
                sys.stderr.write(f"\r{i} of 1000")
            sys.stderr.write("\n")
            for i in range(1_000):
                sys.stderr.write(f"{i} of 1000\r")
            sys.stderr.write("done\r\n")
        assert texts(log) == ["999 of 1000", "done"]


def test_other_threads_print_where_they_did(publisher: Publisher) -> None:
    """Only what runs inside a capture is caught; the routers pass on everything else."""
    with running_cell() as cell:
        log = OutputLog()
        with routed_output(), log.capture("mine"):
            thread = threading.Thread(target=show, args=("from elsewhere",))
            thread.start()
            thread.join()
            show("from a handler")
            assert cell.getvalue() == "from elsewhere\n"
            assert sys.stdout.getvalue() == cell.getvalue()  # type: ignore[attr-defined]
            with pytest.raises(TypeError, match="not int"):
                sys.stdout.write(5)  # type: ignore[arg-type]
        assert texts(log) == ["from a handler"]


def test_tasks_print_under_the_name_of_who_started_them(publisher: Publisher) -> None:
    """A task goes on printing into the log after its handler returned; threads of it too."""
    with running_cell() as cell:
        log = OutputLog()

        async def task() -> None:
            await asyncio.sleep(0)
            show("task")
            await asyncio.to_thread(show, "thread")

        async def run() -> None:
            with log.capture("mine"):
                started = asyncio.create_task(task())
            show("cell")
            await started

        with routed_output():
            asyncio.run(run())
        assert [(line.source, line.text) for line in log.lines] == [
            ("mine", "task"),
            ("mine", "thread"),
        ]
        assert cell.getvalue() == "cell\n"


def test_what_is_displayed_becomes_text(publisher: Publisher) -> None:
    """display() and clear_output() of a handler do not reach the cell; those of a cell do."""
    with running_cell():
        log = OutputLog()
        with routed_output():
            with log.capture("mine"):
                publisher.send({"data": {"text/plain": "Quote(A)\nmore", "text/html": "<b>"}})
                publisher.send({"data": {"image/png": "..."}})
                publisher.send({"wait": False})
            publisher.send({"data": {"text/plain": "of the cell"}})
        assert texts(log) == ["Quote(A)", "more", ""]
        assert [message["content"]["data"] for message in publisher.sent] == [
            {"text/plain": "of the cell"}
        ]


# -- where sys.stdout leads ----------------------------------------------------------------


def test_a_plain_program_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a kernel nothing is replaced, and handlers print to the terminal."""
    monkeypatch.delitem(sys.modules, "ipykernel.kernelapp", raising=False)
    terminal, log = io.StringIO(), OutputLog()
    with contextlib.redirect_stdout(terminal), routed_output(), log.capture("mine"):
        assert sys.stdout is terminal
        show("hello")
    assert terminal.getvalue() == "hello\n"
    assert log.lines == ()


def test_the_streams_are_put_back(publisher: Publisher) -> None:
    """While any thread runs handlers the routers stay; with the last one they go."""
    with running_cell() as cell:
        log = OutputLog()
        with routed_output():
            with routed_output(), log.capture("mine"):
                show("one")
            assert sys.stdout is not cell
            with log.capture("mine"):
                show("two")
        assert sys.stdout is cell
        assert sys.stderr is cell
        with log.capture("mine"):
            show("three")
        assert texts(log) == ["one", "two"]
        assert cell.getvalue() == "three\n"


def test_whoever_replaces_the_streams_for_a_time_still_can(publisher: Publisher) -> None:
    """As %%capture does: its cell's output goes to it, a handler's to the log, and it is undone."""
    with running_cell() as cell:
        log = OutputLog()
        captured = io.StringIO()
        with routed_output():
            with log.capture("mine"):
                show("before")
            router = sys.stdout
            with contextlib.redirect_stdout(captured):
                show("captured 1")
                with log.capture("mine"):
                    show("during")
                show("captured 2")
            assert sys.stdout is router
            show("cell")
            with log.capture("mine"), contextlib.redirect_stdout(io.StringIO()) as own:
                show("own")
        assert sys.stdout is cell
        assert texts(log) == ["before", "during"]
        assert captured.getvalue() == "captured 1\ncaptured 2\n"
        assert own.getvalue() == "own\n"
        assert cell.getvalue() == "cell\n"


def test_a_replacement_that_outlives_the_handlers_is_kept(publisher: Publisher) -> None:
    """The routers go only from where they are; one that is put back later passes on."""
    with running_cell() as cell:
        log = OutputLog()
        captured = io.StringIO()
        with contextlib.ExitStack() as stack:
            with routed_output():
                with log.capture("mine"):
                    show("before")
                stack.enter_context(contextlib.redirect_stdout(captured))
            assert sys.stdout is captured
        show("cell")
        assert cell.getvalue() == "cell\n"


def test_a_wrapped_write_records_the_cell_only(publisher: Publisher) -> None:
    """IPython records what a cell prints by replacing write; a handler's text is not in it."""
    log = OutputLog()
    recorded: list[str] = []

    def wrap(stream: Any) -> Any:
        original = stream.write

        def write(text: str) -> Any:
            recorded.append(text)
            return original(text)

        stream.write = write
        return original

    with running_cell() as cell, routed_output():
        for i in range(3):
            # The first time the stream itself is wrapped, then the router in its place.
            stream = sys.stdout
            original = wrap(stream)
            with log.capture("mine"):
                show(f"handler {i}")
            show(f"cell {i}")
            stream.write = original  # type: ignore[method-assign]
        show("not recorded")
    assert texts(log) == ["handler 0", "handler 1", "handler 2"]
    assert "".join(recorded) == "cell 0\ncell 1\ncell 2\n"
    assert cell.getvalue() == "cell 0\ncell 1\ncell 2\nnot recorded\n"


def test_a_process_without_streams(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sys.stdout is None, as under pythonw, it stays so."""
    monkeypatch.setattr(sys, "stdout", None)
    with routed_output(), OutputLog().capture("mine"):
        show("nowhere")
        assert sys.stdout is None


def test_printing_while_a_line_is_added_does_not_lock_up(publisher: Publisher) -> None:
    """Garbage may be collected at any moment, and its finaliser may print."""
    with running_cell():
        log = OutputLog()

        class PrintsAtTheEnd(str):
            def __del__(self) -> None:
                show("finaliser")

            def split(self, *_: Any) -> list[str]:  # type: ignore[override]
                show("while writing")
                return ["text", ""]

        with routed_output(), log.capture("mine"):
            sys.stdout.write(PrintsAtTheEnd())
        assert texts(log) == ["while writing", "text", "finaliser"]


# -- with handlers -------------------------------------------------------------------------


def quotes(count: int) -> list[Quote[int]]:
    return [Quote[int](symbol="A", bid_price=i, ask_price=i, timestamp=0) for i in range(count)]


def test_handlers_print_into_the_log(publisher: Publisher) -> None:
    """Plain or coroutine, tasks included, with the handler's name; stopping puts all back."""
    with running_cell() as cell:
        handlers = HandlerThread()
        printed = threading.Event()

        def plain(quote: Any) -> None:
            show(quote.bid_price)

        async def later() -> None:
            await asyncio.sleep(0.001)
            show("task")
            printed.set()

        async def coroutine(quote: Any) -> None:
            show("coroutine")
            coroutine.task = asyncio.create_task(later())  # type: ignore[attr-defined]

        handlers.push(plain, quotes(2))
        handlers.push(coroutine, quotes(1))
        assert handlers.drain(5)
        assert printed.wait(5)
        handlers.stop(wait_s=5)
        assert [(line.source.rpartition(".")[2], line.text) for line in handlers.log.lines] == [
            ("plain", "0"),
            ("plain", "1"),
            ("coroutine", "coroutine"),
            ("coroutine", "task"),
        ]
        assert cell.getvalue() == ""
        assert sys.stdout is cell


NOTEBOOK = [
    """
import sys, threading, time
from alpaca_nb.feed.handlers import HandlerThread
from alpaca_nb.wire.messages import Quote

def noisy(quote):
    print("NOISE", quote.bid_price)
    print("NOISE", file=sys.stderr)
    display("NOISE")

handlers = HandlerThread()
stopping = threading.Event()
def feed():
    i = 0
    while not stopping.wait(0.002):
        handlers.push(noisy, [Quote(symbol="A", bid_price=i, ask_price=i, timestamp=0)])
        i += 1
feeder = threading.Thread(target=feed, daemon=True)
feeder.start()
def handled(n):
    for _ in range(5000):
        if handlers.counts.handled >= n:
            return
        time.sleep(0.001)
""",
    "print('first'); handled(20); print('second')",
    "%%capture captured\nprint('in the capture'); handled(40)",
    "print(captured.stdout, end='')",
    "handled(60); raise ValueError('on purpose')",
    """
stopping.set(); feeder.join(); handlers.drain(5); handlers.stop(wait_s=5)
print(type(sys.stdout).__module__, len(handlers.errors))
print(sorted({line.text.split()[0] for line in handlers.log.lines}), handlers.log.version)
print(len(captured.outputs), handlers.counts.handled)
""",
]


def test_in_a_real_kernel_no_cell_shows_what_a_handler_prints() -> None:
    """Whatever runs meanwhile, also %%capture and an error: cells show their own output only."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in NOTEBOOK]
    )
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True)
    client.execute()
    shown = [
        "".join(output.get("text", "") + output.get("ename", "") for output in cell.outputs)
        for cell in notebook.cells
    ]
    assert shown[:5] == ["", "first\nsecond\n", "", "in the capture\n", "ValueError"]
    module_name, errors, rest = shown[5].split(maxsplit=2)
    assert (module_name, errors) == ("ipykernel.iostream", "0")
    kinds, version, displays, handled = rest.rsplit(maxsplit=3)
    assert "NOISE" in kinds
    # %%capture puts another publisher in place of the kernel's; what is displayed meanwhile
    # is its.
    assert int(version) + int(displays) == 3 * int(handled) >= 180
    assert "NOISE" not in str([cell.outputs for cell in notebook.cells[:5]])
