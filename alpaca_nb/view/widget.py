"""What every live view is: a widget without market data in it, served by the frame clock."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from comm.base_comm import BaseComm

from alpaca_nb.clock import SYSTEM_CLOCK
from alpaca_nb.view.badge import Tally, badge
from alpaca_nb.view.delta import Cursor, Delta
from alpaca_nb.view.log import LogTail
from alpaca_nb.view.publisher import PUBLISHER, Publisher

if TYPE_CHECKING:
    from alpaca_nb.data.frame import LiveFrame

_STATIC = Path(__file__).parent / "static"

_NOT_BUILT = """
export default {
  render({ el }) {
    el.textContent = "alpaca_nb: the browser half is not built; run `npm run build` in js/.";
  },
};
"""


def script(name: str) -> Path | str:
    """The built browser module of a view; where it is not built, one that says so."""
    path = _STATIC / name
    return path if path.is_file() else _NOT_BUILT


class LiveView(anywidget.AnyWidget):
    """A view of a LiveFrame that moves while its frame does.

    Traits hold configuration only; the data goes in messages of the frame clock, and only to
    pages in which somebody looks. A subclass says what changed (`collect`) and what it is
    (`kind`). `close()` ends it.
    """

    title = traitlets.Unicode().tag(sync=True)
    """What is shown, such as "quotes: AAPL, MSFT"."""
    channel = traitlets.Unicode().tag(sync=True)
    """The frame's channel, such as "quotes"."""

    symbols = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """The frame's symbols, in the order in which they were asked for."""

    kind = "view"
    """What a person calls it."""

    def __init__(
        self, frame: LiveFrame, *, publisher: Publisher = PUBLISHER, **traits: Any
    ) -> None:
        self._frame = frame
        self._publisher = publisher
        self._tally = Tally(frame.channel)
        self._log_tail = LogTail()
        super().__init__(
            title=_title(frame), channel=frame.channel, symbols=list(frame.symbols), **traits
        )
        self.on_msg(self._deliver)
        _unhitch(self.comm, self._handle_msg)
        publisher.add(self)

    @property
    def frame(self) -> LiveFrame:
        """What the view shows."""
        return self._frame

    def collect(self, cursor: Cursor | None) -> Delta | None:
        """What changed since the cursor; everything when it is None; None for nothing."""
        raise NotImplementedError

    def badge(self) -> dict[str, Any]:
        """The status of the frame's stream, as the browser reads it."""
        self._follow_symbols()
        status = self._frame.status
        self._log_tail.see(status.log, logged=status.logged)
        now_ns = SYSTEM_CLOCK.now_ns()
        symbols = self._tally.tell(status.symbols, self._shown(), now_ns=now_ns)
        return badge(status, now_ns=now_ns, symbols=symbols)

    def transmit(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        """Send one message to every page that shows this view, with the news of the log."""
        if message["kind"] == "snapshot":
            # It is for a page that asked for everything.
            self._log_tail.start_over()
        if "status" in message and (news := self._log_tail.news()) is not None:
            message["status"]["log"] = news
        self.send(message, buffers)

    def close(self) -> None:
        """Remove the view from the page and stop serving it. May be called twice."""
        if "_publisher" in self.__dict__:
            self._publisher.remove(self)
        super().close()

    def _shown(self) -> tuple[str, ...]:
        """The symbols that the view shows now; "*" among them means all."""
        return self._frame.symbols

    def _follow_symbols(self) -> None:
        """A frame may get other symbols while it is shown."""
        symbols = list(self._frame.symbols)
        if symbols != self.symbols:
            self.set_trait("title", _title(self._frame))
            self.set_trait("symbols", symbols)

    def _deliver(self, _: object, content: object, buffers: object) -> None:
        # Possibly on another thread, while a cell runs: only pass it on.
        self._publisher.deliver(self, content)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle: tuple[dict[str, Any], dict[str, Any]] | None = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle[0]["text/html"] = self._static_html()
        return bundle

    def _static_html(self) -> str:
        """What a reader without a kernel sees; the same whenever it is made."""
        return (
            f"<p><strong>{html.escape(self.title)}</strong> "
            f"(a live {self.kind} of alpaca_nb; run the notebook to see it move)</p>"
        )


def _unhitch(comm: Any, handle: Callable[[Any], None]) -> None:
    """Let a browser's messages in while a cell runs, without touching what the cell does.

    Two habits of ipykernel are good for widgets whose handlers run user code, and bad for
    ours, which only enqueue. From 7.4 on it takes messages to the thread that last sent one,
    the main one, where they wait for the cell; so "run all" would leave every view empty
    until its last cell ends. JupyterLab has a thread of its own for them, and we let it use
    it. And every message runs IPython's hooks of a cell's end, one of which shows and closes
    matplotlib's figures: with a cell half-way through drawing one, that must not happen.
    """
    if isinstance(comm, BaseComm):
        comm.handle_msg = handle  # type: ignore[assignment, method-assign]
        if hasattr(comm, "_reply_subshell_for"):
            comm._reply_subshell_for = None


def _title(frame: LiveFrame) -> str:
    names = list(frame.symbols)
    more = f" and {len(names) - 6} more" if len(names) > 7 else ""
    symbols = ", ".join(names if not more else names[:6]).replace("*", "all symbols")
    return f"{frame.channel}: {symbols}{more}"
