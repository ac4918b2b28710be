"""Builds the browser modules whenever the package is built or installed from its sources.

The wheel, the sdist and an editable install all come through here. A digest of the sources is
kept beside the built modules, so they are rebuilt exactly when they would be stale, and the
wheel of an unpacked sdist, whose modules are fresh, needs no Node.js.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
JS = ROOT / "js"
STATIC = ROOT / "alpaca_nb" / "view" / "static"
DIGEST = STATIC / "sources.sha256"


class BrowserModules(BuildHookInterface[Any]):
    """Hatchling's hook: it runs before the files of a build are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the browser modules, unless those that are there are fresh."""
        build_browser_modules()


def build_browser_modules() -> None:
    """Build js/ into alpaca_nb/view/static/, unless what is there was made from the same."""
    digest = sources_digest()
    if DIGEST.is_file() and DIGEST.read_text() == digest:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(
            "alpaca_nb builds its browser modules with npm, which was not found: install "
            "Node.js 20.19 or newer, or install alpaca-nb from a wheel, which contains them"
        )
    if packages_are_stale():
        run(npm, "ci", "--no-audit", "--no-fund")
    run(npm, "run", "build")
    DIGEST.write_text(digest)


def sources_digest() -> str:
    """One digest of everything that the browser modules are made from."""
    made_from = [JS / "build.mjs", JS / "package-lock.json", *(JS / "src").rglob("*")]
    digest = hashlib.sha256()
    for path in sorted(path for path in made_from if path.is_file()):
        digest.update(path.relative_to(JS).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def packages_are_stale() -> bool:
    """Whether js/node_modules is missing or older than the lockfile."""
    installed = JS / "node_modules" / ".package-lock.json"
    lock = JS / "package-lock.json"
    return not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime


def run(*command: str) -> None:
    """Run a command in js/, and say what it printed if it fails."""
    done = subprocess.run(command, cwd=JS, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    build_browser_modules()
