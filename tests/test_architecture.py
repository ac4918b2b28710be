"""The direction of imports, and the one home of each heavy dependency (docs/design.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "alpaca_nb"

BASE = {"errors", "clock", "credentials"}
MAY_IMPORT = {
    "errors": set(),
    "clock": set(),
    "credentials": {"errors"},
    "wire": BASE | {"wire"},
    "data": BASE | {"wire", "data"},
    "feed": BASE | {"wire", "data", "feed"},
    "sim": BASE | {"wire", "data", "sim"},
    # A view reads a frame and a status; where the data comes from is none of its business.
    "view": BASE | {"wire", "data", "view"},
    "testing": BASE | {"wire", "data", "sim"},
    "notebook": BASE | {"wire", "data", "feed", "sim", "view", "notebook"},
}
"""What the modules of each part may import of alpaca_nb; `__init__` and `__main__` may anything."""

HOMES = {
    "websockets": ("feed/transport.py", "feed/websockets_transport.py", "sim/server.py"),
    "picows": ("feed/picows_transport.py",),
    "httpx": ("feed/rest.py",),
    "anywidget": ("view/",),
    "ipywidgets": ("view/",),
    "traitlets": ("view/", "notebook/"),
    "bokeh": ("view/",),
    "IPython": ("notebook/",),
    "exchange_calendars": ("feed/calendar.py",),
    "numba": ("data/kernels.py",),
    "polars": ("data/export.py",),
    "pyarrow": ("data/export.py", "sim/recording.py"),
}
"""Where each heavy dependency lives; nothing else imports it."""

NO_IO = {"asyncio", "socket", "ssl", "selectors", "http", "urllib"} | {
    dependency
    for dependency, homes in HOMES.items()
    if not any(home.startswith("data/") for home in homes)
}


def parts() -> list[tuple[str, ast.Module]]:
    """Each module's path inside the package, with its syntax tree."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [
        (path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text("utf-8"))) for path in paths
    ]


def imports(tree: ast.Module) -> Iterator[str]:
    """The full name of every module that is imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide their direction"
            assert node.module is not None
            if node.module == "alpaca_nb":
                yield from (f"alpaca_nb.{alias.name}" for alias in node.names)
            else:
                yield node.module


MODULES = parts()


@pytest.mark.parametrize(("path", "tree"), MODULES, ids=[path for path, _ in MODULES])
def test_imports_go_one_way(path: str, tree: ast.Module) -> None:
    """A module imports only from the parts that lie below its own."""
    part = path.split("/")[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return
    used = {name.split(".")[1] for name in imports(tree) if name.startswith("alpaca_nb.")}
    assert used <= MAY_IMPORT[part]


@pytest.mark.parametrize("dependency", HOMES)
def test_each_heavy_dependency_has_one_home(dependency: str) -> None:
    """A heavy dependency is imported by the modules that are its home, and by no other."""
    users = {
        path
        for path, tree in MODULES
        if dependency in {name.partition(".")[0] for name in imports(tree)}
    }
    assert {path for path in users if not path.startswith(HOMES[dependency])} == set()


@pytest.mark.parametrize("part", ["wire", "data"])
def test_the_core_does_no_io(part: str) -> None:
    """The vocabulary, the protocol and the columns know no loop, socket or widget."""
    for path, tree in MODULES:
        if path.startswith(f"{part}/"):
            assert {name.partition(".")[0] for name in imports(tree)} & NO_IO == set(), path


def test_importing_the_package_is_cheap() -> None:
    """`import alpaca_nb` loads no dependency that takes long; they come with their first use."""
    slow = {"pandas", "numpy", "msgspec", "asyncio", *HOMES}
    code = f"import sys, alpaca_nb; print(*({slow!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
