"""The simulator's options: each is checked when it is made, and refused in one sentence."""

from __future__ import annotations

import dataclasses
import errno
import math
from typing import Any

from alpaca_nb.credentials import Credentials, Secret, hide
from alpaca_nb.errors import BadInputError, SimulatorError
from alpaca_nb.sim.plans import Plan


def cannot_listen(host: str, port: int, error: OSError) -> SimulatorError:
    """Say why the port cannot be had, and the way out."""
    if error.errno == errno.EADDRINUSE:
        return SimulatorError(
            f"Port {port} on {host} is in use; stop what runs there, choose another port, or "
            "use port 0 for any that is free."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return SimulatorError(
            f"Port {port} may not be used without special rights; choose one from 1024 up, or "
            "0 for any that is free."
        )
    return SimulatorError(f"The simulator cannot listen on {host}, port {port}: {error}.")


def check_host(host: object) -> str:
    """An address to listen on."""
    if not isinstance(host, str) or not host:
        raise BadInputError(f"The host is an address such as 127.0.0.1, not {host!r}.")
    return host


def check_port(port: object) -> int:
    """A port, 0 for any that is free."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
        raise BadInputError(f"A port is a whole number from 0 to 65535, not {port!r}.")
    return port


def check_speed(speed: object) -> float:
    """How fast time goes, 0 for as fast as possible."""
    if (
        isinstance(speed, bool)
        or not isinstance(speed, int | float)
        or not math.isfinite(speed)
        or not 0 <= speed <= 10_000
    ):
        raise BadInputError(
            f"The speed is a number from 0 (as fast as possible) to 10000, not {speed!r}."
        )
    return float(speed)


def overridden(
    plan: object, connections: int | None, symbol_limit: int | None, rest_limit: int | None
) -> Plan:
    """The plan, with what is given for itself in place of what it says."""
    if not isinstance(plan, Plan):
        raise BadInputError(f"A plan is one such as Plan.basic(), not {plan!r}.")
    given = {
        "connections": connections,
        "symbol_limit": symbol_limit,
        "rest_per_minute": rest_limit,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(plan, **changes)


def check_credentials(key: str | Secret | None, secret: str | Secret | None) -> Credentials | None:
    """The only key and secret that are accepted; None for any."""
    key, secret = hide(key), hide(secret)
    if not key and not secret:
        return None
    if not key or not secret:
        raise BadInputError("Give key and secret together, or neither to accept any pair.")
    return Credentials(key, secret)
