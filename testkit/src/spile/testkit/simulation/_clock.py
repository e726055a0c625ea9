"""Virtual time where code asks the machine for it: `time`, `datetime.now`, `random`."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime, tzinfo
from typing import Any

from typing_extensions import override

from spile.testkit.simulation._loop import START_S

_EPOCH_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class VirtualClock:
    """
    The wall clock of a simulation: begins at 2026-01-01T00:00:00Z.

    Args:
        seconds: Virtual seconds of the loop.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    def time(self) -> float:
        """Return seconds since 1970, as `time.time`."""
        return _EPOCH_S + self._seconds() - START_S

    def time_ms(self) -> int:
        """Return milliseconds since 1970, as records are stamped."""
        return round(self.time() * 1000)

    def now(self) -> datetime:
        """Return the time, aware."""
        return datetime.fromtimestamp(self.time(), UTC)

    @contextlib.contextmanager
    def in_place(self, seed: int) -> Generator[None]:
        """
        Let `time` and `random` of this thread, and `datetime` in modules of spile, follow it.

        What was bound before by `from time import ...` or as a default argument keeps the real
        time: give such code a clock.
        """
        state = random.getstate()
        random.seed(seed)
        with contextlib.ExitStack() as undo:
            undo.callback(random.setstate, state)
            for name, call in self._functions().items():
                undo.callback(setattr, time, name, getattr(time, name))
                setattr(time, name, _of_this_thread(call, getattr(time, name)))
            stand_in = self._datetime()
            for module in list(sys.modules.values()):
                name = getattr(module, "__name__", "")
                mine = name.startswith("spile.") and not name.startswith(__package__ or "")
                if mine and getattr(module, "datetime", None) is datetime:
                    undo.callback(setattr, module, "datetime", datetime)
                    module.datetime = stand_in  # pyright: ignore[reportAttributeAccessIssue]
            yield

    def _functions(self) -> dict[str, Callable[[], float | int]]:
        seconds = self._seconds
        return {
            "time": self.time,
            "time_ns": lambda: self.time_ms() * 1_000_000,
            "monotonic": seconds,
            "monotonic_ns": lambda: round(seconds() * 1e9),
            "perf_counter": seconds,
        }

    def _datetime(self) -> type[datetime]:
        clock = self

        class _Meta(type):
            def __instancecheck__(cls, instance: object) -> bool:
                return isinstance(instance, datetime)

        class VirtualDatetime(datetime, metaclass=_Meta):
            @classmethod
            @override
            def now(cls, tz: tzinfo | None = None) -> Any:
                return datetime.fromtimestamp(clock.time(), tz)

        return VirtualDatetime


def _of_this_thread(
    virtual: Callable[[], float | int], real: Callable[[], float | int]
) -> Callable[[], float | int]:
    """Return a clock that is virtual here and real in other threads, such as a test's broker's."""
    mine = threading.get_ident()
    return lambda: virtual() if threading.get_ident() == mine else real()
