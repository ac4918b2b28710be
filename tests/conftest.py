"""What holds for every test: no network but loopback, and where the real data is."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

import pytest

LOOPBACK_NAMES = {"localhost", "localhost.localdomain", ""}


def is_loopback(host: str | bytes | None) -> bool:
    """Whether a host name or address means this machine, without asking a name server."""
    name = host.decode() if isinstance(host, bytes) else host or ""
    if name in LOOPBACK_NAMES:
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Any:
    """Make any attempt to leave this machine an error that names the address."""
    with pytest.MonkeyPatch.context() as patch:
        look_up, connect, connect_ex = (
            socket.getaddrinfo,
            socket.socket.connect,
            socket.socket.connect_ex,
        )

        def check(host: Any) -> None:
            if not is_loopback(host):
                raise RuntimeError(f"a test tried to reach {host!r}; tests use loopback only")

        def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
            check(host)
            return look_up(host, *args, **kwargs)

        def guarded_connect(self: socket.socket, address: Any) -> None:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(address[0])
            connect(self, address)

        def guarded_connect_ex(self: socket.socket, address: Any) -> int:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(address[0])
            return connect_ex(self, address)

        patch.setattr(socket, "getaddrinfo", guarded_look_up)
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the keys and addresses of whoever runs the tests."""
    kept = ("ALPACA_NB_REAL_DATA", "ALPACA_NB_TRANSPORT")
    for name in list(os.environ):
        if name.startswith(("APCA_", "ALPACA_")) and name not in kept:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def own_ipython(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keep IPython's history and profile out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real market data; a test that asks for it is skipped where there is none."""
    folder = os.environ.get("ALPACA_NB_REAL_DATA")
    if not folder:
        pytest.skip("ALPACA_NB_REAL_DATA is not set")
    path = Path(folder)
    assert path.is_dir(), f"ALPACA_NB_REAL_DATA names {folder}, which is no folder"
    return path
