"""The magics: each parses its arguments, makes one call on `session`, and shows the result."""

from __future__ import annotations

import argparse
import functools
import shlex
from collections.abc import Callable
from typing import Any, NoReturn, cast

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.display import display

import alpaca_nb.view  # noqa: F401 - teaches frames to show themselves
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.errors import AlpacaError, BadInputError
from alpaca_nb.notebook.session import DEFAULT_FEED, check_name, describe_stream, session
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import CHANNELS

REQUESTABLE = [name for name, channel in CHANNELS.items() if not channel.automatic]
"""The channels that can be subscribed."""


class _HelpShownError(Exception):
    """`-h` was given and answered; there is nothing else to do."""


class _Parser(argparse.ArgumentParser):
    """argparse that raises in place of ending the kernel."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}. {self.prog} -h shows how.")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _HelpShownError

    def parse_line(self, line: str) -> argparse.Namespace:
        try:
            return self.parse_args(shlex.split(line))
        except ValueError as error:
            self.error(f"the line cannot be read ({error})")


def _parser(name: str, does: str, example: str) -> _Parser:
    return _Parser(prog=f"%{name}", description=does, epilog=f"Example: {example}")


def _connect_parser() -> _Parser:
    parser = _parser(
        "alpaca_connect",
        "Connect to a feed; with no API keys, to a simulator in this kernel.",
        "%alpaca_connect iex",
    )
    parser.add_argument("feed", nargs="?", default=DEFAULT_FEED, help=f"{', '.join(ENDPOINTS)}")
    parser.add_argument("--url", help="an exact address, such as ws://127.0.0.1:8765/v2/iex")
    return parser


def _subscribe_parser() -> _Parser:
    parser = _parser(
        "alpaca_subscribe",
        "Subscribe symbols and show them as a live table, bound to a variable.",
        "%alpaca_subscribe quotes AAPL MSFT --as q",
    )
    parser.add_argument("channel", help=", ".join(REQUESTABLE))
    parser.add_argument("symbols", nargs="+", metavar="SYMBOL", help="such as AAPL; * is all")
    parser.add_argument("--as", dest="name", help="the variable's name; the channel's if left out")
    parser.add_argument("--feed", help=f"{', '.join(ENDPOINTS)}; {DEFAULT_FEED} if left out")
    parser.add_argument("--maxlen", type=int, default=1_000_000, help="rows kept")
    parser.add_argument("--keep", metavar="TIME", help="how long rows are kept, such as 1h")
    return parser


def _unsubscribe_parser() -> _Parser:
    parser = _parser(
        "alpaca_unsubscribe",
        "Take symbols away from a frame, or close it; the rows it has stay readable.",
        "%alpaca_unsubscribe quotes MSFT",
    )
    parser.add_argument("name", help="the frame's name, such as quotes")
    parser.add_argument("symbols", nargs="*", metavar="SYMBOL", help="all of them if left out")
    return parser


def _chart_parser() -> _Parser:
    parser = _parser("alpaca_chart", "Show a live chart of a frame.", "%alpaca_chart quotes AAPL")
    parser.add_argument("name", help="the frame's name, such as quotes")
    parser.add_argument(
        "symbol", nargs="?", help="one of the frame's symbols; its first if left out"
    )
    return parser


def _status_parser() -> _Parser:
    return _parser("alpaca_status", "Say what is connected and subscribed.", "%alpaca_status")


def _disconnect_parser() -> _Parser:
    parser = _parser(
        "alpaca_disconnect",
        "Close the connections, or one of them; frames stay and go on after %alpaca_connect.",
        "%alpaca_disconnect",
    )
    parser.add_argument("feed", nargs="?", help="one feed; all of them if left out")
    return parser


def _magic(make_parser: Callable[[], _Parser]) -> Callable[[Any], Any]:
    """Make a method a line magic: parse its line, answer -h, and say errors in one sentence."""

    def decorate(method: Callable[[Any, argparse.Namespace], Any]) -> Any:
        @functools.wraps(method)
        def magic(self: Any, line: str) -> Any:
            try:
                return method(self, make_parser().parse_line(line))
            except _HelpShownError:
                return None
            except AlpacaError as error:
                raise _without_traceback(error) from None

        magic.__doc__ = make_parser().format_help()
        return line_magic(magic)

    return decorate


def _without_traceback(error: AlpacaError) -> AlpacaError:
    # IPython asks the exception; the frames of a magic say nothing to who typed it.
    text = f"{type(error).__name__}: {error}"
    error._render_traceback_ = lambda: [text]  # type: ignore[attr-defined]
    return error


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the answer to the cell that asked, on its own thread


def _show(widget: Any) -> None:
    display(widget)  # type: ignore[no-untyped-call]


@magics_class
class AlpacaMagics(Magics):
    """The line magics of alpaca_nb."""

    @_magic(_connect_parser)
    def alpaca_connect(self, args: argparse.Namespace) -> None:
        """Connect to a feed."""
        client = session.connect(args.feed, url=args.url)
        _say(describe_stream(client.status))

    @_magic(_subscribe_parser)
    def alpaca_subscribe(self, args: argparse.Namespace) -> None:
        """Subscribe, bind and show a frame."""
        session.raise_if_failed()
        self._check_free(args.name or args.channel)
        frame = session.subscribe(
            args.channel,
            args.symbols,
            name=args.name,
            feed=args.feed,
            maxlen=args.maxlen,
            keep=args.keep,
        )
        self._user_ns[frame.name] = frame
        _show(frame.table())

    @_magic(_unsubscribe_parser)
    def alpaca_unsubscribe(self, args: argparse.Namespace) -> None:
        """Take symbols away from a frame, or close it."""
        frame = session.unsubscribe(args.name, args.symbols or None)
        left = "nothing any more" if frame.closed else ", ".join(frame.symbols)
        _say(f"{args.name} receives {left}.")

    @_magic(_chart_parser)
    def alpaca_chart(self, args: argparse.Namespace) -> None:
        """Show a live chart."""
        session.raise_if_failed()
        _show(session.chart(args.name, args.symbol))

    @_magic(_status_parser)
    def alpaca_status(self, args: argparse.Namespace) -> None:
        """Say what is connected and subscribed."""
        _say(str(session.status()))

    @_magic(_disconnect_parser)
    def alpaca_disconnect(self, args: argparse.Namespace) -> None:
        """Close the connections."""
        session.disconnect(args.feed)

    @property
    def _user_ns(self) -> dict[str, Any]:
        assert self.shell is not None
        return cast("dict[str, Any]", self.shell.user_ns)

    def _check_free(self, name: str) -> None:
        """Refuse to overwrite what the user keeps under that name."""
        there = self._user_ns.get(check_name(name))
        if there is not None and not isinstance(there, LiveFrame):
            raise BadInputError(
                f"The variable {name} is in use ({type(there).__name__}); choose another name with "
                "--as NAME."
            )


# -- completion --------------------------------------------------------------------------


@context_matcher(identifier="alpaca_nb")  # type: ignore[untyped-decorator]
def complete(context: CompletionContext) -> SimpleMatcherResult:
    """Offer channels, frame names, feeds and known symbols, each where it belongs."""
    words = context.text_until_cursor.split()
    magic = words[0].lstrip("%") if words else ""
    if magic not in _COMPLETED or (len(words) == 1 and context.token):
        return {"completions": []}
    # The word under the cursor is not an argument yet.
    arguments = words[1:] if not context.token else words[1:-1]
    offered = _candidates(magic, [word for word in arguments if not word.startswith("-")])
    typed = context.token.upper()
    matching = [text for text in offered if text.upper().startswith(typed)]
    return {
        "completions": [SimpleCompletion(text) for text in matching],
        # Python's words have no place in a magic's line.
        "suppress": bool(matching),
        "ordered": True,
    }


def _candidates(magic: str, arguments: list[str]) -> list[str]:
    first = not arguments
    if magic == "alpaca_subscribe":
        return REQUESTABLE if first else _left(session.known_symbols, arguments)
    if magic in ("alpaca_unsubscribe", "alpaca_chart"):
        if first:
            return list(session.frames)
        frame = session.frames.get(arguments[0])
        return _left(frame.symbols if frame is not None else (), arguments)
    return list(ENDPOINTS) if first else []


def _left(symbols: Any, taken: list[str]) -> list[str]:
    return [symbol for symbol in symbols if symbol not in {word.upper() for word in taken}]


_COMPLETED = frozenset(
    f"alpaca_{name}" for name in ("connect", "subscribe", "unsubscribe", "chart", "disconnect")
)


# -- loading -----------------------------------------------------------------------------


def load(shell: InteractiveShell) -> None:
    """Install the magics and their completion."""
    shell.register_magics(AlpacaMagics)
    matchers = _matchers(shell)
    if complete not in matchers:
        matchers.append(complete)


def unload(shell: InteractiveShell) -> None:
    """Remove the magics and end what they started."""
    session.close()
    registered = shell.magics_manager.magics["line"]
    for name in [name for name in registered if name.startswith("alpaca_")]:
        del registered[name]
    matchers = _matchers(shell)
    if complete in matchers:
        matchers.remove(complete)


def _matchers(shell: InteractiveShell) -> list[Any]:
    return shell.Completer.custom_matchers
