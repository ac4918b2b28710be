"""BokehJS, once per page.

A chart must not carry BokehJS itself: every anywidget imports its own copy of its module,
so ten charts would mean ten evaluations and ten times 1.3 MB in a saved notebook. Instead
one hidden widget per kernel carries the JavaScript that ships inside the installed bokeh
wheel, so its version always matches the figures that this kernel makes and nothing is
fetched from the network. Charts hold a reference to the carrier; `js/src/bokeh.ts` turns
its bytes into one private BokehJS per page and version.
"""

from __future__ import annotations

import gzip
import threading
from functools import cache
from pathlib import Path

import anywidget
import bokeh
import traitlets

from alpaca_nb.errors import AlpacaError

_SCRIPT = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"


class BokehRuntime(anywidget.AnyWidget):
    """The hidden carrier of BokehJS; get the kernel's one with `bokeh_runtime()`."""

    # The carrier is only ever looked up by charts, so its own module does nothing.
    _esm = "export default {};"

    version = traitlets.Unicode().tag(sync=True)
    """The version of the bokeh package, and so of the script."""

    script = traitlets.Bytes().tag(sync=True)
    """`bokeh.min.js`, gzipped. State and not a message: a page that is reloaded gets it
    again without asking, and a notebook that stores widget state stores it once."""

    def __init__(self) -> None:
        super().__init__(version=bokeh.__version__, script=compressed_script())

    def __repr__(self) -> str:
        return f"BokehRuntime({self.version})"


@cache
def compressed_script() -> bytes:
    """Return the installed wheel's `bokeh.min.js`, gzipped; equal bytes on every call.

    Raises AlpacaError if the bokeh installation has no JavaScript.
    """
    try:
        script = _SCRIPT.read_bytes()
    except OSError as error:
        raise AlpacaError(
            f"The installed bokeh {bokeh.__version__} lacks {_SCRIPT.name}; "
            "reinstall it with: pip install --force-reinstall bokeh"
        ) from error
    return gzip.compress(script, mtime=0)


_lock = threading.Lock()
_runtime: BokehRuntime | None = None


def bokeh_runtime() -> BokehRuntime:
    """Return this kernel's carrier of BokehJS, making it on the first call.

    A carrier that was closed (`Widget.close_all()` closes every widget of the kernel) is
    replaced by a new one.
    """
    global _runtime
    with _lock:
        if _runtime is None or _runtime.comm is None:
            _runtime = BokehRuntime()
        return _runtime
