"""The `alpaca-nb` command."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from alpaca_nb.errors import AlpacaError

_BAD_ARGUMENT = 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence and where to read on, instead of the whole usage."""
        self.exit(_BAD_ARGUMENT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after one sentence on what was wrong."""
    parser = _make_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as exited:
        return exited.code if isinstance(exited.code, int) else _BAD_ARGUMENT
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        return _simulate(arguments)
    except AlpacaError as error:
        print(f"{parser.prog} {arguments.command}: {error}", file=sys.stderr)
        return _BAD_ARGUMENT


def _make_parser() -> _Parser:
    parser = _Parser(prog="alpaca-nb", description="Live Alpaca market data in Jupyter.")
    parser.add_argument("--version", action="version", version=f"alpaca-nb {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")

    simulate = commands.add_parser(
        "simulate",
        help="run a local server that speaks Alpaca's protocol; no key, no network",
        description="Run a local server that speaks Alpaca's streaming protocol, fed by a "
        "synthetic market or by a recording.",
    )
    simulate.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    simulate.add_argument(
        "--port", type=int, default=8765, help="port to listen on, 0 for any free one (%(default)s)"
    )
    simulate.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="how fast time goes; 0 is as fast as clients read (%(default)g)",
    )
    market = simulate.add_argument_group("the synthetic market")
    market.add_argument("--seed", type=int, help="same seed, same day, byte for byte (7)")
    market.add_argument("--rate", type=float, help="how much happens (1)")
    market.add_argument(
        "--symbols", nargs="+", metavar="SYMBOL", help="what '*' means: AAPL,MSFT or AAPL MSFT"
    )
    market.add_argument("--date", help="the first trading day (2026-09-21)")
    market.add_argument(
        "--minutes",
        type=int,
        metavar="N",
        help="end after so many minutes; without an end if left out",
    )
    market.add_argument(
        "--amendments",
        type=float,
        metavar="SHARE",
        help="share of trades that are cancelled, corrected or late, from 0 to 1 (0)",
    )
    simulate.add_argument_group("a recording instead").add_argument(
        "--play", metavar="FILE", help="JSONL, JSONL.gz or Parquet in Alpaca's message shape"
    )
    plan = simulate.add_argument_group("the account")
    plan.add_argument("--key", help="accept this key only; any pair is accepted without it")
    plan.add_argument("--secret", help="the secret that belongs to --key")
    plan.add_argument(
        "--plan",
        choices=("basic", "plus"),
        help="what Alpaca's free or paid plan allows; everything is allowed without it",
    )
    plan.add_argument(
        "--connections", type=int, metavar="N", help="connections per feed (what the plan says, 1)"
    )
    plan.add_argument(
        "--symbol-limit", type=int, metavar="N", help="trade and quote symbols per connection"
    )
    plan.add_argument(
        "--rest-limit",
        type=int,
        metavar="N",
        help="REST requests a minute (what the plan says, 200)",
    )
    return parser


def _version() -> str:
    try:
        return version("alpaca-nb")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "(not installed)"


def _simulate(arguments: argparse.Namespace) -> int:
    from alpaca_nb.errors import BadInputError
    from alpaca_nb.sim.plans import Plan
    from alpaca_nb.sim.server import LocalSimulator

    market = {
        name: value
        for name in ("seed", "rate", "symbols", "date", "minutes", "amendments")
        if (value := getattr(arguments, name)) is not None
    }
    if arguments.play is not None and market:
        given = ", ".join(f"--{name}" for name in market)
        raise BadInputError(f"--play replaces the synthetic market; leave out {given}.")
    if "symbols" in market:
        market["symbols"] = [part for each in market["symbols"] for part in each.split(",") if part]
    simulator = LocalSimulator(
        **market,
        play=arguments.play,
        host=arguments.host,
        port=arguments.port,
        speed=arguments.speed,
        key=arguments.key,
        secret=arguments.secret,
        plan={None: Plan, "basic": Plan.basic, "plus": Plan.plus}[arguments.plan](),
        connections=arguments.connections,
        symbol_limit=arguments.symbol_limit,
        rest_limit=arguments.rest_limit,
    )
    # Handlers first: whoever reads the address may stop us at once.
    stopping = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopping.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with simulator:
            _print_address(simulator.url, arguments)
            # Waiting for ever in one piece would not notice a signal on Windows.
            while not stopping.wait(timeout=1.0):
                if not simulator.running:
                    raise AlpacaError("the simulator ended by itself; please report this.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print("Stopped.")
    return 0


def _print_address(url: str, arguments: argparse.Namespace) -> None:
    playing = f"playing {arguments.play}" if arguments.play else "a synthetic market"
    pace = f"at {arguments.speed:g}x" if arguments.speed else "as fast as it is read"
    keys = "the key given" if arguments.key else "any key and secret"
    print(f"Simulator listening on {url} ({playing} {pace}; {keys}). Ctrl-C stops it.")
    print("To use it instead of Alpaca, set in the shell that starts Jupyter:")
    print(f"    export ALPACA_NB_STREAM_URL={url}")
    for name in ("DATA", "TRADING"):
        print(f"    export ALPACA_NB_{name}_URL=http{url.removeprefix('ws')}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
