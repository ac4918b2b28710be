"""Where keys come from, and that they do not show."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from alpaca_nb.credentials import Credentials, Secret, find_credentials, require_credentials
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


def test_a_secret_never_shows() -> None:
    """Not in repr, str, format, attributes or a traceback that prints locals."""
    secret = Secret(SECRET)
    credentials = Credentials(Secret(KEY), secret)
    shown = f"{secret} {secret!r} {secret:>20} {credentials} {vars(Secret)} %s" % secret
    shown += repr([getattr(secret, name, "") for name in dir(secret) if name != "reveal"])
    try:
        raise ValueError(secret)
    except ValueError as error:
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        shown += "".join(lines)
    assert SECRET not in shown
    assert KEY not in shown


def test_a_secret_does_not_leave_by_pickle() -> None:
    """Pickling is refused; copying within the process keeps it hidden."""
    secret = Secret(SECRET)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) == secret
    assert secret == Secret(SECRET)
    assert hash(secret) == hash(Secret(SECRET))
