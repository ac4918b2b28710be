"""Whatever ends a program: the server hears a goodbye, and nothing is left behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from waiting import until

import alpaca_nb as anb
from alpaca_nb.errors import BadInputError, StreamError

GOING = 1000
"""The close code of a client that says goodbye."""


@pytest.fixture
def simulator() -> Iterator[anb.LocalSimulator]:
    with anb.LocalSimulator(speed=20, symbols=["AAPL"]) as running:
        yield running


def start(simulator: anb.LocalSimulator, code: str) -> subprocess.Popen[str]:
    """Run a program with a client of the simulator."""
    begin = f"""
    import os, sys, time, alpaca_nb as anb
    stream = anb.StreamClient(api_key="k", api_secret="s", url={simulator.url + "/v2/iex"!r})
    frame = stream.frame("quotes", "AAPL")
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(begin) + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_program_that_ends_says_goodbye(simulator: anb.LocalSimulator) -> None:
    """Without a disconnect, with handlers and a repair under way, it ends quietly and soon."""
    program = start(
        simulator,
        """
        stream.subscribe_quotes("AAPL", lambda quote: time.sleep(0.2))
        stream.connect()
        frame.wait(20)
        stream.disconnect()
        stream.connect()
        frame.wait(frame.position + 20)
        print("ending", flush=True)
        """,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ending\n"
    ended_s = time.monotonic()
    output, errors = program.communicate(timeout=30)
    assert (program.returncode, output, errors) == (0, "", "")
    assert time.monotonic() - ended_s < 5
    until(lambda: simulator.goodbyes == [GOING, GOING])


def test_ctrl_c_while_connecting_leaves_nothing_behind(simulator: anb.LocalSimulator) -> None:
    """Whoever will not wait for the place interrupts, and may connect again."""
    other = anb.StreamClient(api_key="k", api_secret="s", url=simulator.url + "/v2/iex")
    with other:
        program = start(
            simulator,
            """
            print("connecting", flush=True)
            try:
                stream.connect()
            except KeyboardInterrupt:
                print(stream.status.state, stream.is_connected, flush=True)
            sys.stdin.readline()
            stream.connect()
            frame.wait(5)
            print("again", flush=True)
            """,
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "connecting\n"
        time.sleep(1.0)
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline() == "stopped False\n"
    output, errors = program.communicate("go\n", timeout=30)
    assert (output, errors) == ("again\n", "")


def test_ctrl_c_in_a_program_says_goodbye(simulator: anb.LocalSimulator) -> None:
    """An interrupt that nobody catches ends the program, not the manners."""
    program = start(
        simulator, 'stream.connect()\nframe.wait(5)\nprint("up", flush=True)\ntime.sleep(60)'
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    assert errors.strip().endswith("KeyboardInterrupt")
    until(lambda: simulator.goodbyes == [GOING])


def test_a_kernel_that_restarts_gives_its_place_back(simulator: anb.LocalSimulator) -> None:
    """Restart the kernel, run the cells again: the place is free at once."""
    cell = f"""
    import alpaca_nb as anb
    stream = anb.StreamClient(api_key="k", api_secret="s", url={simulator.url + "/v2/iex"!r})
    frame = stream.frame("quotes", "AAPL")
    stream.connect()
    frame.wait(10)
    """
    manager = KernelManager()
    manager.start_kernel()
    try:
        for turn in range(2):
            client = manager.blocking_client()
            client.start_channels()
            client.wait_for_ready(timeout=30)
            begun_s = time.monotonic()
            reply = client.execute_interactive(textwrap.dedent(cell), timeout=30)
            assert reply["content"]["status"] == "ok"
            client.stop_channels()
            if turn == 0:
                manager.restart_kernel()
                until(lambda: simulator.goodbyes == [GOING])
        # A place that is not free takes the first of the waits, and more.
        assert time.monotonic() - begun_s < 10
    finally:
        manager.shutdown_kernel()
    until(lambda: simulator.goodbyes == [GOING, GOING])


def test_disconnect_may_be_called_at_any_time(simulator: anb.LocalSimulator) -> None:
    """From many threads, twice, in a handler, while it connects: it ends, and soon."""
    stream = anb.StreamClient(api_key="k", api_secret="s", url=simulator.url + "/v2/iex")
    for _ in range(3):
        in_handler = threading.Event()

        def on_quote(quote: Any, done: threading.Event = in_handler) -> None:
            stream.disconnect()
            done.set()

        stream.disconnect()
        stream.connect()
        stream.subscribe_quotes("AAPL", on_quote)
        assert in_handler.wait(10)
        stream.unsubscribe_quotes("AAPL")
        stream.connect()
        threads = [threading.Thread(target=stream.disconnect) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=2)
            assert not thread.is_alive()
        assert not stream.is_connected


def test_disconnect_ends_a_wait_for_a_place(simulator: anb.LocalSimulator) -> None:
    """A connect that waits in another thread is woken and told."""
    holder = anb.StreamClient(api_key="k", api_secret="s", url=simulator.url + "/v2/iex?holder")
    waiting = anb.StreamClient(api_key="k", api_secret="s", url=simulator.url + "/v2/iex")
    failed: list[BaseException] = []

    def connect() -> None:
        try:
            waiting.connect()
        except BaseException as error:
            failed.append(error)

    with holder:
        thread = threading.Thread(target=connect)
        thread.start()
        until(lambda: waiting.status.state == "waiting")
        assert waiting.status.waits_s is not None
        begun_s = time.monotonic()
        waiting.disconnect()
        thread.join(timeout=5)
        assert time.monotonic() - begun_s < 2
    assert isinstance(failed[0], StreamError)


def test_one_connection_for_all_clients(simulator: anb.LocalSimulator) -> None:
    """A second client with another option is told, before the server refuses it."""
    url = simulator.url + "/v2/iex"
    with anb.StreamClient(api_key="k", api_secret="s", url=url):
        other = anb.StreamClient(api_key="k", api_secret="s", url=url, codec="json")
        with pytest.raises(BadInputError, match="codec='msgpack'"):
            other.connect()
    with other:
        assert other.is_connected


async def test_the_async_client_shares_the_connection(simulator: anb.LocalSimulator) -> None:
    """What one client has does not keep another from the only place."""
    url = simulator.url + "/v2/iex"
    stream = anb.StreamClient(api_key="k", api_secret="s", url=url)
    await asyncio.to_thread(stream.connect)
    async with anb.AsyncStreamClient(api_key="k", api_secret="s", url=url) as other:
        async for batch in other.batches("quotes", "AAPL"):
            assert batch[0].symbol == "AAPL"
            break
        assert stream.is_connected
    assert stream.is_connected
    await asyncio.to_thread(stream.disconnect)
