"""Where keys come from, and that they do not show."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import pprint
import sys
import traceback
import types

import IPython.lib.pretty
import msgspec
import pytest

from alpaca_nb.credentials import (
    Credentials,
    Secret,
    find_credentials,
    hide,
    require_credentials,
)
from alpaca_nb.errors import BadInputError, CredentialsError

KEY, SECRET = "PKTESTKEY0000", "sEcReTtExT0000"


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are passed in are the ones used."""
    monkeypatch.setenv("APCA_API_KEY_ID", "other")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "other")
    found = require_credentials(KEY, SECRET)
    assert (found.key.reveal(), found.secret.reveal()) == (KEY, SECRET)
    assert found.headers == {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}


@pytest.mark.parametrize(
    ("key_name", "secret_name"),
    [("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"), ("ALPACA_API_KEY", "ALPACA_API_SECRET")],
)
def test_both_names_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, key_name: str, secret_name: str
) -> None:
    """Alpaca's own variables and the commonly used ones both work."""
    monkeypatch.setenv(key_name, KEY)
    monkeypatch.setenv(secret_name, SECRET)
    found = find_credentials()
    assert found is not None
    assert found.secret.reveal() == SECRET


def test_no_keys_anywhere() -> None:
    """None are found, or the sentence says where to put them."""
    assert find_credentials() is None
    with pytest.raises(CredentialsError, match="APCA_API_KEY_ID"):
        require_credentials()


def test_half_a_pair_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lone key is an error, whatever else the environment holds."""
    monkeypatch.setenv("APCA_API_KEY_ID", KEY)
    with pytest.raises(CredentialsError, match="secret is missing"):
        find_credentials()
    with pytest.raises(CredentialsError, match="key is missing"):
        find_credentials(None, SECRET)


def test_an_oauth_token_stands_alone() -> None:
    """A token goes into a bearer header, and not together with keys."""
    found = require_credentials(oauth_token="token0000")
    assert found.headers == {"Authorization": "Bearer token0000"}
    assert found.key.reveal() == "oauth"
    with pytest.raises(BadInputError):
        require_credentials(KEY, SECRET, oauth_token="token0000")


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_blank_keys_are_none(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """White space is no key: it counts as missing, in arguments and in the environment."""
    with pytest.raises(CredentialsError, match="secret is missing"):
        find_credentials(KEY, blank)
    with pytest.raises(BadInputError, match="oauth_token is empty"):
        find_credentials(oauth_token=blank)
    monkeypatch.setenv("APCA_API_KEY_ID", blank)
    assert find_credentials() is None


@pytest.mark.parametrize("odd", [f"{KEY}\nx", f"{KEY}é", f"{KEY}\udcff", f"{KEY}\0"])
def test_odd_keys_are_refused_early(odd: str) -> None:
    """What no header can hold is found where it is passed in."""
    for arguments in ((odd, SECRET), (KEY, odd)):
        with pytest.raises(BadInputError, match="copy it again"):
            find_credentials(*arguments)
    with pytest.raises(BadInputError, match="copy it again"):
        find_credentials(oauth_token=odd)


def test_keys_from_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed keyring is asked last; one that fails is the same as none."""
    stored = {("alpaca_nb", "api_key"): KEY, ("alpaca_nb", "api_secret"): SECRET}

    def get_password(service: str, name: str) -> str | None:
        return stored[service, name]

    monkeypatch.setitem(sys.modules, "keyring", types.SimpleNamespace(get_password=get_password))
    found = find_credentials()
    assert found == Credentials(Secret(KEY), Secret(SECRET))
    stored.clear()
    assert find_credentials() is None


def test_passed_in_keys_are_hidden_at_once() -> None:
    """`hide` wraps text, less the white space around it, and leaves a secret or nothing alone."""
    secret = hide(f" {SECRET}\n")
    assert secret == Secret(SECRET)
    assert hide(secret) is secret
    assert hide(None) is None
    assert not hide(" ")


def test_keys_in_others_words_are_struck_out() -> None:
    """A server that repeats the keys in its answer does not get them shown."""
    credentials = Credentials(Secret(KEY), Secret(SECRET))
    told = credentials.without_keys(f"{KEY} and {SECRET} do not match")
    assert told == "Secret(…) and Secret(…) do not match"
    short = Credentials(Secret("oauth"), Secret(""))
    assert short.without_keys("no oauth here") == "no oauth here"


def test_headers_show_their_names_only() -> None:
    """Headers with keys can be sent, and neither printed nor pickled."""
    headers = Credentials(Secret(KEY), Secret(SECRET)).headers
    assert repr(headers) == "SecretHeaders(APCA-API-KEY-ID, APCA-API-SECRET-KEY)"
    assert dict(headers) == {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
    assert len(headers) == 2
    assert SECRET not in f"{headers} {headers.items()} {headers.values()}"
    with pytest.raises(TypeError):
        pickle.dumps(headers)


def test_a_secret_never_shows() -> None:
    """Not in any spelling of it, nor among its attributes or in a traceback's locals."""
    secret = Secret(SECRET)
    credentials = Credentials(Secret(KEY), secret)
    shown = [
        f"{secret} {secret!r} {secret:>20} {credentials}",
        "{0} {0!s:>9} {0._reveal} {1.key}".format(secret, credentials),  # noqa: UP032
        "%s %r %r" % (secret, secret, credentials),  # noqa: UP031
        repr(vars(Secret)),
        repr([getattr(secret, name, "") for name in dir(secret)]),
        repr(dataclasses.asdict(credentials)),
        repr(dataclasses.astuple(credentials)),
        repr(copy.deepcopy(credentials)),
        pprint.pformat(credentials),
        IPython.lib.pretty.pretty({"keys": credentials}),
        json.dumps({"key": secret}, default=str),
        repr(credentials.__getstate__()),
    ]
    try:
        raise ValueError(secret)
    except ValueError as error:
        shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    with pytest.raises(TypeError):
        vars(secret)
    assert SECRET not in "\n".join(shown)
    assert KEY not in "\n".join(shown)


def test_a_secret_does_not_leave_the_process() -> None:
    """No serializer gets it: they raise. Copies within the process keep it hidden."""
    secret = Secret(SECRET)
    credentials = Credentials(Secret(KEY), secret)
    for write in (pickle.dumps, json.dumps, msgspec.json.encode, msgspec.msgpack.encode):
        for hidden in (secret, credentials):
            with pytest.raises(TypeError):
                write(hidden)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secret, protocol)
    for state in (secret.__getstate__, secret.__reduce__):
        with pytest.raises(TypeError):
            state()
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) == secret
    assert copy.copy(credentials) == credentials
    assert hash(secret) == hash(Secret(SECRET))
