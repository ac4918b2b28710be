#!/usr/bin/env python3
"""Everything a developer needs, in two commands; it runs on a bare Python 3.11 or newer.

    python3 dev.py lab               open JupyterLab on the quickstart notebook
    python3 dev.py test [stage ...]  run every check that CI runs, or only some stages

Both set up what they need in .venv/ and js/node_modules/, and are quick when that is done.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent
JS = ROOT / "js"
VENV = ROOT / ".venv"
BUILD = ROOT / "build"
REPORTS = BUILD / "reports"
TESTED = ROOT / "constraints" / "tested.txt"
LOWEST = ROOT / "constraints" / "lowest.txt"

STAGE_LIMIT_S = 1200
"""No stage takes this long; one that does hangs, and is stopped."""


class StageError(Exception):
    """A stage failed, and its output or this text says why."""


class NotAvailableError(Exception):
    """A stage cannot run on this machine; the text says what is missing."""


@dataclass(frozen=True)
class Count:
    """What a stage checked: the tests of a test runner, or one for a check of another kind."""

    passed: int = 1
    failed: int = 0
    skipped: int = 0


# Running things


def program(name: str, venv: Path = VENV) -> str:
    """The path of a program inside a virtual environment."""
    return str(venv / ("Scripts" if os.name == "nt" else "bin") / name)


def npm() -> str:
    """The path of npm, or an error that says where to get it."""
    found = shutil.which("npm")
    if found is None:
        raise StageError("npm was not found: install Node.js 20.19 or newer")
    return found


def run(
    *command: str | Path,
    cwd: Path = ROOT,
    env: Mapping[str, str | None] | None = None,
    quiet: bool = False,
) -> None:
    """Run a command; raise StageError unless it succeeds in time.

    `env` is laid over this process's environment; None takes a name out. A quiet command
    shows its output only when it fails.
    """
    words = [str(word) for word in command]
    merged = {**os.environ, **(env or {})}
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env={name: value for name, value in merged.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        # Its own group, so that what it started (kernels, browsers) can be stopped with it.
        start_new_session=os.name == "posix",
    )
    shown = Path(words[0]).name + " " + " ".join(words[1:])
    try:
        output, _ = process.communicate(timeout=STAGE_LIMIT_S)
    except BaseException as error:
        stop(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise StageError(f"stopped after {STAGE_LIMIT_S} s: {shown}") from None
        raise
    if process.returncode != 0:
        if output:
            print(output)
        raise StageError(f"exit code {process.returncode}: {shown}")


def stop(process: subprocess.Popen[str]) -> None:
    """End a process and everything it started."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def is_root() -> bool:
    """Whether this process may install system packages."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def apt_install(*packages: str) -> None:
    """Install Debian packages; only root on Debian and its relatives can."""
    noninteractive = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", env=noninteractive, quiet=True)
    run(
        *("apt-get", "install", "-q", "-y", "--no-install-recommends", *packages),
        env=noninteractive,
        quiet=True,
    )


# Setting up


def setup(*, develop: bool) -> None:
    """Bring .venv/, js/node_modules/ and the built browser modules up to date.

    With `develop` the tools of the checks are installed too. What was installed from is
    remembered, so a second call with nothing changed takes under a second.
    """
    wanted = fingerprint()
    remembered = VENV / "alpaca-nb-setup.json"
    installed: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        installed = json.loads(remembered.read_text())
    if "develop" in installed:
        develop = True
    profile = "develop" if develop else "run"
    if installed.get(profile) != wanted:
        npm()  # better to fail here than after a minute of installing
        if not has_pip(VENV):
            make_venv(VENV)
        print(f"installing into {VENV} (a minute or two, once)", flush=True)
        pip = (program("python"), "-m", "pip", "install", "-q", "--disable-pip-version-check")
        # Dependency groups need pip 25.1; hatchling builds the editable install right here.
        run(*pip, "--upgrade", "pip>=25.1", "hatchling>=1.27")
        groups = ("--group", "dev") if develop else ()
        run(
            *(*pip, "--no-build-isolation", "-c", TESTED),
            *("-e", ".[notebook,parquet,fast,polars]", *groups),
        )
        remembered.write_text(json.dumps({profile: wanted}))
    run(program("python"), "hatch_build.py")


def fingerprint() -> str:
    """One digest of what the environment is installed from."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (ROOT / "pyproject.toml", ROOT / "hatch_build.py", TESTED):
        digest.update(path.read_bytes())
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def has_pip(venv: Path) -> bool:
    """Whether the environment is there and its Python has pip."""
    python = program("python", venv)
    if not Path(python).exists():
        return False
    check = [python, "-c", "import pip"]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def make_venv(venv: Path) -> None:
    """Make a virtual environment with pip, also where Python comes without ensurepip."""
    shutil.rmtree(venv, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    # Debian splits ensurepip off into python3-venv; any pip at all can fill the environment.
    shutil.rmtree(venv, ignore_errors=True)
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    with tempfile.TemporaryDirectory() as folder:
        pip = find_pip(Path(folder))
        if pip is None:
            shutil.rmtree(venv, ignore_errors=True)
            raise StageError(f"Python cannot make a virtual environment:\n{done.stdout}")
        run(*pip, "--python", program("python", venv), "install", "-q", "pip")


def find_pip(folder: Path) -> list[str] | None:
    """A command that runs pip: this Python's own, or Debian's pip wheel unpacked in `folder`."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    if shutil.which("apt-get") is None:
        return None
    # No root is needed to download a package, given a place of our own for apt's lists.
    lists, cache = folder / "lists" / "partial", folder / "cache" / "archives" / "partial"
    lists.mkdir(parents=True)
    cache.mkdir(parents=True)
    places = (f"Dir::State::lists={lists.parent}", f"Dir::Cache={folder / 'cache'}")
    options = [word for place in places for word in ("-o", place)]
    run("apt-get", *options, "update", "-q", quiet=True)
    run("apt-get", *options, "download", "-q", "python3-pip-whl", cwd=folder, quiet=True)
    (package,) = folder.glob("*.deb")
    run("dpkg-deb", "-x", package, folder)
    (wheel,) = folder.glob("usr/share/python-wheels/pip-*.whl")
    return [sys.executable, str(wheel / "pip")]


def find_chromium() -> str | None:
    """A Chromium or Chrome that is there, or that can be installed; None is Playwright's own.

    Raises NotAvailableError where none can be had.
    """
    given = os.environ.get("ALPACA_NB_CHROMIUM")
    if given:
        return given
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

    def on_path() -> str | None:
        found = (shutil.which(name) for name in names)
        return next((path for path in found if path is not None), None)

    if (path := on_path()) is not None:
        return path
    for app in ("Chromium.app/Contents/MacOS/Chromium", "Google Chrome.app/Contents/MacOS/Chrome"):
        if (Path("/Applications") / app).exists():
            return str(Path("/Applications") / app)
    if is_root() and shutil.which("apt-get"):
        print("installing Debian's chromium", flush=True)
        with contextlib.suppress(StageError):
            apt_install("chromium", "fonts-dejavu-core")
        if (path := on_path()) is not None:
            return path
    try:
        run(program("playwright"), "install", "chromium", quiet=True)
    except StageError:
        raise NotAvailableError(
            "no Chromium or Chrome was found and none could be installed; "
            "install one, or name it in ALPACA_NB_CHROMIUM"
        ) from None
    return None


# Stages


def test_environment() -> dict[str, str | None]:
    """What the tests see: no keys, and Jupyter settings of nobody in particular."""
    scratch = BUILD / "jupyter"
    scratch.mkdir(parents=True, exist_ok=True)
    ours = {"ALPACA_NB_REAL_DATA", "ALPACA_NB_CHROMIUM"}
    hidden = [
        name for name in os.environ if name.startswith(("APCA_", "ALPACA_")) and name not in ours
    ]
    return {
        **dict.fromkeys(hidden),
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_CONFIG_DIR": str(scratch / "config"),
        "JUPYTER_DATA_DIR": str(scratch / "data"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_tests(name: str, *command: str | Path, **options: str) -> Count:
    """Run a test runner that writes a JUnit report, and count what the report says."""
    report = REPORTS / f"{name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    failure: StageError | None = None
    try:
        run(*command, cwd=ROOT / options.get("cwd", "."), env={**test_environment(), **options})
    except StageError as error:
        failure = error
    count = read_report(report)
    if count is None or (failure is not None and count.failed == 0):
        raise failure or StageError(f"{name} wrote no report")
    if count.passed + count.failed == 0 and count.skipped == 0:
        raise StageError(f"{name} ran no test")
    return count


def read_report(path: Path) -> Count | None:
    """The totals of a JUnit report, or None where there is no report."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    suites = [root] if root.tag == "testsuite" else root.findall("testsuite")

    def total(name: str) -> int:
        return sum(int(suite.get(name) or 0) for suite in suites)

    failed = total("failures") + total("errors")
    skipped = total("skipped")
    return Count(total("tests") - failed - skipped, failed, skipped)


def pytest(name: str, *arguments: str | Path, **environment: str) -> Count:
    """Run pytest as one stage."""
    report = f"--junitxml={REPORTS / name}.xml"
    return run_tests(name, program("python"), "-m", "pytest", report, *arguments, **environment)


def stage_lint() -> Count:
    """Ruff: rules, and the format."""
    run(program("ruff"), "check", ".")
    run(program("ruff"), "format", "--check", ".")
    return Count()


def stage_types() -> Count:
    """Mypy, strict."""
    run(program("mypy"))
    return Count()


def stage_python() -> Count:
    """The unit tests of the Python package."""
    return pytest("python", "-q", "--durations=8")


def stage_js() -> Count:
    """TypeScript, Biome and the unit tests of the browser half."""
    run(npm(), "run", "--silent", "check", cwd=JS)
    report = f"--outputFile.junit={REPORTS / 'js.xml'}"
    reporters = ("--reporter=default", "--reporter=junit", report)
    return run_tests("js", npm(), "test", "--silent", "--", *reporters, cwd="js")


def stage_notebooks() -> Count:
    """Every notebook, executed: what it shows must equal what is stored in it."""
    return pytest("notebooks", "-q", "--nbval", "--nbval-current-env", "notebooks")


def stage_browser() -> Count:
    """JupyterLab in Chromium, driven like a person would."""
    chromium = find_chromium()
    environment = {} if chromium is None else {"ALPACA_NB_CHROMIUM": chromium}
    return pytest("browser", "-q", "-m", "browser", "tests/browser", **environment)


def stage_benchmarks() -> Count:
    """Every benchmark, small: only that it runs and that nothing is lost; figures are no matter."""
    run(program("python"), "-m", "benchmarks", "--small", env=test_environment())
    return Count()


def stage_wheel() -> Count:
    """The wheel and the sdist: what is inside, and that they install and work elsewhere."""
    checked = 0
    folder = BUILD / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    build = (program("python"), "-m", "build", "--no-isolation")
    run(*build, "--sdist", "--wheel", "--outdir", folder / "checkout", quiet=True)
    (wheel,) = (folder / "checkout").glob("*.whl")
    (sdist,) = (folder / "checkout").glob("*.tar.gz")
    checked += check_contents(wheel, sdist)

    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (unpacked,) = (folder / "sdist").iterdir()
    no_node = {"PATH": str(Path(program("python")).parent)}
    run(*build, "--wheel", "--outdir", folder / "again", unpacked, env=no_node, quiet=True)
    (again,) = (folder / "again").glob("*.whl")
    if wheel_files(again) != wheel_files(wheel):
        raise StageError("the wheel from the sdist differs from the wheel from the checkout")
    checked += 1

    clean = folder / "venv"
    make_venv(clean)
    python = program("python", clean)
    install = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    run(*install, "-c", TESTED, wheel, "ipykernel")
    outside = folder / "elsewhere"
    outside.mkdir()
    smoke = ROOT / "tests" / "smoke.py"
    environment = {**test_environment(), "PYTHONPATH": None}
    run(python, smoke, cwd=outside, env=environment)
    run(*install, "-c", TESTED, f"{wheel}[fast]")
    run(python, smoke, "--fast", cwd=outside, env=environment)
    return Count(checked + 2)


def wheel_files(wheel: Path) -> dict[str, int]:
    """The names in a wheel, each with the checksum of its content."""
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.CRC for item in archive.infolist()}


def check_contents(wheel: Path, sdist: Path) -> int:
    """Raise StageError unless both hold what they must and nothing else; how many were checked."""
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    in_wheel = set(wheel_files(wheel))
    sources = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "py.typed", "view/static/*")
        for path in (ROOT / "alpaca_nb").rglob(pattern)
    }
    if not any(name.endswith("static/table.js") for name in sources):
        raise StageError("the browser modules were not built")
    packaged = {name for name in in_wheel if ".dist-info/" not in name}
    for text, names in (
        ("the wheel lacks", sources - packaged),
        ("the wheel should not contain", packaged - sources),
        ("the sdist lacks", (sources | {"js/package-lock.json", "LICENSE"}) - in_sdist),
        ("the sdist should not contain", {n for n in in_sdist if "node_modules" in n}),
    ):
        if names:
            raise StageError(f"{text} {', '.join(sorted(names))}")
    return 2


def stage_bounds() -> Count:
    """The unit tests with the lowest versions that pyproject.toml allows (not run by default)."""
    venv = BUILD / "bounds"
    if not has_pip(venv):
        make_venv(venv)
    python = program("python", venv)
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    run(*pip, "--upgrade", "pip>=25.1", "hatchling>=1.27")
    install = ("-e", ".[parquet,fast,polars]", "--group", "test")
    run(*pip, "--no-build-isolation", "-c", LOWEST, *install)
    report = f"--junitxml={REPORTS / 'bounds.xml'}"
    return run_tests("bounds", python, "-m", "pytest", "-q", report)


STAGES: dict[str, Callable[[], Count]] = {
    "lint": stage_lint,
    "types": stage_types,
    "python": stage_python,
    "js": stage_js,
    "notebooks": stage_notebooks,
    "browser": stage_browser,
    "benchmarks": stage_benchmarks,
    "wheel": stage_wheel,
}
ON_REQUEST: dict[str, Callable[[], Count]] = {"bounds": stage_bounds}


# Commands


def test(names: Sequence[str]) -> int:
    """Run the named stages, or all; print what each did, and return the exit code."""
    stages = {**STAGES, **ON_REQUEST}
    chosen = {name: stages[name] for name in names} if names else STAGES
    lines: list[str] = []
    totals = Count(0)
    skips: list[str] = []
    for name, stage in {"setup": stage_setup, **chosen}.items():
        print(f"\n=== {name}: {stage.__doc__}", flush=True)
        start = time.monotonic()
        verdict, problem = "ok", ""
        try:
            count = stage()
        except StageError as error:
            count, problem = Count(0, failed=1), str(error)
        except NotAvailableError as reason:
            # CI must not pass without what it is there to check.
            required = os.environ.get("CI", "").lower() in ("1", "true")
            count = Count(0, failed=1) if required else Count(0, skipped=1)
            verdict = "skipped"
            skips.append(f"The {name} stage was not run: {reason}.")
        seconds = time.monotonic() - start
        if count.failed:
            verdict = "FAILED"
        lines.append(f"  {name:<10} {verdict:<8} {count.passed:>5} passed {seconds:>7.1f} s")
        print(f"=== {name}: {verdict}, {seconds:.1f} s {problem}", flush=True)
        totals = Count(
            totals.passed + count.passed,
            totals.failed + count.failed,
            totals.skipped + count.skipped,
        )
        if name == "setup" and count.failed:
            break
    print("\n" + "\n".join(lines) + "\n")
    for text in skips:
        print(text)
    skipped = f", {totals.skipped} skipped" if totals.skipped else ""
    print(f"{totals.passed} passed, {totals.failed} failed{skipped}", flush=True)
    return 1 if totals.failed else 0


def stage_setup() -> Count:
    """Bring the environment up to date."""
    setup(develop=True)
    return Count(0)


def lab(arguments: Sequence[str]) -> int:
    """Open JupyterLab on the quickstart notebook, with whatever options it was given."""
    setup(develop=False)
    as_root = ["--allow-root"] if is_root() else []
    # As the default address, so that the one it prints leads to the notebook too.
    notebook = "--LabApp.default_url=/lab/tree/notebooks/01_quickstart.ipynb"
    command = [program("jupyter"), "lab", notebook, *as_root, *arguments]
    os.chdir(ROOT)
    if os.name == "posix":
        # Take our place, so that Ctrl-C means JupyterLab and nothing else.
        os.execv(command[0], command)
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Run the command that the command line names; return the exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 (this file may be met by an older Python)
        print("alpaca_nb needs Python 3.11 or newer", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    lab_parser = commands.add_parser(
        "lab", help="open JupyterLab; its own options, such as --no-browser, are passed on"
    )
    lab_parser.set_defaults(stages=[])
    test_parser = commands.add_parser("test", help="run all stages, or those named")
    test_parser.add_argument(
        "stages", nargs="*", metavar="stage", help=f"{', '.join(STAGES)}; on request: bounds"
    )
    options, rest = parser.parse_known_args()
    # Whoever ends us means what we started, too: an exception stops it on its way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        if options.command == "lab":
            return lab(rest)
        unknown = [name for name in options.stages if name not in {**STAGES, **ON_REQUEST}]
        if unknown or rest:
            parser.error(f"unknown: {' '.join([*unknown, *rest])}; stages are {', '.join(STAGES)}")
        return test(options.stages)
    except StageError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
