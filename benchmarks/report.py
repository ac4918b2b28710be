"""Writes docs/performance.md from the results in build/benchmarks; never edit that page by hand.

python -m benchmarks report
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import (
    FOLDER,
    ROOT,
    Figure,
    Result,
    Table,
    load,
    number,
    span,
    verdict,
    with_unit,
)

PAGE = ROOT / "docs" / "performance.md"

_HEAD = """\
# Performance

This page is written by `python -m benchmarks report` from the results of `python -m benchmarks`;
nobody edits it. What is measured and how is told in [benchmarks](../benchmarks/README.md).

The machine changes its speed from second to second. The contestants of a table therefore take
turns, round by round: a figure is the median of the rounds, beside it the least and the most,
and a ratio is the median of the ratios within each round. **Ratios mean something on another
machine; the other figures do not.** Rows in bold are ours, those in italics are a floor: the least
that any client of that kind can do.
"""


def write(results: Sequence[Result], page: Path = PAGE) -> None:
    """Write the page. Raises ValueError for results that are none: of a small run, or no run."""
    if not results:
        raise ValueError(f"There is no result in {FOLDER}; run `python -m benchmarks` first.")
    if any(result.small for result in results):
        raise ValueError("Small runs only show that the benchmarks run; they are not published.")
    page.write_text("\n".join(_page(results)).rstrip() + "\n", "utf-8")


def kept(order: Iterable[str], folder: Path = FOLDER) -> list[Result]:
    """The results there are, in this order."""
    paths = [folder / f"{part}.json" for part in order]
    return [load(path) for path in paths if path.exists()]


def _page(results: Sequence[Result]) -> Iterator[str]:
    yield _HEAD
    yield from _where(results)
    figures = [
        figure
        for result in results
        for table in result.tables
        for figure in table.figures
        if figure.target
    ]
    if figures:
        yield "\n## Targets\n"
        yield from _figures(figures)
    for result in results:
        yield f"\n## {result.about}"
        for table in result.tables:
            yield from _table(table)


def _where(results: Sequence[Result]) -> Iterator[str]:
    first = results[0].environment
    yield f"- Machine: {first['processor']}, {first['cores']} cores, {first['system']}"
    yield f"- {first['python']}"
    packages = ", ".join(f"{name} {version}" for name, version in first["packages"].items())
    yield f"- Packages: {packages}"
    runs: dict[str, list[str]] = {}
    for result in results:
        runs.setdefault(_run(result.environment, first), []).append(result.part)
    for run, parts in runs.items():
        which = "" if len(runs) == 1 else f" ({', '.join(parts)})"
        yield f"- Measured{which} {run}"


def _run(environment: dict[str, Any], first: dict[str, Any]) -> str:
    text = f"{environment['date'].partition(' ')[0]} by `{environment['command']}`"
    same = all(environment[name] == first[name] for name in ("processor", "python", "packages"))
    return text if same else f"{text}, with {environment['python']} or versions of its own"


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
    yield "| what | measured | least-most | target | |"
    yield "|---|---:|---:|---:|---|"
    for figure in figures:
        value = with_unit(figure.median, figure.unit)
        cells = (figure.name, value, span(figure.values), figure.target, verdict(figure))
        yield f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _table(table: Table) -> Iterator[str]:
    yield f"\n### {table.title}\n"
    if table.about:
        yield f"{table.about}\n"
    if table.rows:
        base = table.row(table.base).median if table.base else None
        yield f"| | {table.unit} | least-most |" + (f" against {table.base} |" if base else "")
        yield "|---|---:|---:|" + ("---:|" if base else "")
        for row in table.rows:
            name = {"ours": f"**{row.name}**", "floor": f"*{row.name}*"}.get(row.kind, row.name)
            line = f"| {name} | {number(row.median)} | {span(row.values)} |"
            yield line + (f" {number(row.median / base)}x |" if base else "")
    others = [figure for figure in table.figures if not figure.target]
    if others:
        yield ""
        for figure in others:
            scatter = f" ({span(figure.values)})" if len(figure.values) > 1 else ""
            yield f"- {figure.name}: {with_unit(figure.median, figure.unit)}{scatter}"
