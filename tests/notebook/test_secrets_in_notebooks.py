"""Two notebooks, one in which everything fails and one in which all goes well: no key is left.

Searched are the outputs, the saved notebook with its widgets, the log on its lowest level, what
the kernel wrote to the terminal, IPython's history, and whatever else lies in the folders.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from alpaca_nb.sim.faults import Cut, HtmlRest, RefuseHandshake, RefuseRest
from alpaca_nb.sim.plans import Plan
from alpaca_nb.sim.server import LocalSimulator

KEY = "PKT7Q2M5X9C4V1B8N3ZL"
SECRET = "t9XwR4kLmQ8vZs2NhYb6JpDc1FgUaE7oTi3KxWqB"
TOKEN = "6f1c9d1e-3b7a-4c55-9a0e-d2b84f7713ac"
FRAGMENT = 10
"""So much of a key is already too much."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the environment stands between a kernel and this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def execute(sources: list[str], folder: Path, **variables: str) -> dict[str, str]:
    """Run cells in a kernel of their own and save the notebook; returns all text there is.

    It is the text by where it is from.
    """
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source.strip()) for source in sources]
    )
    settings = {
        "APCA_API_KEY_ID": KEY,
        "APCA_API_SECRET_KEY": SECRET,
        "TOKEN": TOKEN,
        "IPYTHONDIR": str(folder / "ipython"),
    }
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        allow_errors=True,
        store_widget_state=True,
        ipython_hist_file=str(folder / "history.sqlite"),
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=os.environ | settings | variables)
    nbformat.write(notebook, folder / "saved.ipynb")
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {path.name: path.read_bytes().decode("latin-1") for path in files}
    found["buffers"] = "\n".join(buffers(notebook))
    found["outputs"] = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(outputs(notebook)))
    return found


def outputs(notebook: Any) -> Iterator[str]:
    """All that stands below the cells."""
    for cell in notebook.cells:
        for output in cell.outputs:
            yield output.get("text", "")
            yield "\n".join(output.get("traceback", []))
            yield "\n".join(map(str, output.get("data", {}).values()))


def buffers(notebook: Any) -> Iterator[str]:
    """The saved widgets' binary values, which base64 would hide from a search."""
    saved = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert saved
    for model in saved.values():
        for buffer in model.get("buffers", []):
            yield base64.b64decode(buffer["data"]).decode("latin-1")


def spellings(key: str) -> Iterator[str]:
    """Pieces of a key, plain and as they would stand in base64."""
    for start in range(0, len(key) - FRAGMENT + 1, FRAGMENT // 2):
        yield key[start : start + FRAGMENT]
    for offset in range(3):
        yield base64.b64encode(b" " * offset + key.encode()).decode()[4:-4]


def assert_no_key(found: dict[str, str]) -> None:
    """No key is in any of the texts."""
    pieces = [piece for key in (KEY, SECRET, TOKEN) for piece in spellings(key)]
    leaks = [
        (where, text[max(0, text.find(piece) - 200) :][:400])
        for where, text in found.items()
        for piece in pieces
        if piece in text
    ]
    assert leaks == []


def refused(key: str) -> str:
    """The answer of a server that repeats what it was sent."""
    return json.dumps({"message": f"forbidden: {key}"})


PREPARE = """
import copy, json, logging, os, pickle, traceback

logging.basicConfig(filename="debug.log", level=logging.DEBUG, force=True)
import alpaca_nb as anb
import alpaca_nb.feed.rest, alpaca_nb.notebook.magics, alpaca_nb.sim.server

for name in list(logging.root.manager.loggerDict):
    logging.getLogger(name).setLevel(logging.DEBUG)


def keys():
    return {
        "api_key": os.environ["APCA_API_KEY_ID"],
        "api_secret": os.environ["APCA_API_SECRET_KEY"],
    }


def token():
    return {"oauth_token": os.environ["TOKEN"]}


def tell(error):
    "An error as a careful program logs it: the chain, with the variables of every frame."
    while error is not None:
        frames = traceback.TracebackException(
            type(error), error, error.__traceback__, capture_locals=True
        )
        print(*frames.format(), repr(error), error.args, vars(error))
        logging.getLogger("mine").debug("it failed", exc_info=error)
        error = error.__cause__ or error.__context__


def look(thing, name):
    try:
        return getattr(thing, name)
    except Exception as error:
        return error


def dump(thing):
    return json.dumps(thing, default=vars)


def tell_all(*things):
    "Everything that shows of objects, and how they take to being saved."
    for thing in things:
        print(repr(thing), str(thing), f"{thing}")
        print({name: repr(value) for name, value in getattr(thing, "__dict__", {}).items()})
        print({name: repr(look(thing, name)) for name in dir(thing)})
        for save in (pickle.dumps, json.dumps, copy.copy, dump):
            try:
                print(repr(save(thing)))
            except Exception as error:
                tell(error)
"""

LOOK_AT_ALL = """
tell_all(*(getattr(anb, name) for name in anb.__all__))
tell_all(anb.session, anb.session.status(), *anb.session.frames.values())
"""


def fails(url: str, **options: str) -> list[str]:
    """Cells that connect to a feed at an address, in every way to authenticate; all fail."""
    told = "".join(f", {name}={value}" for name, value in options.items())
    ways = ["", ", header_auth=True", ', codec="json"']
    cells = [
        f"anb.StreamClient(url={url!r}{told}{way}, **{given}()).connect()"
        for given in ("keys", "token")
        for way in ways
    ]
    return [*cells, f"await anb.AsyncStreamClient(url={url!r}{told}, **keys()).connect()"]


@pytest.fixture
def places() -> Iterator[dict[str, str]]:
    """Addresses where a client fails, each in its own way."""
    with ExitStack() as stack:

        def run(**options: Any) -> LocalSimulator:
            return stack.enter_context(LocalSimulator(speed=20, **options))

        with LocalSimulator() as gone:
            nobody = gone.url
        shut = run()
        shut.faults.add(RefuseHandshake(403), at="handshake", times=50)
        sick = run()
        for fault in (HtmlRest(), RefuseRest(403, refused(KEY)), RefuseRest(401, refused(SECRET))):
            sick.faults.add(fault, at="rest")
        yield {
            "other": run(key="other", secret="other").url,
            "poor": run(plan=Plan.basic()).url,
            "nobody": nobody,
            "shut": shut.url,
            "sick": sick.rest_url,
        }


def test_a_notebook_in_which_all_fails(
    places: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Refused keys, a small plan, nobody there, broken REST, bad input: in every traceback mode."""
    attempts = [
        *fails(f"{places['other']}/v2/iex"),
        *fails(f"{places['poor']}/v2/sip", feed='"sip"'),
        *fails(f"{places['nobody']}/v2/iex"),
        *fails(f"{places['shut']}/v2/iex"),
    ]
    ask = 'anb.PyAlpacaAPI().stock.latest_quote.get("AAPL")'
    unmade = [
        "anb.PyAlpacaAPI(**keys() | token())",
        "anb.StreamClient(**keys(), handler_limit=-1)",
        "anb.StreamClient('nasdaq', **token())",
        "anb.AsyncStreamClient(**keys(), codec='xml')",
        "anb.LocalSimulator(key=keys()['api_key'], secret=keys()['api_secret'], speed=-1)",
    ]
    cells = [
        PREPARE,
        "%load_ext alpaca_nb",
        *attempts,
        "%tb",
        f"""
client = anb.StreamClient(url="{places["other"]}/v2/iex", **keys())
frame = client.frame("quotes", "AAPL")
display(frame, frame.table(), frame.chart())
client.connect()
""",
        "tell_all(client, frame, frame.table().get_state(), frame.chart().get_state())",
        *["%alpaca_connect", "%alpaca_subscribe quotes AAPL", "%alpaca_status"],
        *["%alpaca_connect sip", "%alpaca_connect iex --url http://x", "%alpaca_chart quotes"],
        *[ask] * 4,
        *unmade,
        "%xmode Verbose",
        *unmade,
        # Without a variable of the user's that holds a key: this mode prints those, too.
        *[each for each in attempts if "header_auth" not in each and "codec" not in each],
        "%tb",
        *[f"anb.StreamClient(url='{places[each]}/v2/iex', header_auth=True).connect()"
          for each in ("other", "nobody", "shut")],
        "%tb",
        *["%alpaca_connect", "%alpaca_status", ask],
        "os.environ['ALPACA_NB_DATA_URL'] = os.environ['ALPACA_NB_STREAM_URL'] = 'ftp://x'",
        *[ask, "anb.StreamClient()", "%alpaca_connect otc"],
        "%xmode Context",
        f"""
for make in (anb.StreamClient, lambda **keys: anb.StreamClient(header_auth=True, **keys)):
    for given in (keys, token):
        for url in {[places["other"], places["nobody"], places["shut"]]}:
            client = make(url=url + "/v2/iex", **given())
            try:
                client.connect()
            except anb.AlpacaError as error:
                tell(error)
            tell_all(client, client.status, client.errors, client.log)
""",
        LOOK_AT_ALL,
    ]  # fmt: skip
    found = execute(
        cells,
        tmp_path,
        ALPACA_NB_STREAM_URL=places["other"],
        ALPACA_NB_DATA_URL=places["sick"],
    )
    found["terminal"] = "".join(capfd.readouterr())
    for what in (
        *("AuthenticationError", "402", "PlanError", "409", "Nobody answers", "HTTP 403"),
        *("no latest quotes", "Secret(…)", "CredentialsError", "BadInputError", "handler_limit"),
        *("ALPACA_NB_DATA_URL", "StreamClient(iex, failed)", "cannot be pickled"),
    ):
        assert what in found["outputs"], f"the notebook does not show {what}"
    assert "HTTP Request" in found["debug.log"]
    assert "it failed" in found["debug.log"]
    assert "history.sqlite" in found
    assert_no_key(found)


def test_a_notebook_in_which_all_goes_well(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Tables, a chart, handlers that print and fail, a loss that is repaired, a token."""
    with (
        LocalSimulator(speed=20, key=KEY, secret=SECRET) as simulator,
        LocalSimulator(speed=20, key="anything", secret=TOKEN) as other,
    ):
        simulator.faults.add(Cut(), at="data", after=300)
        cells = [
            PREPARE,
            "%load_ext alpaca_nb",
            "%alpaca_connect",
            "%alpaca_subscribe quotes AAPL MSFT",
            "quotes.wait(10, 60)",
            "%alpaca_chart quotes AAPL",
            """
import time

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)

stream = anb.session.connect()
stream.reconnect_delay = 0.05

def careless(quote):
    print("handled", quote, stream)
    raise ValueError(f"{quote} of {stream}")

stream.subscribe_quotes("AAPL", careless)
until(lambda: "ValueError" in str(stream.errors))
stream.unsubscribe_quotes("AAPL")
api = anb.PyAlpacaAPI(**keys())
print(api, api.stock, api.stock.latest_quote.get("AAPL"))
""",
            "until(lambda: stream.status.gaps.repaired and not stream.repairing)",
            "display(quotes.gaps, stream.gaps, quotes.df.tail(), quotes)",
            "print(stream.errors, *stream.log.lines, stream.status, sep='\\n')",
            f"""
for options in ({{}}, {{"header_auth": True}}, {{"codec": "json", "header_auth": True}}):
    with anb.StreamClient(url="{other.url}/v2/iex", **token(), **options) as client:
        frame = client.frame("trades", "AAPL")
        frame.wait(5, 60)
        display(frame.table(), frame.chart())
        tell_all(client, client.status, frame)
""",
            f"""
async with anb.AsyncStreamClient(url="{other.url}/v2/iex", **token()) as client:
    async for batch in client.batches("trades", "AAPL"):
        print(batch)
        break
tell_all(client)
""",
            "%alpaca_status",
            "tell_all(stream, stream.errors, stream.log, api, api.stock, quotes, quotes.table())",
            "tell_all(quotes.table().get_state(), quotes.chart().get_state())",
            LOOK_AT_ALL,
            "%alpaca_disconnect",
            "%alpaca_status",
        ]
        found = execute(
            cells,
            tmp_path,
            ALPACA_NB_STREAM_URL=simulator.url,
            ALPACA_NB_DATA_URL=simulator.rest_url,
        )
    found["terminal"] = "".join(capfd.readouterr())
    for what in (
        *("iex (SIMULATED) live", "ValueError", "raised ValueError", "handled", "were filled in"),
        *("LiveTable", "LiveChart", "repaired", "PyAlpacaAPI(paper)", "iex (SIMULATED) stopped"),
    ):
        assert what in found["outputs"], f"the notebook does not show {what}"
    assert "anb.PyAlpacaAPI(**keys())" in found["saved.ipynb"]
    assert "AAPL" in found["buffers"] + found["saved.ipynb"]
    assert found["buffers"]
    assert "send_request_headers" in found["debug.log"]
    assert "history.sqlite" in found
    assert_no_key(found)
