"""How long a kernel waits for alpaca_nb before anything is asked of it."""

from __future__ import annotations

import subprocess
import sys

IMPORT_S = 0.1
LOAD_EXT_S = 0.4

LATER = {
    "anywidget", "bokeh", "exchange_calendars", "httpx", "ipywidgets", "numba", "pandas",
    "picows", "polars", "pyarrow",
}  # fmt: skip
"""What is loaded when somebody asks for what needs it."""

# Work and not time, because a machine that runs tests has other things to do.
IN_A_SHELL = """
import sys
from time import process_time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
start = process_time()
shell.run_line_magic("load_ext", "alpaca_nb")
print(process_time() - start, *(set(sys.modules) - before))
"""

IN_PYTHON = """
from time import process_time
start = process_time()
import alpaca_nb
print(process_time() - start)
"""


def run(code: str) -> tuple[float, set[str]]:
    """The seconds of work, and the names, that a program tells in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *names = done.stdout.split()
    return float(seconds), set(names)


def best(code: str) -> float:
    """The least work of several runs: what else the machine does only adds to it."""
    return min(run(code)[0] for _ in range(5))


def test_importing_takes_no_time() -> None:
    """`import alpaca_nb` is done within a tenth of a second."""
    assert best(IN_PYTHON) < IMPORT_S


def test_loading_the_magics_takes_little() -> None:
    """`%load_ext alpaca_nb` is done before somebody has read the line."""
    assert best(IN_A_SHELL) < LOAD_EXT_S


def test_the_magics_load_nothing_slow() -> None:
    """Widgets, pandas, history and calendars come with the first call that needs them."""
    _, names = run(IN_A_SHELL)
    assert {name.partition(".")[0] for name in names} & LATER == set()
    assert "alpaca_nb.notebook.magics" in names


def test_every_public_name_is_offered() -> None:
    """What is loaded late is there all the same: in `dir`, and by `from alpaca_nb import *`."""
    code = (
        "print(0); import alpaca_nb; known = dir(alpaca_nb)\n"
        "from alpaca_nb import *\n"
        "assert set(alpaca_nb.__all__) <= set(known) & set(globals())\n"
    )
    run(code)
