from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, runtime_checkable

P = ParamSpec("P")
Hook: TypeAlias = "Callable[[ProtocolHooks], Awaitable[None]]"


@runtime_checkable
class ProtocolHooks(Protocol):
    """Keeps hooks."""

    on_open: Callable[[], None]

    def add(self, hook: Callable[[str, dict[str, Any]], None]) -> Callable[[], None]: ...

    def wrap(self, hook: Callable[P, int]) -> Callable[Concatenate[str, P], int]: ...
