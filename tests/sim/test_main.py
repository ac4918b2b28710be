"""The `alpaca-nb` command as a person uses it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from alpaca_nb.__main__ import main


def refusal(capsys, *arguments: str) -> str:
    """What the command says about bad arguments: one line on stderr, exit code 2."""
    assert main(["simulate", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert re.match(r"alpaca-nb( simulate)?: ", output.err)
    return output.err


def test_version(capsys):
    """--version prints the name and a version, and succeeds."""
    assert main(["--version"]) == 0
    assert re.fullmatch(r"alpaca-nb .+\n", capsys.readouterr().out)


def test_without_a_command_it_shows_what_there_is(capsys):
    """No arguments are no mistake."""
    assert main([]) == 0
    assert "simulate" in capsys.readouterr().out


def test_help_names_every_option(capsys):
    """`alpaca-nb simulate --help` lists the options and their defaults."""
    assert main(["simulate", "--help"]) == 0
    text = capsys.readouterr().out
    for option in (
        *("port", "seed", "rate", "speed", "symbols", "date", "minutes", "amendments"),
        *("play", "key", "plan", "connections", "symbol-limit", "rest-limit"),
    ):
        assert f"--{option}" in text
    assert "8765" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "x"], "--port"),
        (["--port", "70000"], "0 to 65535"),
        (["--seed", "-1"], "seed"),
        (["--rate", "0"], "rate"),
        (["--rate", "fast"], "--rate"),
        (["--speed", "-1"], "speed"),
        (["--speed", "nan"], "speed"),
        (["--symbols", "a b"], "not a symbol"),
        (["--symbols", ","], "No symbol"),
        (["--symbols", "*"], "no symbol"),
        (["--date", "2026-13-01"], "no date"),
        (["--date", "2026-09-20"], "Sunday"),
        (["--key", "k"], "together"),
        (["--connections", "0"], "connections"),
        (["--symbol-limit", "-3"], "symbol limit"),
        (["--rest-limit", "0"], "REST requests"),
        (["--plan", "free"], "--plan"),
        (["--minutes", "0"], "minutes"),
        (["--amendments", "2"], "from 0 to 1"),
        (["--play", "x.jsonl", "--minutes", "1"], "leave out --minutes"),
        (["--play", "/no/such/file.jsonl"], "There is no file"),
        (["--play", "x.jsonl", "--seed", "1"], "leave out --seed"),
        (["--host", "192.0.2.1"], "cannot listen"),
        (["--colour"], "--colour"),
    ],
)
def test_bad_arguments_are_one_sentence_and_code_2(capsys, arguments, reason):
    """No traceback and no wall of usage, whatever is wrong."""
    assert reason in refusal(capsys, *arguments)


def test_an_unknown_command_is_refused(capsys):
    """A mistyped command is named."""
    assert main(["simulat"]) == 2
    assert "simulat" in capsys.readouterr().err


def test_a_port_in_use_says_the_way_out(capsys):
    """The port is named, and so is another way."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "choose another port" in refusal(capsys, "--port", str(port))


def test_a_file_that_is_cut_off_says_line_and_field(capsys, tmp_path):
    """What is wrong with a recording is said before anything listens."""
    path = tmp_path / "tape.jsonl"
    path.write_text('{"T":"t","S":"A","p":"one","s":1,"t":"2026-09-21T14:13:20Z"}\n')
    text = refusal(capsys, "--play", str(path))
    assert "line 1" in text
    assert "'p'" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_ends_cleanly(number):
    """The address it prints works, and Ctrl-C or a kill ends it with code 0."""
    command = [sys.executable, "-m", "alpaca_nb", "simulate", "--port", "0"]
    command += ["--symbols", "AAPL,MSFT", "IBM", "--seed", "3", "--speed", "2"]
    command += ["--minutes", "5", "--amendments", "0.01", "--plan", "basic", "--rest-limit", "9"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        found = re.search(r"ws://127\.0\.0\.1:\d+", first)
        assert found, first
        assert "at 2x" in first
        process.stdout.readline()
        assert process.stdout.readline().strip() == f"export ALPACA_NB_STREAM_URL={found[0]}"
        for name in ("DATA", "TRADING"):
            told = process.stdout.readline().strip()
            assert told == f"export ALPACA_NB_{name}_URL={found[0].replace('ws:', 'http:')}"
        with urllib.request.urlopen(found[0].replace("ws:", "http:"), timeout=5) as response:
            assert json.load(response)["speed"] == 2
        process.send_signal(number)
        out, err = process.communicate(timeout=5)
        assert (process.returncode, out, err) == (0, "Stopped.\n", "")
    finally:
        process.kill()
        process.communicate()
