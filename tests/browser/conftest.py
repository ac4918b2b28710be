"""A real JupyterLab, and a real Chromium to look at it with."""

from __future__ import annotations

import inspect
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, sync_playwright

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
ARTIFACTS = Path(__file__).parent / "artifacts"

CHROMIUM_OPTIONS = [
    "--no-sandbox",  # CI and containers run as root
    "--disable-gpu",
    # It must not talk to anyone but the server under test.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]

CELL_LIMIT_MS = 60_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, the one that ALPACA_NB_CHROMIUM names or Playwright's own."""
    path = os.environ.get("ALPACA_NB_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield chromium
        chromium.close()


@dataclass(frozen=True)
class LabServer:
    """A running JupyterLab: its address, its token, and the folder it serves."""

    url: str
    token: str
    folder: Path
    settings: Path

    def choose_theme(self, theme: str) -> None:
        """Set the theme that the next page will have: "light" or "dark"."""
        self.set("apputils-extension/themes", theme=f"JupyterLab {theme.title()}")

    def set(self, schema: str, **values: Any) -> None:
        """Write one settings file of JupyterLab, as its settings editor would."""
        path = self.settings / "@jupyterlab" / f"{schema}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def write_notebook(self, name: str, cells: dict[str, str]) -> None:
        """Write a notebook of code cells by id."""
        kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
        made: list[dict[str, Any]] = [
            {
                "cell_type": "code",
                "id": id_,
                "source": inspect.cleandoc(source),
                "metadata": {},
                "outputs": [],
                "execution_count": None,
            }
            for id_, source in cells.items()
        ]
        content = {
            "cells": made,
            "metadata": {"kernelspec": kernel},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (self.folder / name).write_text(json.dumps(content))

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/status?token={self.token}") as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """JupyterLab with settings of nobody in particular, serving copies of the notebooks."""
    home = tmp_path_factory.mktemp("jupyter")
    folder = home / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = LabServer(f"http://127.0.0.1:{port}", secrets.token_hex(16), folder, home / "settings")
    # Otherwise JupyterLab asks whether it may look for news.
    quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    server.set("apputils-extension/notification", **quiet)

    ARTIFACTS.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "IdentityProvider.token": server.token,
        "LabApp.user_settings_dir": server.settings,
        "LabApp.workspaces_dir": home / "workspaces",
        "LabApp.expose_app_in_browser": True,
    }
    folders = {
        name: str(home / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("APCA_", "ALPACA_"))}
    with (ARTIFACTS / "jupyterlab.log").open("w") as log:
        process = subprocess.Popen(
            command + [f"--{name}={value}" for name, value in options.items()],
            cwd=home,
            env={**inherited, **folders},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            limit = time.monotonic() + 60
            while not server.is_up():
                assert process.poll() is None, "JupyterLab did not start: see jupyterlab.log"
                assert time.monotonic() < limit, "JupyterLab does not answer"
                time.sleep(0.2)
            yield server
        finally:
            process.terminate()  # it ends its kernels first
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@dataclass
class Notebook:
    """A notebook open in JupyterLab, with everything the page complained about."""

    page: Page
    server: LabServer
    name: str
    complaints: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Load the page and wait until the kernel is ready."""
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        query = f"token={self.server.token}&reset"
        self.page.goto(f"{self.server.url}/lab/tree/{self.name}?{query}")
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until the notebook is drawn and its kernel answers."""
        self.page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=CELL_LIMIT_MS)
        # What is run while the page still connects to the kernel is lost.
        self.page.wait_for_function(
            """() => {
              const kernel = jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
              return kernel?.connectionStatus === "connected" && kernel.status === "idle";
            }""",
            timeout=CELL_LIMIT_MS,
        )

    def cell_ids(self) -> list[str]:
        """The ids of the code cells, in their order."""
        cells = json.loads((self.server.folder / self.name).read_text())["cells"]
        return [cell["id"] for cell in cells if cell["cell_type"] == "code"]

    def start_cell(self, id_: str) -> Locator:
        """Run the code cell with this id, without waiting for its end."""
        index = self.cell_ids().index(id_)
        cell = self.page.locator(".jp-NotebookPanel .jp-CodeCell").nth(index)
        cell.locator(".jp-InputArea-editor").click()
        # `void`: the command's promise settles when the cell ends, and Playwright would wait.
        self.page.evaluate("void window.jupyterapp.commands.execute('notebook:run-cell')")
        return cell

    def finish_cell(self, cell: Locator) -> Locator:
        """Wait for a started cell to end; fail with what it says if it ends in an error."""
        prompt = cell.locator(".jp-InputArea-prompt")
        self.page.wait_for_function(
            "element => /\\[\\d+\\]/.test(element.textContent)",
            arg=prompt.element_handle(),
            timeout=CELL_LIMIT_MS,
        )
        for kind in ("stderr", "error"):
            problems = cell.locator(f'[data-mime-type="application/vnd.jupyter.{kind}"]')
            assert problems.count() == 0, problems.all_inner_texts()
        return cell

    def run_cell(self, id_: str) -> Locator:
        """Run a code cell to its end."""
        return self.finish_cell(self.start_cell(id_))

    def save(self) -> None:
        """Save the notebook as it is, outputs included."""
        self.page.evaluate("void jupyterapp.commands.execute('docmanager:save')")
        self.page.wait_for_function(
            "() => !jupyterapp.shell.currentWidget.context.model.dirty", timeout=CELL_LIMIT_MS
        )

    def shut_down(self) -> None:
        """End the kernel, so that the next test has one of its own."""
        self.page.evaluate("void jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.wait_for_function(
            "() => !jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
        )

    def is_busy(self, cell: Locator) -> bool:
        """Whether a started cell is still running."""
        return "*" in (cell.locator(".jp-InputArea-prompt").text_content() or "")

    def expect_motion(self, part: Locator, *, during_s: float = 3, values: int = 3) -> None:
        """Fail unless a part of the page says so many different things over some time."""
        seen = set()
        end = time.monotonic() + during_s
        while time.monotonic() < end:
            seen.add(part.inner_text())
            self.page.wait_for_timeout(200)
        assert len(seen) >= values, f"{part} stands still: {seen}"

    def screenshot(self, name: str) -> None:
        """Keep a picture of the page as it is now."""
        self.page.screenshot(path=ARTIFACTS / f"{name}.png")

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            where = message.location.get("url", "")
            self.complaints.append(f"{message.text} ({where})")


@pytest.fixture
def open_notebook(
    browser: Browser, lab: LabServer, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """A function that opens a notebook by name, in the theme "light" or "dark".

    When the test is over, a last picture of the page is kept.
    """
    notebooks: list[Notebook] = []

    def open_(name: str, *, theme: str = "light") -> Notebook:
        lab.choose_theme(theme)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        notebook = Notebook(page, lab, name)
        notebooks.append(notebook)
        notebook.open()
        return notebook

    yield open_
    for notebook in notebooks:
        notebook.screenshot(f"{request.node.name}-end")
        notebook.shut_down()
        notebook.page.close()
