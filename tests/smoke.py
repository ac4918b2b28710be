"""What must work wherever the wheel is installed: run by `dev.py test wheel`, outside the checkout.

`python smoke.py` is for what the package itself needs, `python smoke.py --fast` for what
`alpaca-nb[fast]` adds.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jupyter_client.manager import start_new_kernel

import alpaca_nb

CELLS = (
    "%load_ext alpaca_nb",
    "%alpaca_subscribe quotes AAPL MSFT",
    "quotes.wait(50)",
    "assert len(quotes.df) >= 50 and set(quotes.df['symbol']) <= {'AAPL', 'MSFT'}",
    "assert (quotes.df['source'] == 'simulated').all()",
    "import sys; assert ('picows' in sys.modules) is {fast}, 'the wrong transport'",
    "assert {fast} or 'numba' not in sys.modules",
    "%alpaca_chart quotes",
    "%alpaca_status",
    "%alpaca_disconnect",
    "%unload_ext alpaca_nb",
)
"""What is run in a kernel; `{fast}` is whether the extra is there."""


def main() -> None:
    """Raise unless the installed package streams from its simulator into a frame."""
    package = Path(alpaca_nb.__file__).parent
    assert package.parent.name == "site-packages", f"{package} is not an installed package"
    for name in ("table.js", "chart.js"):
        assert (package / "view" / "static" / name).stat().st_size > 1000, name
    subprocess.run([sys.executable, "-m", "alpaca_nb", "--help"], check=True, capture_output=True)
    program = Path(sys.executable).with_name("alpaca-nb")
    subprocess.run([program, "--help"], check=True, capture_output=True)

    fast = "--fast" in sys.argv[1:]
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        for cell in CELLS:
            code = cell.replace("{fast}", str(fast))
            reply = client.execute_interactive(code, timeout=60, output_hook=lambda _: None)
            content = reply["content"]
            assert content["status"] == "ok", "\n".join([code, *content["traceback"]])
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    extra = "[fast]" if fast else ""
    print(f"alpaca_nb{extra} {alpaca_nb.__version__} works as installed in {package}")  # noqa: T201


if __name__ == "__main__":
    main()
