"""The tests themselves stay on this machine."""

from __future__ import annotations

import os
import socket

import pytest


def test_nothing_leaves_this_machine() -> None:
    """A connection or a look-up beyond loopback fails at once, and says which."""
    with pytest.raises(RuntimeError, match=r"192\.0\.2\.1"), socket.socket() as outward:
        outward.connect(("192.0.2.1", 443))
    with pytest.raises(RuntimeError, match=r"stream\.example"):
        socket.getaddrinfo("stream.example", 443)


def test_no_keys_are_seen() -> None:
    """Keys of whoever runs the tests are out of sight."""
    assert [name for name in os.environ if name.startswith("APCA_")] == []
