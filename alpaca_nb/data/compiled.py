"""The compiled functions, loaded behind everybody's back: there when ready, else None.

Importing numba takes half a second and compiling for the first time some seconds more, so
neither happens on the thread of a notebook. Until they are ready, or where numba is missing
or broken, everything works without them, only slower.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_log: Final = logging.getLogger("alpaca_nb.compiled")

SWITCH: Final = "ALPACA_NB_COMPILED"
"""The environment variable that, set to 0, keeps everything uncompiled."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The compiled functions; `data.kernels` says what each does."""

    scan: Callable[..., int]
    rehash: Callable[..., None]
    group_rows: Callable[
        [NDArray[Any], NDArray[np.int64]],
        tuple[NDArray[Any], NDArray[np.intp], NDArray[np.int64], NDArray[np.int64], bool],
    ]
    constants: Any
    """The module, for what it says beside its functions."""


class _Loader:
    """Loads the functions once, on a thread of its own."""

    def __init__(self) -> None:
        self.loaded: Kernels | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                # A daemon: a short script does not wait for what it no longer needs.
                self._thread = threading.Thread(
                    target=self._load, name="alpaca_nb-compile", daemon=True
                )
                self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self.loaded is not None

    def _load(self) -> None:
        try:
            self.loaded = _import_kernels()
        except Exception as error:
            # Whatever is wrong with an optional dependency, there is a way without it.
            _log.info("Going on without compiled functions: %s: %s", type(error).__name__, error)


def _import_kernels() -> Kernels:
    from alpaca_nb.data import kernels as module

    return Kernels(module.scan, module.rehash, module.group_rows, module)


_loader: Final = _Loader()


def warm_up() -> None:
    """Have the compiled functions loaded, once per process; returns at once.

    Harmless without numba. Does nothing where ALPACA_NB_COMPILED is 0.
    """
    if os.getenv(SWITCH) != "0":
        _loader.start()


def kernels() -> Kernels | None:
    """The compiled functions if they are ready, from any thread."""
    return _loader.loaded


def wait_ready(timeout_s: float) -> bool:
    """Wait until `warm_up` has done its work; whether the functions are there."""
    return _loader.wait(timeout_s)
