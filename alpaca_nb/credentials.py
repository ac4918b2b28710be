"""Where API keys come from, and how they are kept out of sight."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from alpaca_nb.errors import BadInputError, CredentialsError

KEY_VARIABLES = ("APCA_API_KEY_ID", "ALPACA_API_KEY")
SECRET_VARIABLES = ("APCA_API_SECRET_KEY", "ALPACA_API_SECRET")
_KEYRING_SERVICE = "alpaca_nb"
_SHORTEST = 8
"""Characters of a key at least."""


class Secret:
    """Text that never shows: not in a repr, a format string, a pickle or a traceback's locals.

    Only `reveal` gives it out, and is called where it goes on the wire and nowhere else.
    """

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        # In a closure: debuggers and rich tracebacks print attributes, not cells.
        self._reveal: Callable[[], str] = lambda: text

    def reveal(self) -> str:
        """The text itself."""
        return self._reveal()

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __bool__(self) -> bool:
        """Whether there is any text."""
        return bool(self.reveal())

    def __reduce_ex__(self, protocol: Any = None) -> NoReturn:
        raise TypeError("A secret cannot be pickled or copied into a file.")

    __reduce__ = __getstate__ = __reduce_ex__

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: Any) -> Secret:
        return self


class SecretHeaders(Mapping[str, str]):
    """Headers of which only the names show; whoever sends them reads the values."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Secret]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name].reveal()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"SecretHeaders({', '.join(self)})"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key and its secret; both stay hidden. An OAuth token has the literal key "oauth"."""

    key: Secret
    secret: Secret

    @property
    def headers(self) -> SecretHeaders:
        """The headers that authenticate a REST request or a WebSocket handshake."""
        if self.key.reveal() in ("oauth", "access_token"):
            return SecretHeaders({"Authorization": Secret(f"Bearer {self.secret.reveal()}")})
        return SecretHeaders({"APCA-API-KEY-ID": self.key, "APCA-API-SECRET-KEY": self.secret})

    def without_keys(self, text: str) -> str:
        """A text of somebody else's, such as a server's answer, with the keys struck out."""
        for hidden in (self.key, self.secret):
            # Shorter ones are none of Alpaca's, but words that a sentence may need: "oauth".
            if len(hidden.reveal()) >= _SHORTEST:
                text = text.replace(hidden.reveal(), repr(hidden))
        return text


def hide(text: str | Secret | None) -> Secret | None:
    """Put a key out of sight: the first thing to do with one that was passed in as text.

    Under the same name, so that no local variable holds the text: tracebacks may print them.
    """
    return text if text is None or isinstance(text, Secret) else Secret(str(text).strip())


def find_credentials(
    api_key: str | Secret | None = None,
    api_secret: str | Secret | None = None,
    *,
    oauth_token: str | Secret | None = None,
) -> Credentials | None:
    """Take the credentials that were passed in, else the environment's, else the keyring's.

    Returns None when there are none anywhere. Raises CredentialsError for half a pair:
    a lone key never falls back to another source.
    """
    api_key, api_secret, oauth_token = hide(api_key), hide(api_secret), hide(oauth_token)
    if oauth_token is not None:
        if api_key is not None or api_secret is not None:
            raise BadInputError("Pass either oauth_token, or api_key and api_secret, not both.")
        if not oauth_token:
            raise BadInputError("oauth_token is empty; leave it out to use the environment's keys.")
        return Credentials(Secret("oauth"), _check("oauth_token", oauth_token))
    if api_key is not None or api_secret is not None:
        return _pair(api_key, api_secret, "the arguments api_key and api_secret")
    key, secret = _first_set(KEY_VARIABLES), _first_set(SECRET_VARIABLES)
    if key or secret:
        return _pair(key, secret, f"the variables {KEY_VARIABLES[0]} and {SECRET_VARIABLES[0]}")
    return _from_keyring()


def require_credentials(
    api_key: str | Secret | None = None,
    api_secret: str | Secret | None = None,
    *,
    oauth_token: str | Secret | None = None,
) -> Credentials:
    """The same, but raises CredentialsError when there are none."""
    api_key, api_secret, oauth_token = hide(api_key), hide(api_secret), hide(oauth_token)
    credentials = find_credentials(api_key, api_secret, oauth_token=oauth_token)
    if credentials is None:
        raise CredentialsError(
            f"No Alpaca keys were found. Set {KEY_VARIABLES[0]} and {SECRET_VARIABLES[0]}, or "
            "pass api_key and api_secret; to try without an account, use the simulator."
        )
    return credentials


def _pair(key: Secret | None, secret: Secret | None, where: str) -> Credentials:
    if not key or not secret:
        missing = "secret" if key else "key" if secret else "key and secret"
        raise CredentialsError(f"The {missing} is missing: {where} must both be set.")
    return Credentials(_check("key", key), _check("secret", secret))


def _check(name: str, secret: Secret) -> Secret:
    """Refuse what no header can hold: the HTTP library would quote it in its error."""
    if not (secret.reveal().isascii() and secret.reveal().isprintable()):
        raise BadInputError(
            f"The {name} holds a character that no key of Alpaca has, such as a line end or a "
            "letter outside ASCII; copy it again."
        )
    return secret


def _first_set(names: tuple[str, ...]) -> Secret | None:
    # Never os.environ, here and elsewhere: some tracebacks show the values of the names in a
    # line, and this one is the whole environment.
    return next((found for name in names if (found := hide(os.getenv(name)))), None)


def _from_keyring() -> Credentials | None:
    try:
        keyring: Any = importlib.import_module("keyring")
    except ImportError:
        return None
    try:
        key = hide(keyring.get_password(_KEYRING_SERVICE, "api_key"))
        secret = hide(keyring.get_password(_KEYRING_SERVICE, "api_secret"))
    except Exception:
        return None  # no usable keyring on this machine is the same as an empty one
    return _pair(key, secret, "the keyring's api_key and api_secret") if key or secret else None
