"""How long a notebook waits before anything has been done."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.results import Kind, Table

ABOUT = "Starting"

LOAD = (
    "import time\n"
    "from IPython.core.interactiveshell import InteractiveShell\n"
    "shell = InteractiveShell.instance()\n"
    "start = time.perf_counter()\n"
    "shell.run_line_magic('load_ext', 'alpaca_nb')\n"
    "print(time.perf_counter() - start)\n"
)


def _run(code: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout


def importing(*, small: bool) -> Table:
    """Python that only starts, and Python that imports something."""
    cases: dict[str, tuple[str, Kind]] = {
        "Python alone": ("pass", "floor"),
        "import alpaca_nb": ("import alpaca_nb", "ours"),
        "import pandas": ("import pandas", "peer"),
        "import alpaca.data.live": ("import alpaca.data.live", "peer"),
    }
    table = Table("A Python that starts, imports and ends", "ms", base="Python alone")
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(1 if small else 9):
        for name, (code, _kind) in cases.items():
            taken[name].append(_run(code)[0] * 1000)
    for name, (_code, kind) in cases.items():
        table.add(name, taken[name], kind)
    bare, ours = table.row("Python alone").values, table.row("import alpaca_nb").values
    above = [mine - alone for mine, alone in zip(ours, bare, strict=True)]
    table.figure("import alpaca_nb, above bare Python", above, "ms", at_most=100)
    return table


def loading(*, small: bool) -> Table:
    """`%load_ext alpaca_nb` in an IPython that has just started."""
    table = Table("%load_ext alpaca_nb in a fresh IPython", "ms")
    values = [float(_run(LOAD)[1].split()[-1]) * 1000 for _ in range(1 if small else 9)]
    table.add("%load_ext alpaca_nb", values, "ours")
    table.figure("%load_ext alpaca_nb", values, "ms", at_most=400)
    return table


def measure(*, small: bool) -> list[Table]:
    """All of it."""
    return [importing(small=small), loading(small=small)]
