"""What a benchmark found: tables of rows, the figures that have a target, and the machine.

Rows and figures keep the value of each round, so that a reader sees how far they scatter.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "benchmarks"
"""Where results lie, one file for each part; small ones in a folder of their own."""

PACKAGES = (
    "alpaca-py",
    "bokeh",
    "ipython",
    "llvmlite",
    "msgspec",
    "numba",
    "numpy",
    "pandas",
    "perspective-python",
    "picows",
    "polars",
    "pyarrow",
    "websockets",
)

Kind = Literal["ours", "peer", "floor"]


@dataclass(frozen=True)
class Row:
    """One contestant: what it took in each round."""

    name: str
    values: Sequence[float]
    kind: Kind = "peer"

    @property
    def median(self) -> float:
        """The value in the middle."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Figure:
    """One number that matters, often a ratio, with the target where there is one."""

    name: str
    values: Sequence[float]
    unit: str = "x"
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        """The value in the middle."""
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the median keeps the target; None without one."""
        if self.at_least is not None:
            return self.median >= self.at_least
        if self.at_most is not None:
            return self.median <= self.at_most
        return None

    @property
    def target(self) -> str:
        """The target in words, or nothing."""
        if self.at_least is not None:
            return f"≥ {with_unit(self.at_least, self.unit)}"
        if self.at_most is not None:
            return f"≤ {with_unit(self.at_most, self.unit)}"
        return ""


@dataclass
class Table:
    """Contestants of one round each beside the other; ratios are against `base`."""

    title: str
    unit: str
    rows: list[Row] = field(default_factory=list)
    base: str | None = None
    about: str = ""
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, values: Sequence[float], kind: Kind = "peer") -> None:
        """Append a row."""
        self.rows.append(Row(name, list(values), kind))

    def row(self, name: str) -> Row:
        """The row of that name; KeyError if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def ratios(self, over: str, under: str) -> list[float]:
        """One row over another, round by round: what speeds up both changes nothing."""
        pairs = zip(self.row(over).values, self.row(under).values, strict=True)
        return [above / below for above, below in pairs]

    def ratio(
        self,
        name: str,
        over: str,
        under: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Append the ratio of two rows as a figure."""
        self.figures.append(Figure(name, self.ratios(over, under), "x", at_least, at_most))

    def figure(
        self,
        name: str,
        values: Sequence[float],
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Append any other figure."""
        self.figures.append(Figure(name, list(values), unit, at_least, at_most))


@dataclass
class Result:
    """All that one part found, and where."""

    part: str
    about: str
    tables: list[Table]
    environment: dict[str, Any]
    seconds: float = 0.0
    small: bool = False


# -- where it was measured ---------------------------------------------------------------


def environment(command: str) -> dict[str, Any]:
    """The machine, the versions and the moment."""
    return {
        "command": command,
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# -- files -------------------------------------------------------------------------------


def path_of(part: str, *, small: bool) -> Path:
    """Where the result of a part is kept."""
    return (FOLDER / "small" if small else FOLDER) / f"{part}.json"


def save(result: Result) -> Path:
    """Write a result to its place, and say where that is."""
    path = path_of(result.part, small=result.small)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return path


def load(path: Path) -> Result:
    """Read a result back."""
    data = json.loads(path.read_text())
    tables = [
        Table(
            **{
                **table,
                "rows": [Row(**row) for row in table["rows"]],
                "figures": [Figure(**figure) for figure in table["figures"]],
            }
        )
        for table in data.pop("tables")
    ]
    return Result(tables=tables, **data)


# -- for people --------------------------------------------------------------------------


def number(value: float) -> str:
    """Three digits that count, and no more than a reader can use."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}".removesuffix(".0")
    if size >= 1:
        return f"{value:.2f}".removesuffix("0").removesuffix(".0")
    return f"{value:.3g}"


def with_unit(value: float, unit: str) -> str:
    """A number with its unit; a ratio is written as one word."""
    return f"{number(value)}x" if unit == "x" else f"{number(value)} {unit}"


def span(values: Sequence[float]) -> str:
    """The least and the most, where there is more than one value."""
    return f"{number(min(values))}-{number(max(values))}" if len(values) > 1 else ""


def verdict(figure: Figure) -> str:
    """Whether a target was reached, in a word."""
    return {True: "reached", False: "missed", None: ""}[figure.reached]


def show(table: Table) -> None:
    """Print a table to be read in a terminal."""
    print(f"\n{table.title} ({table.unit})")
    base = table.row(table.base).median if table.base else None
    for row in table.rows:
        mark = {"ours": "*", "floor": "_", "peer": " "}[row.kind]
        ratio = f"{number(row.median / base):>9}x" if base else ""
        print(f" {mark} {row.name:<58}{number(row.median):>11}{span(row.values):>20}{ratio}")
    for figure in table.figures:
        value = with_unit(figure.median, figure.unit)
        scatter = f" ({span(figure.values)})" if len(figure.values) > 1 else ""
        target = f"   {figure.target}: {verdict(figure)}" if figure.target else ""
        print(f"   -> {figure.name}: {value}{scatter}{target}")
    sys.stdout.flush()
