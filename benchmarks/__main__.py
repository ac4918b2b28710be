"""Runs the benchmarks, prints what they find, and keeps it in build/benchmarks.

python -m benchmarks                    everything, then write docs/performance.md
python -m benchmarks stream start       some parts
python -m benchmarks --small            only to see that they run; nothing is published
python -m benchmarks report             write docs/performance.md from what is kept
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Sequence

from benchmarks import report
from benchmarks.results import Result, environment, save, show

PARTS = (
    "stream",
    "process",
    "storage",
    "candles",
    "charts",
    "start",
    "handlers",
    "subscriptions",
)


def run(part: str, *, small: bool, command: str) -> Result:
    """Measure one part, and print it."""
    module = importlib.import_module(f"benchmarks.{part}")
    print(f"\n=== {module.ABOUT}", flush=True)
    where = environment(command)
    start = time.monotonic()
    tables = module.measure(small=small)
    for table in tables:
        show(table)
    seconds = time.monotonic() - start
    print(f"\n=== {part}: {seconds:.0f} s", flush=True)
    return Result(part, module.ABOUT, tables, where, seconds, small)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}, or report")
    parser.add_argument("--small", action="store_true", help="a few seconds for each part")
    options = parser.parse_args(arguments)
    if options.parts != ["report"] and (unknown := [p for p in options.parts if p not in PARTS]):
        parser.error(f"unknown: {' '.join(unknown)}; parts are {', '.join(PARTS)}")
    if options.parts == ["report"]:
        report.write(report.kept(PARTS))
        return 0
    return run_all(options.parts or PARTS, small=options.small)


def run_all(parts: Sequence[str], *, small: bool) -> int:
    """Run parts one after the other; one that fails costs none of the others."""
    command = " ".join(["python -m benchmarks", *(parts if tuple(parts) != PARTS else ())])
    failed = []
    for part in parts:
        try:
            save(run(part, small=small, command=command))
        except Exception:
            traceback.print_exc()
            failed.append(part)
    if failed:
        print(f"\nFAILED: {', '.join(failed)}", file=sys.stderr)
        return 1
    if tuple(parts) == PARTS and not small:
        report.write(report.kept(PARTS))
        print(f"\nwritten: {report.PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
